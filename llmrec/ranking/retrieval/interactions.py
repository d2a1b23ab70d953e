"""Positive events in the order of time: what the statistics of sources are counted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.errors import DataError


@dataclass(frozen=True, eq=False)
class Interactions:
    """User-item events in time order.

    Attributes:
        user: int64 ``[events]``, user indices.
        item: int64 ``[events]``, item indices.
        time: float64 ``[events]``, seconds since 1970 UTC, never falling.

    Raises:
        DataError: if the columns differ in length, an index is negative, a time is not a number, or
            the times fall.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray

    def __post_init__(self) -> None:
        for name, kind in (("user", np.int64), ("item", np.int64), ("time", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        lengths = [len(column) for column in (self.user, self.item, self.time)]
        if len(set(lengths)) > 1:
            raise DataError(f"interactions: user, item and time have lengths {lengths}")
        for name in ("user", "item"):
            if len(self) and getattr(self, name).min() < 0:
                raise DataError(f"interactions.{name}: holds a negative index")
        if not np.isfinite(self.time).all():
            raise DataError("interactions.time: an event has no time; leave such events out")
        if (np.diff(self.time) < 0).any():
            raise DataError("interactions.time: events are not in time order; sort them by time")

    def __len__(self) -> int:
        return len(self.user)

    def before(self, until: float) -> Interactions:
        """The events before a time; one at that very time is not among them."""
        end = int(np.searchsorted(self.time, until, side="left"))
        return Interactions(self.user[:end], self.item[:end], self.time[:end])

    @classmethod
    def from_events(cls, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> Interactions:
        """From events in any order; events at the same time stay in the order given.

        >>> Interactions.from_events([7, 7], [1, 2], [60.0, 0.0]).item.tolist()
        [2, 1]
        """
        order = np.argsort(np.asarray(time, dtype=np.float64), kind="stable")
        return cls(*(np.asarray(column)[order] for column in (user, item, time)))
