"""Item graph and content: the strongest ranking that needs no training.

A user is the newest items of the history, each counting ``decay`` times as much as the one after
it. They spread to the items of the nearest content (``smoothing``), go one step along the item
graph (:mod:`llmrec.data.item_graph`), and the content neighbours themselves are added
(``content_weight``), so that an item without events is found too. To an item that no edge leads to
the graph leads as it does to the nearest of the others (``cold_neighbours``): otherwise each
new item would stand behind them for having been met by nobody. What no step reaches follows
by popularity.

The defaults are the best by NDCG@10 on the validation split of Amazon 2014 Beauty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.config import check_ranges
from llmrec.content.search.nearest import build_index, choose_kind, nearest
from llmrec.data.item_graph import ItemGraph
from llmrec.errors import CatalogError, require
from llmrec.ranking.retrieval.cold_items import ColdItems
from llmrec.ranking.retrieval.vectors import check_vectors, newest_weighted
from llmrec.types import Histories

# From the newest items of the history, or the last alone: along the item graph, by content to the
# items that the graph is walked from, by content.
PARTS = ("walk", "content_walk", "content", "last_walk", "last_content")


@dataclass(frozen=True)
class GraphScorerConfig:
    """Settings of :class:`GraphScorer`.

    Attributes:
        decay: weight of a history item relative to the one after it, in (0, 1].
        events: newest items of a history that count.
        neighbours: of each item by content.
        content_power: of the cosine, the weight of a content neighbour.
        content_weight: of the content neighbours beside the graph.
        smoothing: of the content neighbours as further items that the graph is walked from.
        cold_neighbours: an item that no edge leads to gets the mean score by the graph of so many
            items, the nearest by content that edges lead to; 0 for none.
    """

    decay: float = 0.5
    events: int = 10
    neighbours: int = 100
    content_power: float = 2.0
    content_weight: float = 0.3
    smoothing: float = 0.01
    cold_neighbours: int = 5

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "events", "neighbours")
        check_ranges(self, "(0, 1]", "decay")
        check_ranges(
            self, "[0, inf)", "content_power", "content_weight", "smoothing", "cold_neighbours"
        )


class GraphScorer:
    """A :class:`~llmrec.recommender.Scorer` from an item graph and content neighbours.

    Args:
        graph: of the events that are known.
        content: sparse ``[n_items, n_items]`` of :func:`content_neighbours`; None for the graph
            alone.
        config: settings.

    Raises:
        CatalogError: if graph and content are of different catalogues.
    """

    def __init__(
        self, graph: ItemGraph, content: Any = None, config: GraphScorerConfig | None = None
    ) -> None:
        self.graph, self.content, self.config = graph, content, config or GraphScorerConfig()
        if content is not None and content.shape[0] != graph.n_items:
            raise CatalogError(
                f"the item graph has {graph.n_items} items, the content {content.shape[0]}; "
                "embed the items of the same dataset"
            )
        self._cold: ColdItems | None = None

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.graph.n_items

    def dense_parts(self, histories: Histories) -> list[np.ndarray]:
        """What leads from a history to an item, apart: one array for each of :data:`PARTS`.

        Returns:
            float64 ``[users, n_items]``, nothing below 0; zeros where there is no content. The same
            in any batch.
        """
        query = self._query(histories)
        last = newest_weighted(histories, 1.0, 1, self.n_items, np.float64)
        walk, last_walk = self.graph.dense_step(query), self.graph.dense_step(last)
        if self.content is None:
            nothing = np.zeros_like(walk)
            return [walk, nothing, nothing, last_walk, nothing]
        around = query @ self.content
        step = self.graph.dense_step(around)
        if cold := self._cold_items():
            for part in (walk, step, last_walk):
                cold.fill(part)
        return [walk, step, around.toarray(), last_walk, (last @ self.content).toarray()]

    def _query(self, histories: Histories) -> Any:
        """The newest items, weighted, sparse float64 ``[users, n_items]``."""
        c = self.config
        query = newest_weighted(histories, c.decay, c.events, self.n_items, np.float64)
        query.sum_duplicates()
        return query

    def combined(self, parts: Sequence[Any]) -> Any:
        """One score of the first three of :data:`PARTS`, of the type and shape of each."""
        walk, content_walk, content = parts[:3]
        c = self.config
        return walk + c.smoothing * content_walk + c.content_weight * content

    def sparse_scores(self, histories: Histories) -> Any:
        """Scores above 0, sparse float64 ``[users, n_items]``."""
        query = self._query(histories)
        walk = self.graph.propagate(query)
        if self.content is None:
            return walk
        around = query @ self.content
        step = self.graph.propagate(around)
        if cold := self._cold_items():
            walk, step = cold.filled(walk), cold.filled(step)
        return self.combined([walk, step, around])

    def _cold_items(self) -> ColdItems | None:
        """The items that no edge leads to at this moment; None if there are none to be helped."""
        items = np.flatnonzero(self.graph.in_weight == 0)
        most = self.config.cold_neighbours
        if not most or not len(items):
            return None
        known = self._cold  # another thread may put a new one in its place
        if known is None or not np.array_equal(items, known.items):
            known = self._cold = ColdItems.of(items, self.content, most)
        return known

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, items]``; positive where graph or content leads."""
        scores = self.sparse_scores(histories).toarray().astype(np.float32)
        weight = self.graph.out_weight
        fallback = (weight / (weight.max() + 1.0) - 1.0).astype(np.float32)  # in [-1, 0)
        return np.where(scores > 0, scores, fallback)


