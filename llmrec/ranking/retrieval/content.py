"""The source ``content``: the nearest items by their vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.ranking.retrieval.source import Limits, Source, SourceScores, no_ranking, shortlist
from llmrec.ranking.retrieval.vectors import (
    FLAT_MAX,
    VectorIndex,
    cosines,
    depth_of,
    user_vectors,
)
from llmrec.types import Histories, Ranking


class ContentNeighbours(Source):
    """The items nearest to a user: to the mean of what the user took, the newest counting most.

    The score is the cosine. A user without a history has no scores, nor has an item without a
    vector (a zero row), nor one that becomes available only after the request.
    """

    name = "content"
    reason_priority = 1

    def __init__(self, catalogue: Catalogue, snapshot: Snapshot) -> None:
        super().__init__(catalogue, snapshot)
        self.index = self._index()
        self._rows = np.full(self.n_items, -1, dtype=np.int64)
        self._rows[self.index.items] = np.arange(len(self.index))

    def _index(self) -> VectorIndex:
        """Of the items that may be proposed."""
        return self.catalogue.index

    def _query(self, histories: Histories) -> SourceScores:
        return self._cosines(histories)

    def _cosines(self, histories: Histories) -> CosineScores:
        vectors, config = self.catalogue.vectors, self.config
        users = user_vectors(histories, vectors, config.decay, config.events)
        now = np.full(len(histories), np.inf) if histories.now is None else histories.now
        now = np.where(np.isnan(now), np.inf, now)
        return CosineScores(users, self.index, self._rows, self.catalogue.available_from, now)

    def reason(self, item: int, history: np.ndarray, title: Callable[[int], str]) -> str:
        recent = history[-self.config.events :]
        if not len(recent):
            return ""
        closeness = self.catalogue.vectors[recent] @ self.catalogue.vectors[item]
        best = int(np.argmax(closeness))
        return f"close to {title(int(recent[best]))}" if closeness[best] > 0 else ""


class CosineScores(SourceScores):
    """Cosines of users with some items.

    Args:
        users: float32 ``[users, dim]``, unit rows; zero for users of whom nothing is known.
        index: the items.
        rows: int64 ``[n_items]``, each item's row in the index; -1 where it has none.
        available_from: float64 ``[n_items]``, NaN unknown.
        now: float64 ``[users]``, of the requests; inf where not known.
    """

    def __init__(
        self,
        users: np.ndarray,
        index: VectorIndex,
        rows: np.ndarray,
        available_from: np.ndarray,
        now: np.ndarray,
    ) -> None:
        self.users, self.index, self.rows = users, index, rows
        self.available_from, self.now = available_from, now
        self.known: np.ndarray = np.asarray(users.any(axis=1))

    def best(self, k: int, limits: Limits) -> Ranking:
        best = no_ranking(len(self.users), k)
        known = np.flatnonzero(self.known)
        if not (len(known) and len(self.index)):
            return best
        depths = depth_of(k + limits.counts(len(self.users)))
        for depth in np.unique(depths[known]):
            users = known[depths[known] == depth]
            found = self._within(users, int(depth), k, limits)
            best.items[users], best.scores[users] = found.items, found.scores
        return best

    def of(self, items: np.ndarray) -> np.ndarray:
        rows = np.where(items >= 0, self.rows[items], -1) if len(self.rows) else items
        rows = np.where(self.known[:, None], rows, -1)
        found = cosines(self.users, self.index.vectors, rows)
        if len(self.available_from):
            found[self.available_from[items] > self.now[:, None]] = -np.inf  # False for NaN
        return found

    def _within(self, users: np.ndarray, depth: int, k: int, limits: Limits) -> Ranking:
        """The best k of some users."""
        if limits.allow is None:
            return self._search(users, depth, k, limits)[0]
        passing = np.flatnonzero(limits.allow.passes[self.index.items])
        wide = int(depth_of(np.array(depth * len(self.index) / max(len(passing), 1))))
        if len(passing) <= FLAT_MAX or wide > len(self.index) // 4:
            return self._search(users, depth, k, limits, passing)[0]
        found, counts = self._search(users, wide, k, limits)
        short = counts < k
        if short.any():  # what passes lies far from these users
            among = self._search(users[short], depth, k, limits, passing)[0]
            found.items[short], found.scores[short] = among.items, among.scores
        return found

    def _search(
        self,
        users: np.ndarray,
        depth: int,
        k: int,
        limits: Limits,
        among: np.ndarray | None = None,
    ) -> tuple[Ranking, np.ndarray]:
        """The best k of some users, and how many each has."""
        if among is None:
            items, scores = self.index.search(self.users[users], depth)
        else:
            items, scores = self.index.search_among(self.users[users], among, depth)
        own = limits.of_users(users, len(self.users))
        return shortlist(items, scores, k, own, len(self.rows))
