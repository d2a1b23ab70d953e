"""A scorer whose score of every item is raised by what the item graph knows."""

from __future__ import annotations

import numpy as np

from llmrec.ranking.hybrid.evidence import evidence_of
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.recommender import Scorer, recommend_from_scores
from llmrec.types import Histories, Ranking

_ITEMS_AT_ONCE = 1 << 19  # users times items that the correction looks at


class HybridScorer:
    """Ranks by ``log-likelihood + bonus``, every item of the catalogue.

    Args:
        scorer: gives log-likelihoods.
        prior: of the same catalogue.
    """

    def __init__(self, scorer: Scorer, prior: GraphPrior) -> None:
        self.scorer, self.prior = scorer, prior

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.scorer.n_items

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, n_items]``."""
        scores = self.scorer.score(histories)
        at_once = max(1, _ITEMS_AT_ONCE // self.n_items)
        for start in range(0, len(histories), at_once):
            rows = np.arange(start, min(start + at_once, len(histories)))
            scores[rows] += self._bonus(histories.select(rows), scores[rows])
        return scores

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        """The n best-scored items."""
        return recommend_from_scores(self, histories, n, exclude_history=exclude_history)

    def _bonus(self, histories: Histories, scores: np.ndarray) -> np.ndarray:
        graph = self.prior.scorer
        parts = graph.dense_parts(histories)
        items = np.broadcast_to(np.arange(self.n_items), scores.shape)
        return self.prior.bonus(evidence_of(graph, parts, histories, items, scores))
