"""Who did what when: the log that statistics of the sources are counted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.errors import DataError
from llmrec.types import Histories


@dataclass(frozen=True, eq=False)
class Log:
    """Events in time order.

    Attributes:
        user: int64 ``[events]``, user indices.
        item: int64 ``[events]``, item indices.
        time: float64 ``[events]``, seconds since 1970 UTC, never falling.
        weight: float32 ``[events]``, how much each counts; 1 where all count alike.

    Raises:
        DataError: if the columns differ in length, an index or a weight is negative, a time or a
            weight is not a number, or the times fall.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    weight: np.ndarray

    def __post_init__(self) -> None:
        for name, kind in (("user", np.int64), ("item", np.int64), ("time", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        object.__setattr__(self, "weight", np.asarray(self.weight, dtype=np.float32))
        lengths = [len(c) for c in (self.user, self.item, self.time, self.weight)]
        if len(set(lengths)) > 1:
            raise DataError(f"log: user, item, time and weight have lengths {lengths}")
        for name in ("user", "item"):
            if len(self) and getattr(self, name).min() < 0:
                raise DataError(f"log.{name}: holds a negative index")
        if not np.isfinite(self.time).all():
            raise DataError("log.time: an event has no time; leave such events out")
        if not (np.isfinite(self.weight) & (self.weight >= 0)).all():
            raise DataError("log.weight: a weight is negative or not a number")
        if (np.diff(self.time) < 0).any():
            raise DataError("log.time: events are not in time order; sort them by time")

    def __len__(self) -> int:
        return len(self.user)

    def before(self, until: float) -> Log:
        """The events before a time; what happened at it is not among them."""
        end = int(np.searchsorted(self.time, until, side="left"))
        return Log(self.user[:end], self.item[:end], self.time[:end], self.weight[:end])

    @classmethod
    def from_events(
        cls,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        weight: np.ndarray | None = None,
    ) -> Log:
        """A log from events in any order; events at the same time stay in the order given.

        >>> Log.from_events([7, 7], [1, 2], [60.0, 0.0]).item.tolist()
        [2, 1]
        """
        order = np.argsort(np.asarray(time, dtype=np.float64), kind="stable")
        counts = np.ones(len(order), np.float32) if weight is None else np.asarray(weight)
        return cls(*(np.asarray(c)[order] for c in (user, item, time, counts)))

    @classmethod
    def from_histories(cls, histories: Histories) -> Log:
        """A log of everything in some histories, one user each.

        Raises:
            DataError: if they have no times.
        """
        if histories.timestamps is None:
            raise DataError("the histories have no times; a log needs the time of every event")
        users = np.repeat(np.arange(len(histories)), histories.lengths())
        return cls.from_events(users, histories.items, histories.timestamps)
