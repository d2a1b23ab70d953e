"""Item transitions of an event log: which items follow which, kept up to date event by event.

Two events of a user at most ``window`` apart are an edge between their items. The pair ``d`` steps
apart weighs ``step_decay ** (d - 1)``, from the older to the newer item, and ``backward`` times
that in the other direction. Weights are whole numbers of :data:`UNIT`, so adding and removing
events in any order gives exactly the graph of the events that are there.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np

from llmrec.config import as_dict, build, check_ranges
from llmrec.errors import ArtifactError, CatalogError, DataError, one_line, require
from llmrec.files import read_versioned
from llmrec.types import Histories

UNIT = 1 << 16  # weight of a transition from one event to the next
SCHEMA_VERSION = 1
FIX = "run llmrec hybrid again"  # of a damaged folder
_HEADER, _EDGES = "graph.json", "edges.npz"
# Changed edges after which they are merged into the matrix: one in so many of its edges, within
# bounds. Each step looks at all changed ones, and a merge at all edges.
_MERGE_SHARE, _MERGE_LEAST, _MERGE_MOST = 16, 1 << 10, 1 << 18
_DENSE = 1 / 4  # share of items with a weight from which a step walks all edges in their order


@dataclass(frozen=True)
class ItemGraphConfig:
    """Settings of the graph.

    Attributes:
        window: two events of a user are an edge when they are at most so many events apart.
        step_decay: weight of a pair relative to one that is a step closer, in (0, 1].
        backward: weight of the edge from the newer item to the older, in [0, 1].
    """

    window: int = 8
    step_decay: float = 0.8
    backward: float = 0.3

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "window", prefix="graph.")
        check_ranges(self, "(0, 1]", "step_decay", prefix="graph.")
        check_ranges(self, "[0, 1]", "backward", prefix="graph.")

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 ``[window]`` forward and backward, of pairs 1 to ``window`` steps apart."""
        forward = self.step_decay ** np.arange(self.window)
        return tuple(np.rint(UNIT * w).astype(np.int64) for w in (forward, self.backward * forward))


