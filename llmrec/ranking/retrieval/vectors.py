"""A user as a vector among item vectors, and the items nearest to it.

The scores of a user must not depend on the rest of the batch, as the last bits of a product of
matrices do: the features of a request are made alone in serving, and in batches in training. So
queries are compared one by one, and items with equal scores are ordered by index. What an
approximate index finds is scored again by the vectors themselves.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np

from llmrec.content.features.models import unit_rows
from llmrec.content.search.nearest import build_index, choose_kind, nearest
from llmrec.content.search.settings import Kind
from llmrec.errors import DataError, require
from llmrec.types import Histories

FLAT_MAX = 20_000  # items: above it a graph answers in a fraction of the time of a full pass
_SPARE = 16  # found beyond the depth, in case the index orders near ties otherwise
_STEP = 64  # depths of search are multiples of it, so few searches serve many users
_NUMBERS = 1 << 24  # held at once when given items are scored
_AT_ONCE = 16  # queries; faiss multiplies matrices from 20 on


def check_vectors(vectors: np.ndarray, name: str = "vectors") -> np.ndarray:
    """Unit rows, float32 ``[n, dim]``; a zero row stays zero: no vector is known.

    Raises:
        DataError: if they are no matrix of numbers.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2:
        raise DataError(f"{name}: of shape {vectors.shape}; expected a row for each item")
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{name}: row {wrong[0]} holds something that is not a number; embed the items again"
        )
    return unit_rows(vectors)


def user_vectors(
    histories: Histories, vectors: np.ndarray, decay: float, events: int
) -> np.ndarray:
    """The weighted mean of each history's item vectors, at length 1.

    Args:
        vectors: float32 ``[n_items, dim]``, unit or zero rows.
        decay: weight of an event relative to the one after it.
        events: newest events that count.

    Returns:
        float32 ``[users, dim]``; zero where a history is empty or of items without a vector.
    """
    return unit_rows(newest_weighted(histories, decay, events, len(vectors)) @ vectors)


def newest_weighted(
    histories: Histories, decay: float, events: int, n_items: int, dtype: type = np.float32
) -> Any:
    """``decay ** (position from the end)`` of each history's newest events, sparse
    ``[users, n_items]``."""
    lengths = histories.lengths()
    ends = np.repeat(histories.offsets[1:], lengths)
    ages = ends - 1 - np.arange(len(histories.items))
    recent = ages < events
    starts = np.concatenate([[0], np.cumsum(np.minimum(lengths, events))])
    weights = np.power(decay, ages[recent]).astype(dtype)
    return require("scipy.sparse", "eval").csr_matrix(
        (weights, histories.items[recent], starts), shape=(len(histories), n_items)
    )


def cosines(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Products of each query with some rows of its own, the same in any batch.

    Args:
        queries: float32 ``[q, dim]``.
        vectors: float32 ``[n, dim]``.
        rows: int64 ``[q, c]``; -1 pads.

    Returns:
        float32 ``[q, c]``; -inf at padding.
    """
    found = np.full(rows.shape, -np.inf, dtype=np.float32)
    if not (rows.size and len(vectors)):
        return found
    step = max(1, _NUMBERS // (rows.shape[1] * vectors.shape[1]))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        values = np.einsum("qd,qcd->qc", queries[start : start + step], vectors[part])
        found[start : start + step] = np.where(part >= 0, values, -np.inf)
    return found


class VectorIndex:
    """Some items' vectors, to find the nearest of.

    Args:
        items: int64 ``[n]``, item indices, ascending.
        vectors: float32 ``[n, dim]``, unit rows.
        kind: of the faiss index; ``auto`` is flat up to 20,000 vectors, a graph up to a million.
    """

    def __init__(self, items: np.ndarray, vectors: np.ndarray, kind: Kind = "auto") -> None:
        self.items, self.vectors = items, vectors
        n = len(vectors)
        if kind == "auto" and n > FLAT_MAX:
            kind = "ivfpq" if choose_kind("auto", n) == "ivfpq" else "hnsw"
        kind = choose_kind(kind, n) if n else "flat"
        self._exact = kind == "flat"
        self._index = build_index(vectors, kind) if n else None
        self._indexed = n  # vectors after these came later and are compared with one by one

    def __len__(self) -> int:
        return len(self.items)

    def with_items(self, items: np.ndarray, vectors: np.ndarray) -> Self:
        """The same index with more items, which is not built again."""
        changed = copy.copy(self)
        changed.items = np.concatenate([self.items, items])
        changed.vectors = np.concatenate([self.vectors, vectors])
        return changed

    def search(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest items.

        Args:
            queries: float32 ``[q, dim]``, unit rows.
            depth: how many.

        Returns:
            item indices int64 and cosines float32 ``[q, min(depth, items)]``, best first, then by
            index; -1 and -inf pad.
        """
        parts = []
        if self._index is not None:
            parts.append(self._indexed_nearest(queries, depth + _SPARE))
        if self._indexed < len(self):
            rows, scores = _all_nearest(queries, self.vectors[self._indexed :], depth + _SPARE)
            parts.append((rows + self._indexed, scores))
        return self._ordered(parts, depth)

    def search_among(
        self, queries: np.ndarray, chosen: np.ndarray, depth: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of some items, each compared with.

        Args:
            chosen: int64 ``[m]``, rows of the index.
        """
        rows, scores = _all_nearest(queries, self.vectors[chosen], depth)
        return self._ordered([(chosen[rows], scores)], depth)

    def _indexed_nearest(self, queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and cosines of what the index finds."""
        found = [
            nearest(self._index, queries[start : start + _AT_ONCE], n)
            for start in range(0, len(queries), _AT_ONCE)
        ]
        rows = np.concatenate([part[0] for part in found])
        if self._exact:
            return rows, np.concatenate([part[1] for part in found])
        return rows, cosines(queries, self.vectors, rows)

    def _ordered(
        self, parts: list[tuple[np.ndarray, np.ndarray]], depth: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Item indices and cosines of rows that were found in one way or two, best first."""
        rows, scores = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
        items = np.where(rows >= 0, self.items[rows], -1)
        # Mostly they are in order already, and sorting would take longer than finding did.
        wrong = np.flatnonzero((scores[:, 1:] >= scores[:, :-1]).any(axis=1))
        order = np.lexsort((items[wrong], -scores[wrong]), axis=1)
        items[wrong] = np.take_along_axis(items[wrong], order, axis=1)
        scores[wrong] = np.take_along_axis(scores[wrong], order, axis=1)
        return items[:, :depth], scores[:, :depth]


def depth_of(needed: np.ndarray) -> np.ndarray:
    """How deep to search for as many as are needed, in steps: int64 ``[users]``.

    >>> depth_of(np.array([200, 64, 1])).tolist()
    [256, 64, 64]
    """
    return -(-needed // _STEP) * _STEP


def _all_nearest(queries: np.ndarray, vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 and cosines float32 ``[q, min(n, vectors)]`` by comparing with all vectors."""
    faiss = require("faiss", "media")
    n = min(n, len(vectors))
    rows = np.zeros((len(queries), n), dtype=np.int64)
    scores = np.zeros((len(queries), n), dtype=np.float32)
    if not n:
        return rows, scores
    vectors, metric = np.ascontiguousarray(vectors), faiss.METRIC_INNER_PRODUCT
    for start in range(0, len(queries), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        scores[part], rows[part] = faiss.knn(queries[part], vectors, n, metric=metric)
    return rows, scores
