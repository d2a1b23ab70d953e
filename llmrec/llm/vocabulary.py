"""Where every kind of token lives in the expanded vocabulary, and how a history becomes tokens.

::

    [ base tokens | time tokens | item tokens, level by level, spare ones included ]
      0 ..          time_offset   item_offset

A history is ``prefix tokens, then per event: time tokens, item tokens``. The token
after a history's last event (and the time tokens of the request) is the first token
of the recommended item, so every prefix of a history is a training example and is,
token for token, what serving sends.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmrec.errors import ConfigError
from llmrec.recommender import check_known
from llmrec.types import Histories

if TYPE_CHECKING:
    from llmrec.item_ids.item_ids import ItemIds

GAP_BUCKETS = 16
# name -> number of values; value 0 always means "unknown"
TIME_FIELDS = {"gap": GAP_BUCKETS + 1, "hour": 25, "weekday": 8, "month": 13}


@dataclass(frozen=True)
class Vocabulary:
    """Layout of the expanded vocabulary.

    Attributes:
        base_size: tokens of the base model's own tokenizer.
        time_fields: the time fields in use, in prompt order.
        level_sizes: codes per item-ID level, spare ones included.
        used_sizes: codes per level that items can have today; only these are ever generated.
    """

    base_size: int
    time_fields: tuple[str, ...]
    level_sizes: tuple[int, ...]
    used_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in self.time_fields:
            if name not in TIME_FIELDS:
                raise ConfigError(
                    f"time_tokens: unknown field {name!r}; known: {', '.join(TIME_FIELDS)}"
                )

    @classmethod
    def of(cls, base_size: int, time_fields: Sequence[str], ids: ItemIds) -> Vocabulary:
        """The layout for a base tokenizer of ``base_size`` tokens and these item IDs."""
        used = list(ids.level_sizes)
        if ids.has_item_tokens:
            used[-1] = ids.n_items
        return cls(base_size, tuple(time_fields), tuple(ids.level_sizes), tuple(used))

    @property
    def time_offset(self) -> int:
        return self.base_size

    @property
    def item_offset(self) -> int:
        return self.base_size + sum(TIME_FIELDS[f] for f in self.time_fields)

    @property
    def own_offset(self) -> int:
        """Where the tokens of the last level begin: those of items that have one of their own."""
        return self.item_offset + sum(self.level_sizes[:-1])

    @property
    def n_item_tokens(self) -> int:
        """Item tokens, spare ones included."""
        return sum(self.level_sizes)

    @property
    def size(self) -> int:
        return self.item_offset + self.n_item_tokens

    def level_range(self, level: int) -> tuple[int, int]:
        """First and past-the-last used *item token* (from ``item_offset``) of a level."""
        start = sum(self.level_sizes[:level])
        return start, start + self.used_sizes[level]

    def level_tokens(self, level: int) -> slice:
        """Token ids of the codes of a level that items can have; the first is that of code 0."""
        start, end = self.level_range(level)
        return slice(self.item_offset + start, self.item_offset + end)

    def time_token_strings(self) -> list[str]:
        """Names of the time tokens, in vocabulary order."""
        return [f"<{f}_{v}>" for f in self.time_fields for v in range(TIME_FIELDS[f])]

    def time_tokens(self, times: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Time tokens of some timestamps.

        Args:
            times: float64 ``[n]`` seconds since 1970 UTC, NaN where unknown.
            previous: float64 ``[n]``, time of the event before each one, NaN at the start.

        Returns:
            int64 ``[n, len(time_fields)]`` ids in the expanded vocabulary.
        """
        columns, offset = [], self.time_offset
        for name in self.time_fields:
            columns.append(offset + time_values(name, times, previous))
            offset += TIME_FIELDS[name]
        return np.stack(columns, axis=1) if columns else np.zeros((len(times), 0), np.int64)


