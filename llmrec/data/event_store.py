"""All events of a dataset as arrays, with point-in-time access: what was known before a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.parsing import parse_json
from llmrec.types import EVENT_TYPES, Histories

EVENT_CODES = {name: code for code, name in enumerate(EVENT_TYPES)}


@dataclass(frozen=True, eq=False)
class EventStore:
    """Events of all types, sorted by user, then time.

    Attributes:
        user, item: int32 ``[events]``.
        kind: int8 ``[events]``, position in ``EVENT_TYPES``; an own type of the shop is a rating.
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

    @classmethod
    def open(cls, dataset: Dataset) -> EventStore:
        """The events of a dataset.

        Raises:
            DataError: if one has no time.
        """
        table = dataset.events.select(["user", "item", "type", "timestamp", "rating"])
        time = table["timestamp"].to_numpy().astype(np.float64)
        if np.isnan(time).any():
            raise DataError(
                f"{dataset.folder}: has events without a time, and click probabilities are learned "
                "from what came before what; say at ingest which column holds the time"
            )
        kind = pc.index_in(table["type"], value_set=pa.array(EVENT_TYPES))
        kind = kind.fill_null(EVENT_CODES["rating"])
        return cls(
            user=table["user"].to_numpy().astype(np.int32),
            item=table["item"].to_numpy().astype(np.int32),
            kind=kind.to_numpy().astype(np.int8),
            time=time,
            rating=table["rating"].to_numpy().astype(np.float32),
            user_ids=dataset.all_user_ids,
        )

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def user_index(self) -> dict[str, int]:
        """User index by the shop's identifier."""
        return {name: row for row, name in enumerate(self.user_ids)}

    def ends(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Where each user's events before a time end: int64 ``[queries]``, a row of the store.

        Args:
            users: int ``[queries]``, -1 for an unknown user.
            times: float64 ``[queries]``; an event at that very time is not before it.
        """
        return rows_before(self.user, self.time, users, times)

    def starts(self, users: np.ndarray) -> np.ndarray:
        """Where each user's events begin: int64 ``[queries]``."""
        return np.searchsorted(self.user, users)

    def positives(
        self,
        users: np.ndarray,
        times: np.ndarray,
        kinds: tuple[str, ...],
        min_rating: float | None,
        most: int,
    ) -> Histories:
        """Positive events before a time, oldest first, the newest ``most`` of them.

        Args:
            users: int ``[queries]``, -1 for an unknown user.
            times: float64 ``[queries]``.
            kinds: event types that are positive.
            min_rating: an event with a lower rating is not.
        """
        positive = is_positive(self.kind, self.rating, kinds, min_rating)
        before = np.concatenate([[0], np.cumsum(positive)])
        ends = before[self.ends(users, times)]
        starts = np.maximum(before[self.starts(users)], ends - most)
        items, times_of = self.item[positive], self.time[positive]
        return Histories.from_spans(items, starts, ends, times_of, times.astype(np.float64))


def is_positive(
    kind: np.ndarray, rating: np.ndarray, kinds: tuple[str, ...], min_rating: float | None
) -> np.ndarray:
    """bool ``[events]``: of these types, and not rated lower."""
    positive = np.zeros(len(EVENT_CODES) + 1, dtype=bool)  # by code, of -1 the last
    positive[[EVENT_CODES[name] for name in kinds]] = True
    positive = positive[kind]
    if min_rating is not None:
        positive &= ~(rating < min_rating)
    return positive


def read_context(text: str | None) -> dict[str, str]:
    """A context as ingest wrote it: JSON text, or nothing."""
    if not text:
        return {}
    return {str(name): str(value) for name, value in parse_json(text).items() if value is not None}


def rows_before(
    keys: np.ndarray, times: np.ndarray, query_keys: np.ndarray, query_times: np.ndarray
) -> np.ndarray:
    """How many entries lie before each query, int64 ``[queries]``.

    Args:
        keys, times: ``[entries]``, sorted by key, then time.
        query_keys, query_times: ``[queries]``; an entry at that very time is not before it.

    >>> rows_before(np.array([7, 7, 8]), np.array([1.0, 5.0, 2.0]), np.array([7]), np.array([5.0]))
    array([1])
    """
    is_entry = np.repeat(np.array([0, 1], np.int8), [len(query_keys), len(keys)])
    by = (is_entry, np.concatenate([query_times, times]), np.concatenate([query_keys, keys]))
    order = np.lexsort(by)
    before = np.empty(len(order), dtype=np.int64)
    before[order] = np.cumsum(is_entry[order], dtype=np.int64)
    return before[: len(query_keys)]


def sums_before(
    keys: np.ndarray,
    times: np.ndarray,
    values: np.ndarray,
    query_keys: np.ndarray,
    query_times: np.ndarray,
) -> np.ndarray:
    """Sums over the events of a key strictly before a time.

    Args:
        keys: int ``[events]``.
        times: float64 ``[events]``.
        values: float64 ``[events, columns]``.
        query_keys: int ``[queries]``.
        query_times: float64 ``[queries]``.

    Returns:
        float64 ``[queries, columns]``.

    >>> sums_before(np.array([7, 7, 8]), np.array([1.0, 5.0, 2.0]), np.array([[1.0], [1.0], [1.0]]),
    ...     np.array([7, 7, 8]), np.array([5.0, 6.0, 2.0])).ravel().tolist()
    [1.0, 2.0, 0.0]
    """
    order = np.lexsort((times, keys))
    keys, times = keys[order], times[order]
    totals = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[order], axis=0)])
    ends = rows_before(keys, times, query_keys, query_times)
    return totals[ends] - totals[np.searchsorted(keys, query_keys)]
