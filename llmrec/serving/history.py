"""The history of a request: from item ids and events to arrays, every field checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.data.event_store import EVENT_CODES, is_positive
from llmrec.errors import ConfigError
from llmrec.ranking.ctr.request_context import RequestContext, request_context
from llmrec.ranking.ctr.settings import HistoryConfig
from llmrec.serving.item_table import ItemTable
from llmrec.serving.request import MAX_SECONDS, History, RecommendRequest, seconds
from llmrec.types import EVENT_TYPES, Event, Histories

KnownHistories = Mapping[str, History] | Callable[[str], History | None]
KnownAttributes = Callable[[str], Mapping[str, str]]

_FIELDS = ("item_id", "type", "timestamp", "rating")
_KNOWN = {*_FIELDS, "user_id"}
_LARGEST = 1e300
RETURN = "return"


@dataclass(frozen=True, eq=False)
class UserEvents:
    """What a user did, oldest first.

    Attributes:
        items: int64 ``[events]``, item indices.
        types: int8 ``[events]``, positions in ``EVENT_TYPES``.
        times: float64 ``[events]``, seconds since 1970 UTC; NaN unknown.
        ratings: float32 ``[events]``; NaN where there is none.
    """

    items: np.ndarray
    types: np.ndarray
    times: np.ndarray
    ratings: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def select(self, rows: np.ndarray | slice) -> UserEvents:
        """Some of the events."""
        return UserEvents(*(values[rows] for values in vars(self).values()))

    def positives(self, config: HistoryConfig | None) -> UserEvents:
        """Positive events, which language models are trained on; without a ``config`` whatever is
        :func:`liked <is_liked>`."""
        if config is None:
            return self.select(self.types != EVENT_CODES[RETURN])
        return self.select(is_positive(self.types, self.ratings, config.types, config.min_rating))

    def histories(self, now: float) -> Histories:
        """The same as a language model and candidate sources read it; ``now`` NaN for unknown."""
        return Histories(
            self.items.astype(np.int32),
            np.array([0, len(self)], dtype=np.int64),
            None if np.isnan(self.times).all() else self.times,
            np.array([now]),
        )

    def request_context(
        self, config: HistoryConfig, now: float, context: np.ndarray
    ) -> RequestContext:
        """The same as a click model reads it.

        Args:
            context: int32 ``[names]``.
        """
        return request_context(
            self.items.tolist(), self.types.tolist(), self.times.tolist(), self.ratings.tolist(),
            now, context, config.events,
        )  # fmt: skip


def read_history(
    request: RecommendRequest,
    known: KnownHistories | None,
    items: ItemTable,
    before: float,
    usual_type: str,
) -> tuple[UserEvents, list[str]]:
    """The events of a request's history, and notes on what was left out.

    Args:
        known: histories of users by name.
        before: leave out what is not before this time; NaN for nothing.
        usual_type: of an event whose type is not given.

    Raises:
        ConfigError: naming the event and field that is wrong.
    """
    history, notes = request.history, list[str]()
    if history is None:
        history, notes = _known_history(request.user, known)
    rows = [_read_event(row, event, usual_type) for row, event in enumerate(history)]
    times = request.times_in_seconds() or [row[2] for row in rows]
    found, unknown = items.find("history", [row[0] for row in rows])
    notes += unknown
    events = UserEvents(
        found,
        np.array([EVENT_CODES[row[1]] for row in rows], dtype=np.int8),
        np.array(times, dtype=np.float64),
        np.array([row[3] for row in rows], dtype=np.float32),
    ).select(found >= 0)
    if not np.isnan(events.times).any():
        events = events.select(np.argsort(events.times, kind="stable"))
    late = events.times >= before
    if late.any():
        count = int(late.sum())
        notes.append(f"history: {count} events are not before the request and were left out")
        events = events.select(~late)
    return events, notes


def is_liked(event_type: str) -> bool:
    """Whether a language model that ranks alone takes an event as a sign of interest."""
    return event_type != RETURN


def dataset_histories(dataset: Dataset) -> Callable[[str], History | None]:
    """The histories of a dataset's users by name, as a request takes them."""
    users = {user_id: user for user, user_id in enumerate(dataset.user_ids)}

    def history(user_id: str) -> History | None:
        user = users.get(user_id)
        if user is None:
            return None
        return as_events([dataset.item_ids[i] for i in dataset.history(user)], dataset.times(user))

    return history


def dataset_attributes(dataset: Dataset) -> KnownAttributes:
    """What a dataset knows of its users by name; nothing of others."""
    known = dict(zip(dataset.all_user_ids, dataset.user_attributes, strict=True))
    return lambda user_id: known.get(user_id, {})


def as_events(item_ids: list[str], times: np.ndarray | None) -> History:
    """Events of known or unknown times."""
    if times is None:
        return item_ids
    pairs = zip(item_ids, times.tolist(), strict=True)
    return [{"item_id": item_id, "timestamp": time} for item_id, time in pairs]


def _known_history(user: str | None, known: KnownHistories | None) -> tuple[History, list[str]]:
    if user is None:
        return (), []
    if known is None:
        return (), ["user: no histories are at hand here, so the user is taken as new"]
    found = known(user) if callable(known) else known.get(user)
    if found is None:
        return (), [f"user: {user!r} is not known and is taken as new"]
    return found, []


def _read_event(row: int, event: object, usual_type: str) -> tuple[str, str, float, float]:
    """Item id, type, time and rating of one event; NaN where not known."""
    if isinstance(event, str):
        return event, usual_type, math.nan, math.nan
    if isinstance(event, Event):
        event = {name: getattr(event, name) for name in _FIELDS}
    # dict first, and no text is made but for a message: a history has up to 10,000 events
    if not isinstance(event, dict | Mapping) or not isinstance(event.get("item_id"), str):
        raise ConfigError(
            f"history[{row}]: {event!r} is neither an item id nor an event with an item_id"
        )
    if not event.keys() <= _KNOWN:
        unknown = next(name for name in event if name not in _KNOWN)
        raise ConfigError(
            f"history[{row}]: has no field {unknown!r}; there is {', '.join(_FIELDS)}"
        )
    event_type = event.get("type") or usual_type
    if event_type not in EVENT_TYPES:
        raise ConfigError(
            f"history[{row}].type: {event_type!r} is not one of {', '.join(EVENT_TYPES)}"
        )
    time, rating = event.get("timestamp"), event.get("rating")
    if not (type(time) is float and abs(time) < MAX_SECONDS):
        time = seconds(f"history[{row}].timestamp", time)
    rating = math.nan if rating is None else _number(rating, f"history[{row}].rating")
    return event["item_id"], event_type, time, rating


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise ConfigError(f"{where}: {value!r} is not a number")
    return float(value)