class ItemGraph:
    """Weights of item-to-item transitions.

    Args:
        n_items: items of the catalogue.
        config: settings.

    Raises:
        CatalogError: if the catalogue is empty.
    """

    def __init__(self, n_items: int, config: ItemGraphConfig | None = None) -> None:
        if n_items < 1:
            raise CatalogError("the catalogue is empty; there is nothing to rank")
        self.config = config or ItemGraphConfig()
        self.n_items = n_items
        # whole numbers, exact as float64, which products would otherwise convert all of it to
        self._matrix = _sparse().csr_matrix((n_items, n_items), dtype=np.float64)
        self._recent = self._matrix.copy()  # changes since the last merge
        self._changes: Counter[tuple[int, int]] = Counter()  # and those since the last step
        self.out_weight = np.zeros(n_items, dtype=np.int64)  # of the edges from an item
        self.in_weight = np.zeros(n_items, dtype=np.int64)  # of those that lead to it
        self._lock = threading.Lock()

    @classmethod
    def fit(cls, histories: Histories, n_items: int, config: ItemGraphConfig | None = None) -> Self:
        """The graph of whole histories.

        Raises:
            CatalogError: if the catalogue is empty or lacks an item of a history.
        """
        graph = cls(n_items, config)
        graph._check(histories.items)
        user = np.repeat(np.arange(len(histories)), histories.lengths())
        shape = (n_items, n_items)
        for step, (ahead, back) in enumerate(zip(*graph.config.weights(), strict=True), start=1):
            pair = (user[:-step] == user[step:]) & (
                histories.items[:-step] != histories.items[step:]
            )
            older, newer = histories.items[:-step][pair], histories.items[step:][pair]
            weights = np.repeat([float(ahead), float(back)], len(older))
            ends = np.concatenate([older, newer]), np.concatenate([newer, older])
            graph._matrix = graph._matrix + _sparse().csr_matrix((weights, ends), shape=shape)
        graph._matrix.eliminate_zeros()
        graph._weigh()
        return graph

    def append(self, history: np.ndarray, item: int) -> None:
        """Add a user's newest event.

        Args:
            history: int ``[events]``, the user's items before it, oldest first; the newest
                ``window`` of them matter.

        Raises:
            CatalogError: for an item outside the catalogue.
        """
        recent = np.asarray(history)[-self.config.window :]
        self._check(np.append(recent, item))
        self._change(self._edges(np.append(recent, item), len(recent)))

    def replace(self, before: np.ndarray, after: np.ndarray) -> None:
        """Put one history of a user in place of another: events inserted, removed or forgotten.

        Args:
            before: int ``[events]``, items oldest first, as they were added.
            after: int ``[events]``, what is left of them; empty forgets the user.

        Raises:
            CatalogError: for an item outside the catalogue.
            DataError: if ``before`` was never added; the graph stays as it was.
        """
        before, after = np.asarray(before, np.int64), np.asarray(after, np.int64)
        self._check(before)
        self._check(after)
        change = self._edges(after, 1)
        change.subtract(self._edges(before, 1))
        self._change(change)

    def merge(self, other: ItemGraph, times: int = 1) -> None:
        """Add the edges of another graph of the same catalogue.

        Args:
            times: -1 takes them away.

        Raises:
            CatalogError: if the other is of another catalogue.
            DataError: if edges to take away are not there; the graph stays as it was.
        """
        if other.n_items != self.n_items:
            raise CatalogError(f"the graphs are of {self.n_items} and {other.n_items} items")
        edges = other.matrix().astype(np.float64)
        with self._lock:
            self._merge()
            merged = self._matrix + times * edges
            if merged.nnz and merged.data.min() < 0:
                raise DataError("the events to remove are not in the item graph")
            merged.eliminate_zeros()
            self._matrix = merged
            self._weigh()

    def propagate(self, weights: Any) -> Any:
        """A step from items along their edges, each item's edges divided by the root of their sum.

        Args:
            weights: sparse ``[users, n_items]``, of the items that the steps start from.

        Returns:
            sparse float64 ``[users, n_items]``: ``weights / sqrt(out_weight) @ edge weights``, in
            which a transition from one event to the next weighs 1.
        """
        with self._lock:
            self._settle()
            scaled = self._scaled(weights)
            found = scaled @ self._matrix
            return found + scaled @ self._recent if self._recent.nnz else found

    def dense_step(self, weights: Any) -> np.ndarray:
        """:meth:`propagate` as an array, float64 ``[users, n_items]``; the same in any batch."""
        with self._lock:
            self._settle()
            scaled = self._scaled(weights)
            scaled.sort_indices()  # so that either way adds up in one order
            if scaled.nnz < _DENSE * scaled.shape[0] * self.n_items:
                found: np.ndarray = (scaled @ self._matrix).toarray()
            else:  # users side by side in memory: an edge is read once for all of them
                found = np.ascontiguousarray((self._matrix.T @ scaled.T.toarray()).T)
            return found + (scaled @ self._recent).toarray() if self._recent.nnz else found

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _sparse().save_npz(folder / _EDGES, self.matrix(), compressed=False)
        header = {"schema_version": SCHEMA_VERSION, "config": as_dict(self.config)}
        (folder / _HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path, n_items: int) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            n_items: items of the catalogue that it must be of.

        Raises:
            ArtifactError: if it is missing, damaged or of another catalogue.
        """
        folder = Path(folder)
        header = read_versioned(folder / _HEADER, "item graph", SCHEMA_VERSION, FIX)
        graph = cls(n_items, build(ItemGraphConfig, header.get("config", {}), "graph"))
        graph._matrix = read_matrix(folder / _EDGES, n_items).astype(np.float64)
        graph._weigh()
        return graph

    def matrix(self) -> Any:
        """A copy, sparse int64 ``[n_items, n_items]``, row by row the items that follow."""
        with self._lock:
            self._merge()
            return self._matrix.astype(np.int64)

    def grown(self, n_items: int) -> Self:
        """A copy with new items, which no edge leads to yet.

        Raises:
            CatalogError: if there would be fewer items than now.
        """
        if n_items < self.n_items:
            raise CatalogError(f"the graph has {self.n_items} items, not as few as {n_items}")
        grown = type(self)(n_items, self.config)
        with self._lock:
            self._merge()
            grown._matrix = self._matrix.copy()
            grown._matrix.resize((n_items, n_items))
            for name in ("out_weight", "in_weight"):
                setattr(grown, name, np.pad(getattr(self, name), (0, n_items - self.n_items)))
        return grown

    def _weigh(self) -> None:
        self.out_weight = np.asarray(self._matrix.sum(axis=1)).ravel().astype(np.int64)
        self.in_weight = np.asarray(self._matrix.sum(axis=0)).ravel().astype(np.int64)

    def _scaled(self, weights: Any) -> Any:
        scaled = weights.tocsr().astype(np.float64)  # a copy
        scaled.data /= np.sqrt(UNIT * np.maximum(self.out_weight[scaled.indices], 1))
        return scaled

    def _edges(self, items: np.ndarray, first: int) -> Counter[tuple[int, int]]:
        """Weights of the edges that the events from ``first`` on make with those before them."""
        edges: Counter[tuple[int, int]] = Counter()
        forward, backward = self.config.weights()
        known = items.tolist()
        for newer in range(first, len(known)):
            for step in range(1, min(self.config.window, newer) + 1):
                ends = known[newer - step], known[newer]
                if ends[0] != ends[1]:
                    edges[ends] += int(forward[step - 1])
                    edges[ends[::-1]] += int(backward[step - 1])
        return edges

    def _change(self, edges: Counter[tuple[int, int]]) -> None:
        with self._lock:
            for (start, end), weight in edges.items():
                if weight < 0 and self._weight(start, end) + weight < 0:
                    raise DataError("the events to remove are not in the item graph")
            for (start, end), weight in edges.items():
                if weight:
                    self._changes[start, end] += weight
                    self.out_weight[start] += weight
                    self.in_weight[end] += weight
            if len(self._changes) > _MERGE_MOST:
                self._settle()

    def _weight(self, start: int, end: int) -> int:
        merged = self._matrix[start, end] + self._recent[start, end]
        return int(merged) + self._changes[start, end]

    def _settle(self) -> None:
        """Take the last changes into sparse matrices."""
        if not self._changes:
            return
        starts, ends = np.array(list(self._changes)).T
        weights = np.array(list(self._changes.values()), dtype=np.float64)
        shape = self._matrix.shape
        self._recent = self._recent + _sparse().csr_matrix((weights, (starts, ends)), shape=shape)
        self._changes.clear()
        if self._recent.nnz > np.clip(self._matrix.nnz // _MERGE_SHARE, _MERGE_LEAST, _MERGE_MOST):
            self._merge()

    def _merge(self) -> None:
        self._settle()
        if not self._recent.nnz:
            return
        self._matrix = self._matrix + self._recent
        self._matrix.eliminate_zeros()
        self._recent = _sparse().csr_matrix(self._matrix.shape, dtype=np.float64)

    def _check(self, items: Iterable[int] | np.ndarray) -> None:
        items = np.asarray(items)
        if len(items) and not 0 <= items.min() <= items.max() < self.n_items:
            raise CatalogError(
                f"an event is of an item that is not among the {self.n_items} of the item graph"
            )


def read_matrix(path: Path, n_items: int) -> Any:
    """A sparse ``[n_items, n_items]`` as ``scipy.sparse.save_npz`` wrote it.

    Raises:
        ArtifactError: if it is missing, damaged or of another catalogue.
    """
    try:
        with open(path, "rb") as file:  # a damaged file would stay open otherwise
            matrix = _sparse().load_npz(file)
        matrix.check_format()
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ArtifactError(f"{path}: {one_line(error)}; {FIX}") from None
    if matrix.shape != (n_items, n_items):
        found = matrix.shape[0]
        raise ArtifactError(f"{path}: is of {found} items, the catalogue has {n_items}; {FIX}")
    return matrix


def _sparse() -> Any:
    return require("scipy.sparse", "eval")