def time_values(name: str, times: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """One time field as small integers, 0 where unknown.

    ``gap`` buckets are powers of two of minutes: 1 is under two, 16 is over three weeks.

    >>> friday = np.array([1577977200.0 + 86400])  # 2020-01-03 15:00 UTC
    >>> [int(time_values(f, friday, friday - 120)[0]) for f in ("gap", "hour", "weekday", "month")]
    [2, 16, 5, 1]
    """
    known = ~np.isnan(times)
    seconds = np.where(known, times, 0.0)
    if name == "gap":
        gap = np.where(np.isnan(previous), np.nan, seconds - previous)
        known = known & ~np.isnan(gap)
        minutes = np.maximum(np.where(known, gap, 0.0), 0.0) / 60
        value = np.clip(np.floor(np.log2(np.maximum(minutes, 1.0))) + 1, 1, GAP_BUCKETS)
    elif name == "hour":
        value = (seconds // 3600) % 24 + 1
    elif name == "weekday":
        value = (seconds // 86400 + 3) % 7 + 1  # 1970-01-01 was a Thursday; Monday is 1
    else:
        months = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
        value = months % 12 + 1
    return np.where(known, value, 0).astype(np.int64)


class HistoryEncoder:
    """Turns histories into token ids; training, evaluation and serving all call this one."""

    def __init__(
        self, vocabulary: Vocabulary, ids: ItemIds, prefix: list[int], max_items: int
    ) -> None:
        """
        Args:
            vocabulary: the layout.
            ids: the item IDs; their tokens are counted from ``vocabulary.item_offset``.
            prefix: token ids in front of every history (start token and instruction).
            max_items: only the newest so many events of a history are encoded.

        Raises:
            ConfigError: if item IDs differ in length.
        """
        if ids.n_items and ids.codes.min() < 0:
            raise ConfigError("item_ids: histories need item IDs of equal length")
        self.vocabulary = vocabulary
        self.prefix = np.asarray(prefix, dtype=np.int64)
        self.max_items = max_items
        levels = np.arange(ids.n_items)
        self.item_tokens = np.asarray(ids.tokens(levels)) + vocabulary.item_offset
        self.levels = self.item_tokens.shape[1]

    @property
    def event_width(self) -> int:
        """Tokens an event takes."""
        return len(self.vocabulary.time_fields) + self.levels

    def max_tokens(self) -> int:
        """Longest possible prompt plus a whole item ID."""
        return len(self.prefix) + (self.max_items + 1) * self.event_width

    def limited(self, max_tokens: int) -> HistoryEncoder:
        """The same encoder with fewer events if its longest prompt and answer do not fit.

        Raises:
            ConfigError: if not even one event fits.
        """
        fitting = (max_tokens - len(self.prefix)) // self.event_width - 1
        if fitting >= self.max_items:
            return self
        if fitting < 1:
            raise ConfigError(
                f"base: a context of {max_tokens} tokens cannot hold one event of a history and "
                f"its answer, {self.event_width} tokens each"
            )
        shorter = copy.copy(self)
        shorter.max_items = fitting
        return shorter

    def prompt_tokens(self, events: int) -> int:
        """Tokens of the prompt of a history of so many events."""
        own = min(events, self.max_items) * self.event_width
        return len(self.prefix) + own + len(self.vocabulary.time_fields)

    def encode_all(self, histories: Histories) -> list[np.ndarray]:
        """The prompt of every history: int64 ``[tokens]`` each.

        Where ``timestamps`` or ``now`` are not given, their tokens say unknown.

        Raises:
            CatalogError: for an item index outside the catalogue.
        """
        starts, ends = histories.offsets[:-1], histories.offsets[1:]
        events = self._event_tokens(histories)
        requests = np.zeros((len(histories), 0), dtype=np.int64)
        if self.vocabulary.time_fields:
            now = np.full(len(histories), np.nan) if histories.now is None else histories.now
            times = np.append(_times(histories), np.nan)  # the index -1 of an empty history
            last = np.where(ends > starts, times[ends - 1], np.nan)
            requests = self.vocabulary.time_tokens(now, last)
        newest = np.maximum(starts, ends - self.max_items)
        return [
            np.concatenate([self.prefix, events[start:end].ravel(), request])
            for start, end, request in zip(newest, ends, requests, strict=True)
        ]

    def encode(
        self, items: np.ndarray, times: np.ndarray | None = None, now: float | None = None
    ) -> np.ndarray:
        """The prompt of one history, as :meth:`encode_all` makes it.

        Args:
            items: item indices, oldest first.
            times: seconds since 1970 UTC of each event, or None.
            now: time of the request, or None when unknown.
        """
        request = None if now is None else np.array([now])
        return self.encode_all(_one(items, times, request))[0]

    def events(self, items: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        """int64 ``[events, event_width]`` of the newest ``max_items`` events of a history."""
        return self._event_tokens(_one(items, times))[-self.max_items :]

    def _event_tokens(self, histories: Histories) -> np.ndarray:
        """int64 ``[total, event_width]`` of all events of all histories."""
        check_known(histories, len(self.item_tokens))
        tokens = self.item_tokens[histories.items]
        if not self.vocabulary.time_fields:
            return tokens
        times, starts = _times(histories), histories.offsets[:-1]
        previous = np.concatenate([[np.nan], times])[:-1]
        previous[starts[histories.lengths() > 0]] = np.nan
        return np.concatenate([self.vocabulary.time_tokens(times, previous), tokens], axis=1)


def _one(items: np.ndarray, times: np.ndarray | None, now: np.ndarray | None = None) -> Histories:
    return Histories(items, np.array([0, len(items)]), times, now)


def _times(histories: Histories) -> np.ndarray:
    """float64 ``[total]``, NaN where unknown."""
    times = histories.timestamps
    return np.full(len(histories.items), np.nan) if times is None else times
