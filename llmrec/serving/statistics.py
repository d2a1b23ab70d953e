"""What people did lately and what they bought together, counted in a service's store.

Counts are those of the store at the time, whoever wrote it: of all services over it, and without
the people who were forgotten.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.serving.store import events
from llmrec.serving.store.database import Store

HOUR, DAY = 3600.0, 86400.0
WINDOW = 14 * DAY  # that trends are counted over
HALF_LIFE = 2 * DAY  # after which a person counts half
LEAST_AGE = 1.0  # seconds that counts are used for, though events have come
SHARE = 0.05  # of a thread's time that may go into counting


@dataclass(frozen=True)
class Trend:
    """How often an item was chosen within :data:`WINDOW`, by somebody once an hour at most; and the
    same weighted by how long ago."""

    count: int
    weight: float


class StoreStatistics:
    """Counts events. Threads may use one at once.

    Args:
        store: opened.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._trends: dict[str, Trend] = {}
        self._until = 0.0  # when they are to be counted again
        self._asked_for = float("nan")

    def forget(self) -> None:
        """Count anew before the next answer: somebody is to be forgotten."""
        self._until = 0.0

    def trends(self, now: float) -> dict[str, Trend]:
        """Items that somebody chose before a time, by their identifiers.

        Raises:
            StoreError: if the store cannot be read.
        """
        with self._lock:
            began = time.monotonic()
            far = not abs(now - self._asked_for) < HOUR
            if far or began >= self._until:
                self._trends = self._count(now)
                spent = time.monotonic() - began
                self._until = began + max(LEAST_AGE, spent / SHARE)
                self._asked_for = now
            return self._trends

    def bought_with(self, item_ids: Sequence[str]) -> dict[str, int]:
        """People who bought an item within a day of one of some others.

        Raises:
            StoreError: if the store cannot be read.
        """
        with self._store.read() as connection:
            return events.bought_with(connection, item_ids, DAY)

    def _count(self, now: float) -> dict[str, Trend]:
        with self._store.read() as connection:
            rows = events.people_by_hour(connection, now - WINDOW, now)
        counts: dict[str, int] = {}
        weight: dict[str, float] = {}
        for item_id, hour, count in rows:
            age = max(0.0, now - hour * HOUR)
            counts[item_id] = counts.get(item_id, 0) + count
            weight[item_id] = weight.get(item_id, 0.0) + count * 0.5 ** (age / HALF_LIFE)
        return {item_id: Trend(count, weight[item_id]) for item_id, count in counts.items()}
