"""The source ``popular``: recent popularity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.ranking.retrieval.source import Limits, Source, SourceScores, shortlist
from llmrec.types import Histories, Ranking


class Popular(Source):
    """Popularity with a half-life, the same for everybody.

    The score is ``log(1 + count)``, where an event counts half as much for every half-life that
    lies between it and the snapshot. An item without events has 0 and is not proposed.
    """

    name = "popular"
    reason_priority = 4

    def __init__(self, catalogue: Catalogue, snapshot: Snapshot) -> None:
        super().__init__(catalogue, snapshot)
        self.scores = np.zeros(self.n_items, dtype=np.float32)
        self.scores[: snapshot.n_items] = np.log1p(snapshot.popularity)
        order = np.argsort(-self.scores, kind="stable")
        self._order = order[self.scores[order] > 0]

    def _query(self, histories: Histories) -> SourceScores:
        return _SharedScores(self.scores, self._order, len(histories))

    def reason(self, item: int, history: np.ndarray, title: Callable[[int], str]) -> str:
        return "popular lately"


class _SharedScores(SourceScores):
    """One ranking for all users: scores ``[n_items]`` and the items in their order."""

    def __init__(self, scores: np.ndarray, order: np.ndarray, n_users: int) -> None:
        self.scores, self.order, self.n_users = scores, order, n_users

    def best(self, k: int, limits: Limits) -> Ranking:
        order = self.order
        if limits.allow is not None:
            order = order[limits.allow.passes[order]]
        # as many further ones as are excluded for a user are enough
        order = order[: k + int(limits.counts(self.n_users).max(initial=0))]
        items = np.tile(order, (self.n_users, 1))
        return shortlist(items, self.scores[items], k, limits, len(self.scores))[0]

    def of(self, items: np.ndarray) -> np.ndarray:
        return np.where(items >= 0, self.scores[items], np.float32(-np.inf))