def content_neighbours(vectors: np.ndarray, neighbours: int = 100, power: float = 2.0) -> Any:
    """The nearest items of each by content, weighted by a power of their cosine.

    Args:
        vectors: float ``[n_items, dim]``; a zero row has no neighbours.
        neighbours: of each item, at most.
        power: of the cosine.

    Returns:
        sparse float64 ``[n_items, n_items]`` without a diagonal, positive cosines alone.

    Raises:
        DataError: if the vectors are no matrix of numbers.
    """
    unit = check_vectors(vectors, "content")
    return _nearest_weights(unit, np.flatnonzero(unit.any(axis=1)), neighbours, power)


def extend_neighbours(
    content: Any,
    vectors: np.ndarray,
    neighbours: int = 100,
    power: float = 2.0,
    changed: Sequence[int] = (),
) -> Any:
    """:func:`content_neighbours` of a catalogue that has grown, known items' as they were.

    A new item gets its nearest items, and each of those the new item.

    Args:
        content: of the items known so far, sparse ``[known, known]``.
        vectors: float ``[n_items, dim]``, of the known items and the new ones after them.
        neighbours, power: as for :func:`content_neighbours`.
        changed: known items that are treated as new ones.

    Returns:
        sparse float64 ``[n_items, n_items]``.
    """
    unit, known = check_vectors(vectors, "content"), content.shape[0]
    fresh = np.concatenate([np.asarray(changed, np.int64), np.arange(known, len(unit))])
    found = _nearest_weights(unit, fresh[unit[fresh].any(axis=1)], neighbours, power)
    stays = np.ones(len(unit))
    stays[fresh] = 0
    kept = require("scipy.sparse", "eval").diags(stays)
    grown = content.copy()
    grown.resize(found.shape)
    if len(changed):
        grown = kept @ grown @ kept
    # the rows of fresh items stand in `found` already
    grown = (grown + found + kept @ found.T).tocsr()
    grown.eliminate_zeros()
    return grown


def _nearest_weights(unit: np.ndarray, of: np.ndarray, neighbours: int, power: float) -> Any:
    """Sparse ``[n_items, n_items]`` with the neighbours of some items, other rows empty."""
    shape = (len(unit), len(unit))
    sparse = require("scipy.sparse", "eval")
    known = np.flatnonzero(unit.any(axis=1))
    if not len(of):
        return sparse.csr_matrix(shape)
    index = build_index(unit[known], choose_kind("auto", len(known)))
    places, cosines = nearest(index, unit[of], neighbours + 1)
    rows = np.repeat(of, places.shape[1])
    columns, cosines = known[places].ravel(), cosines.ravel()  # a place of -1 has cosine -inf
    keep = (columns != rows) & (cosines > 0)
    weights = cosines[keep].astype(np.float64) ** power
    return sparse.csr_matrix((weights, (rows[keep], columns[keep])), shape=shape)
