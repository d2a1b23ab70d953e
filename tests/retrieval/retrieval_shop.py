"""A small made-up shop: a log over thirty days, vectors of its items, and people who ask."""

import numpy as np

from llmrec.retrieval.log import Log
from llmrec.retrieval.settings import RetrievalConfig
from llmrec.retrieval.snapshot import DAY, Snapshot, fit_snapshot
from llmrec.retrieval.sources import Source
from llmrec.retrieval.standard import StandardSources
from llmrec.types import Histories

N_ITEMS, N_KNOWN, N_USERS = 40, 32, 25  # of the items, those that anybody took
SETTINGS = RetrievalConfig(window=4, neighbours=12, shrink=2.0, min_events=6)


def make_log(seed: int = 0, events: int = 400) -> Log:
    """Some items are taken often, some hardly ever, the last eight never."""
    rng = np.random.default_rng(seed)
    items = (rng.random(events) ** 2 * N_KNOWN).astype(np.int64)
    users = rng.integers(0, N_USERS, events)
    return Log.from_events(users, items, rng.random(events) * 30 * DAY, rng.random(events) + 0.5)


def make_vectors(seed: int = 0, n: int = N_ITEMS) -> np.ndarray:
    """Random vectors; item 3 has none, and items 4 and 5 have the same."""
    vectors = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    vectors[3], vectors[5] = 0, vectors[4]
    return vectors


def make_histories(seed: int = 0, users: int = 20, longest: int = 9) -> Histories:
    """The first has no history; some take an item twice."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, N_ITEMS, rng.integers(0, longest + 1)) for _ in range(users - 1)]
    now = rng.random(users) * 30 * DAY
    return Histories.from_lists([[], *(row.tolist() for row in rows)], now=now.tolist())


def make_snapshot(until: float = np.inf) -> Snapshot:
    return fit_snapshot(make_log(), until, N_ITEMS, SETTINGS)


def first_seen() -> np.ndarray:
    """Half of the items came in the course of the month, some nobody knows when."""
    times = np.zeros(N_ITEMS)
    times[N_ITEMS // 2 :] = np.linspace(0, 30, N_ITEMS // 2) * DAY
    times[7] = np.nan
    return times


def make_sources(snapshot: Snapshot | None = None, **more: object) -> list[Source]:
    """The four that need no model."""
    known = snapshot or make_snapshot()
    return StandardSources(make_vectors(), SETTINGS, **more)(known)  # type: ignore[arg-type]


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """int64 ``[rows, longest]``, padded with -1."""
    items = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for place, row in enumerate(rows):
        items[place, : len(row)] = row
    return items
