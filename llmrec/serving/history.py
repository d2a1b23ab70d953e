"""What is asked of the cascade: from the shop's own words to arrays, every field checked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.errors import ConfigError
from llmrec.ranking.ctr.log import KIND, is_positive
from llmrec.ranking.ctr.moments import ContextIds, Moments, moment_of_events
from llmrec.ranking.ctr.settings import Past
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.item_table import ItemTable
from llmrec.serving.request import check_times
from llmrec.types import EVENT_TYPES, Event, Histories

History = Sequence[str | Event | Mapping[str, Any]]
HistoriesOf = Mapping[str, History] | Callable[[str], History | None]

_FIELDS = ("item_id", "type", "timestamp", "rating")
_CHOICES = 50  # newest ones that sources read, as in training
_MOST = 1e300  # no number is larger


@dataclass(frozen=True, eq=False)
class Happened:
    """What is known of a person, oldest first.

    Attributes:
        items: int64 ``[events]``, item indices; kinds: int8, positions in ``EVENT_TYPES``.
        times: float64 ``[events]``, seconds since 1970 UTC; ratings: float32; NaN unknown.
    """

    items: np.ndarray
    kinds: np.ndarray
    times: np.ndarray
    ratings: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> Happened:
        """Some of the events."""
        return Happened(*(values[rows] for values in vars(self).values()))

    def choices(self, past: Past, now: float) -> Histories:
        """What of it was a choice, as the sources of candidates read it."""
        chosen = is_positive(self.kinds, self.ratings, past.types, past.min_rating)
        rows = np.flatnonzero(chosen)[-_CHOICES:]
        times = self.times[rows]
        return Histories(
            self.items[rows].astype(np.int32),
            np.array([0, len(rows)], dtype=np.int64),
            None if np.isnan(times).all() else times,
            np.array([now]),
        )

    def moment(self, past: Past, now: float, context: np.ndarray) -> Moments:
        """The same as the head reads it; context int32 ``[names]``."""
        return moment_of_events(
            self.items.tolist(), self.kinds.tolist(), self.times.tolist(), self.ratings.tolist(),
            now, context, past.events,
        )  # fmt: skip


def read_history(history: History, items: ItemTable, past: Past) -> Happened:
    """A history as a request gives it: item ids, or events.

    Args:
        history: oldest first; plain ids count as the first of ``past.types``. Where all times are
            known, they decide the order.

    Raises:
        CatalogError: for an item id that is not in the catalogue.
        ConfigError: naming the event and field that is wrong.
    """
    if isinstance(history, str):
        raise ConfigError(f"history: expected a list of item ids or events, got {history!r}")
    events = [_event(row, one, past.types[0]) for row, one in enumerate(history)]
    found = Happened(
        items.rows("history", [event[0] for event in events]),
        np.array([KIND[event[1]] for event in events], dtype=np.int8),
        np.array([event[2] for event in events], dtype=np.float64),
        np.array([event[3] for event in events], dtype=np.float32),
    )
    if np.isnan(found.times).any():
        return found
    return found.take(np.argsort(found.times, kind="stable"))


def _event(row: int, given: object, usual: str) -> tuple[str, str, float, float]:
    """Item id, type, time and rating of one event; NaN where not known."""
    if isinstance(given, str):
        return given, usual, math.nan, math.nan
    if isinstance(given, Event):
        given = {name: getattr(given, name) for name in _FIELDS}
    where = f"history[{row}]"
    if not isinstance(given, Mapping) or not isinstance(given.get("item_id"), str):
        raise ConfigError(f"{where}: {given!r} is neither an item id nor an event with an item_id")
    unknown = [name for name in given if name not in (*_FIELDS, "user_id")]
    if unknown:
        raise ConfigError(f"{where}: has no field {unknown[0]!r}; there is {', '.join(_FIELDS)}")
    kind = given.get("type") or usual
    if kind not in EVENT_TYPES:
        raise ConfigError(f"{where}.type: {kind!r} is not one of {', '.join(EVENT_TYPES)}")
    moment = _number(given.get("timestamp"), f"{where}.timestamp")
    check_times(f"{where}.timestamp", (moment,))
    return given["item_id"], kind, moment, _number(given.get("rating"), f"{where}.rating")


def _number(value: object, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MOST:
        raise ConfigError(f"{where}: {value!r} is not a number")
    return float(value)


def history_of(user: str | None, known: HistoriesOf | None) -> tuple[History, list[str]]:
    """What is known of a person, and what to say where nothing is."""
    if user is None:
        return (), []
    if known is None:
        return (), ["user: no histories are at hand here, so the person is taken as new"]
    found = known(user) if callable(known) else known.get(user)
    if found is None:
        return (), [f"user: {user!r} is not known and is taken as new"]
    return found, []


def moment_now(now: float | None, happened: Happened) -> tuple[float, Happened, list[str]]:
    """When it is asked, and what happened before that.

    Args:
        now: None for the present, NaN for unknown.

    Raises:
        ConfigError: if it is not in seconds since 1970.
    """
    if now is None:
        now = time.time()
    check_times("now", (now,))
    late = happened.times >= now
    if not late.any():
        return now, happened, []
    note = f"history: {int(late.sum())} events are not before the request and were left out"
    return now, happened.take(np.flatnonzero(~late)), [note]


def read_context(
    context: Mapping[str, Any] | None, known: ContextIds
) -> tuple[np.ndarray, list[str]]:
    """What is said of the moment, int32 ``[names]``, and what to say of names that nobody knows.

    Raises:
        ConfigError: if it is no mapping from names to texts or numbers.
    """
    said = {} if context is None else context
    if not isinstance(said, Mapping):
        raise ConfigError(f"context: expected names and values, got {said!r}")
    for name, value in said.items():
        if not isinstance(value, str | int | float | None):
            raise ConfigError(f"context.{name}: {value!r} is neither text nor number")
    notes = []
    for name in said:
        if name not in known.values:
            there = ", ".join(known.names) or "none"
            notes.append(f"context: {name!r} is not read by the click model; it reads {there}")
    told = {name: str(value) for name, value in said.items() if value is not None}
    return known.encode([told])[0], notes


def read_filter(filters: CatalogFilter | Mapping[str, Any] | None) -> CatalogFilter | None:
    """What items must be like.

    Raises:
        ConfigError: for an unknown field or a value of the wrong type.
    """
    if filters is None or isinstance(filters, CatalogFilter):
        return filters
    return CatalogFilter.of_dict(dict(filters))
