"""The whole event log as arrays, and what was known of a person before a moment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.types import EVENT_TYPES, Histories

KIND = {name: code for code, name in enumerate(EVENT_TYPES)}


@dataclass(frozen=True, eq=False)
class Log:
    """Events sorted by user, then time.

    Attributes:
        user, item: int32 ``[events]``.
        kind: int8 ``[events]``, position in ``EVENT_TYPES``.
        time: float64 ``[events]``, seconds since 1970 UTC.
        rating: float32 ``[events]``, NaN where there is none.
        user_ids: by user index.
    """

    user: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    time: np.ndarray
    rating: np.ndarray
    user_ids: list[str]

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def user_index(self) -> dict[str, int]:
        """User index by the shop's identifier."""
        return {name: row for row, name in enumerate(self.user_ids)}

    def ends(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Where each user's events of before a moment end: int64 ``[moments]``, a row of the log.

        Args:
            users: int ``[moments]``, -1 for nobody.
            times: float64 ``[moments]``; an event at that very time is not before it.
        """
        is_event = np.concatenate([np.zeros(len(users), np.int8), np.ones(len(self), np.int8)])
        user = np.concatenate([users, self.user])
        order = np.lexsort((is_event, np.concatenate([times, self.time]), user))
        before = np.cumsum(is_event[order])
        found = np.empty(len(order), dtype=np.int64)
        found[order] = before
        return found[: len(users)]

    def starts(self, users: np.ndarray) -> np.ndarray:
        """Where each user's events begin: int64 ``[moments]``."""
        return np.searchsorted(self.user, users)

    def positives(
        self,
        users: np.ndarray,
        times: np.ndarray,
        kinds: tuple[str, ...],
        min_rating: float | None,
        most: int,
    ) -> Histories:
        """What people chose before a moment, oldest first, the newest ``most`` of it.

        Args:
            users: int ``[moments]``, -1 for nobody.
            times: float64 ``[moments]``.
            kinds: event types that are a choice.
            min_rating: an event with a lower rating is none.
        """
        chosen = is_positive(self.kind, self.rating, kinds, min_rating)
        before = np.concatenate([[0], np.cumsum(chosen)])
        ends = before[self.ends(users, times)]
        starts = np.maximum(before[self.starts(users)], ends - most)
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        rows = np.flatnonzero(chosen)[rows]
        return Histories(self.item[rows], offsets, self.time[rows], times.astype(np.float64))


def is_positive(
    kind: np.ndarray, rating: np.ndarray, kinds: tuple[str, ...], min_rating: float | None
) -> np.ndarray:
    """bool ``[events]``: of these types, and not rated lower."""
    chosen = np.isin(kind, [KIND[name] for name in kinds])
    if min_rating is not None:
        chosen &= ~(rating < min_rating)
    return chosen


def open_log(dataset: Dataset) -> Log:
    """The events of a dataset folder.

    Raises:
        DataError: if it has no times.
    """
    table = dataset.events.select(["user", "item", "type", "timestamp", "rating"])
    time = table["timestamp"].to_numpy(zero_copy_only=False).astype(np.float64)
    if len(time) and np.isnan(time).any():
        raise DataError(
            f"{dataset.folder}: its events have no times, and click probabilities are learned "
            "from what came before what; say at ingest which column holds the time"
        )
    rating = table["rating"].to_numpy(zero_copy_only=False).astype(np.float32)
    types = table["type"].to_pylist()
    return Log(
        user=table["user"].to_numpy().astype(np.int32),
        item=table["item"].to_numpy().astype(np.int32),
        kind=np.array([KIND[name] for name in types], dtype=np.int8),
        time=time,
        rating=rating,
        user_ids=dataset.user_ids,
    )


def read_context(text: str | None) -> dict[str, str]:
    """A context as ingest wrote it: JSON text, or nothing."""
    if not text:
        return {}
    return {str(name): str(value) for name, value in json.loads(text).items() if value is not None}


def sums_before(
    keys: np.ndarray,
    times: np.ndarray,
    values: np.ndarray,
    asked_keys: np.ndarray,
    asked_times: np.ndarray,
) -> np.ndarray:
    """Sums of what happened to a key strictly before a time.

    Args:
        keys: int ``[events]``.
        times: float64 ``[events]``.
        values: float64 ``[events, columns]``.
        asked_keys: int ``[asked]``.
        asked_times: float64 ``[asked]``.

    Returns:
        float64 ``[asked, columns]``.

    >>> sums_before(np.array([7, 7, 8]), np.array([1.0, 5.0, 2.0]), np.array([[1.0], [1.0], [1.0]]),
    ...     np.array([7, 7, 8]), np.array([5.0, 6.0, 2.0])).ravel().tolist()
    [1.0, 2.0, 0.0]
    """
    n_asked = len(asked_keys)
    is_event = np.concatenate([np.zeros(n_asked, np.int8), np.ones(len(keys), np.int8)])
    key = np.concatenate([asked_keys, keys])
    order = np.lexsort((is_event, np.concatenate([asked_times, times]), key))
    found = np.empty((n_asked, values.shape[1]))
    asked_at = np.flatnonzero(order < n_asked)
    rows = order[asked_at]
    starts = np.searchsorted(key[order], asked_keys[rows])
    for column in range(values.shape[1]):
        spread = np.concatenate([np.zeros(n_asked), values[:, column]])[order]
        total = np.concatenate([[0.0], np.cumsum(spread)])
        found[rows, column] = total[asked_at] - total[starts]
    return found
