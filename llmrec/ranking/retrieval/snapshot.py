"""Statistics of items as of a time: counts, popularity and co-occurrence, fitted on a log.

A snapshot counts the events before its time ``until`` and nothing that happened at or after it, so
it serves requests from ``until`` on. Popularity is as of ``until``, not as of the request: between
two snapshots nothing fades and nothing is added, in training as in serving, so a feature means the
same in both when snapshots are as far apart in both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import ArtifactError, CatalogError, DataError, require
from llmrec.jsonl import read_json
from llmrec.ranking.retrieval.co_occurrence import co_occurrence
from llmrec.ranking.retrieval.interactions import Interactions
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.stage import reading

DAY = 86_400.0  # seconds
_HEADER, _TENSORS = "snapshot.json", "snapshot.safetensors"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Statistics as of a time.

    Attributes:
        until: seconds since 1970 UTC; only events before it are counted. -inf: nothing is known.
        counts: int64 ``[n_items]``, events of each item.
        popularity: float64 ``[n_items]``, each item's events, halved for every half-life that lies
            between the event and ``until``.
        starts: int64 ``[n_items + 1]``, where each item's neighbours begin.
        neighbours: int32 ``[pairs]``, items that co-occur with it, ascending in an item.
        cosines: float32 ``[pairs]``, above 0.
    """

    until: float
    counts: np.ndarray
    popularity: np.ndarray
    starts: np.ndarray
    neighbours: np.ndarray
    cosines: np.ndarray

    @property
    def n_items(self) -> int:
        """Items that were known; items with a larger index came later."""
        return len(self.counts)

    @classmethod
    def empty(cls, n_items: int = 0) -> Snapshot:
        """Before anything happened."""
        return cls(
            -np.inf,
            np.zeros(n_items, np.int64),
            np.zeros(n_items),
            np.zeros(n_items + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.float32),
        )

    def similarity(self, n_items: int) -> Any:
        """The cosines as a sparse ``[n_items, n_items]`` matrix, for ``n_items`` of a catalogue
        that may have grown since."""
        starts = np.concatenate([self.starts, np.full(n_items - self.n_items, self.starts[-1])])
        sparse = require("scipy.sparse", "eval")
        return sparse.csr_matrix((self.cosines, self.neighbours, starts), shape=(n_items, n_items))

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder, which is made."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {n: np.ascontiguousarray(v) for n, v in vars(self).items() if n != "until"}
        save_file(arrays, folder / _TENSORS)
        until = None if np.isneginf(self.until) else self.until
        header = {"until": until, "n_items": self.n_items}
        (folder / _HEADER).write_text(json.dumps(header) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Snapshot:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if it is missing or damaged.
        """
        from safetensors.numpy import load_file

        folder = Path(folder)
        with reading(folder / _TENSORS, "llmrec ctr"):
            header = read_json(folder / _HEADER)
            until = -np.inf if header["until"] is None else float(header["until"])
            made = cls(until, **load_file(folder / _TENSORS))
            made._check(header["n_items"])
        return made

    def _check(self, n_items: int) -> None:
        pairs = {len(self.neighbours), len(self.cosines), int(self.starts[-1])}
        if {len(self.counts), len(self.popularity), len(self.starts) - 1} != {n_items}:
            raise ValueError(f"its arrays are not of {n_items} items")
        outside = len(self.neighbours) and not 0 <= self.neighbours.min() <= self.neighbours.max()
        if len(pairs) > 1 or outside or (self.neighbours >= n_items).any():
            raise ValueError("its neighbours do not fit together")


def fit_snapshot(
    log: Interactions, until: float, n_items: int, settings: RetrievalConfig | None = None
) -> Snapshot:
    """Count what happened before a time.

    Args:
        until: seconds since 1970 UTC; inf counts the whole log, as of just after its last event.
        n_items: items of the catalogue.

    Raises:
        CatalogError: if an event is of an item outside the catalogue.
        DataError: if ``until`` is not a number.
    """
    settings = settings or RetrievalConfig()
    if np.isnan(until):
        raise DataError("until: is not a time")
    known = log.before(until)
    if len(known) and known.item.max() >= n_items:
        raise CatalogError(f"log.item: an event is of none of the {n_items} items of the catalogue")
    if np.isposinf(until):
        until = float(np.nextafter(known.time[-1], np.inf)) if len(known) else -np.inf
    ages = (until - known.time) / (settings.half_life_days * DAY) if len(known) else known.time
    similar = co_occurrence(known, n_items, settings.window, settings.neighbours, settings.shrink)
    return Snapshot(
        until=float(until),
        counts=np.bincount(known.item, minlength=n_items).astype(np.int64),
        popularity=np.bincount(known.item, weights=np.exp2(-ages), minlength=n_items),
        starts=similar.indptr.astype(np.int64),
        neighbours=similar.indices.astype(np.int32),
        cosines=similar.data,
    )


class Snapshots:
    """Snapshots of several times, for point-in-time features.

    Args:
        snapshots: in any order.

    Raises:
        DataError: if two are of the same time.
    """

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self.snapshots = tuple(sorted(snapshots, key=lambda s: s.until))
        self.until = np.array([s.until for s in self.snapshots], dtype=np.float64)
        if len(np.unique(self.until)) < len(self.until):
            raise DataError("two snapshots are of the same time")

    def __len__(self) -> int:
        return len(self.snapshots)

    def of(self, now: np.ndarray) -> np.ndarray:
        """The newest snapshot not later than each request: int64 ``[requests]``, -1 where none is.

        Args:
            now: float64 ``[requests]``, seconds since 1970 UTC.
        """
        return np.searchsorted(self.until, now, side="right") - 1

    def at(self, number: int) -> Snapshot:
        """The snapshot of a number that :meth:`of` gave; nothing is known at -1."""
        return Snapshot.empty() if number < 0 else self.snapshots[number]

    def save(self, folder: str | Path) -> Path:
        """Write each into a folder of its own, numbered in time order."""
        for number, snapshot in enumerate(self.snapshots):
            snapshot.save(Path(folder) / f"{number:04d}")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Snapshots:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if there is none, or one is damaged.
        """
        folders = sorted(path.parent for path in Path(folder).glob(f"*/{_HEADER}"))
        if not folders:
            raise ArtifactError(f"{folder}: holds no snapshots; fit them again")
        return cls([Snapshot.load(path) for path in folders])


def fit_snapshots(
    log: Interactions, times: Sequence[float], n_items: int, settings: RetrievalConfig | None = None
) -> Snapshots:
    """A snapshot for each time.

    Raises:
        CatalogError, DataError: as for :func:`fit_snapshot`.
    """
    from llmrec.loop.bars import ProgressBar

    bar = ProgressBar(times, unit="snapshot", desc="snapshots")
    return Snapshots([fit_snapshot(log, until, n_items, settings) for until in bar])
