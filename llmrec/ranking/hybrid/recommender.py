"""A language model whose likelihood of an item is raised by what the item graph knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.errors import ArtifactError
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.constraints import Constraints
from llmrec.generation.llm import AtomicLlm, Llm, constraints_of
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.retrieval.graph_scorer import GraphScorer
from llmrec.recommender import top_n
from llmrec.types import Histories, Ranking


class HybridLlm:
    """Ranks by ``log-likelihood + bonus``.

    With semantic IDs the candidates are what the beam search finds and as many of the items with
    the highest bonus, all of them scored by both.

    Args:
        llm: the language model.
        prior: of the same catalogue.
    """

    def __init__(self, llm: Llm, prior: GraphPrior) -> None:
        self.llm, self.prior = llm, prior

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.llm.n_items

    def recommend(
        self,
        histories: Histories,
        n: int,
        *,
        exclude_history: bool = True,
        constraints: Sequence[Constraints] | None = None,
        options: SearchOptions | None = None,
    ) -> Ranking:
        """The n best items; arguments as for :meth:`~llmrec.generation.llm.Llm.recommend`."""
        allowed = constraints_of(histories, n, exclude_history, constraints)
        return self._best(histories, n, allowed, options or self.llm.options)

    def _best(
        self, histories: Histories, n: int, allowed: Sequence[Constraints], options: SearchOptions
    ) -> Ranking:
        wanted = max(options.beams, n)
        found = propose(self.llm, self.prior.scorer, histories, wanted, allowed, options)
        scores = found.log_likelihood + self.prior.of(found.graph).astype(np.float32)
        return best_of(found.items, scores, n)

    def score_items(
        self, histories: Histories, items: np.ndarray, *, options: SearchOptions | None = None
    ) -> np.ndarray:
        """Scores of given items; as for :meth:`~llmrec.generation.llm.Llm.score_items`."""
        scores = self.llm.score_items(histories, items, options=options)
        if not scores.size:
            return scores
        bonus = self.prior.bonus(histories).toarray()
        return scores + np.take_along_axis(bonus, np.maximum(items, 0), axis=1)


class AtomicHybridLlm(HybridLlm):
    """One token an item: a :class:`~llmrec.recommender.Scorer` as well, which misses nothing."""

    llm: AtomicLlm

    def score(self, histories: Histories) -> np.ndarray:
        """Log-likelihood and bonus of every item, float32 ``[users, n_items]``."""
        scores = self.llm.score(histories)
        bonus = self.prior.bonus(histories).tocoo()
        scores[bonus.row, bonus.col] += bonus.data
        return scores

    def _best(
        self, histories: Histories, n: int, allowed: Sequence[Constraints], options: SearchOptions
    ) -> Ranking:
        exists = self.llm.trie.leaf_of_item.cpu().numpy() >= 0
        scores = self.score(histories)
        for row, own in zip(scores, allowed, strict=True):
            row[~(own.passes(self.n_items) & exists)] = -np.inf
        return top_n(scores, n)


@dataclass(frozen=True)
class Proposed:
    """What language model and item graph propose, scored by both.

    Attributes:
        items: int64 ``[users, candidates]``, each at most once a user; -1 pads.
        log_likelihood: float32, of the language model; -inf where padded.
        graph: float64, of graph and content.
    """

    items: np.ndarray
    log_likelihood: np.ndarray
    graph: np.ndarray


def propose(
    llm: Llm,
    scorer: GraphScorer,
    histories: Histories,
    k: int,
    constraints: Sequence[Constraints],
    options: SearchOptions | None = None,
) -> Proposed:
    """The ``k`` best items of the language model and of the graph.

    Args:
        constraints: one a user.
        options: how the language model searches.
    """
    found = llm.recommend(
        histories, k, exclude_history=False, constraints=constraints, options=options
    )
    graph = scorer.sparse_scores(histories).toarray()
    proposed = np.where(graph > 0, graph, -np.inf).astype(np.float32)
    for row, own in zip(proposed, constraints, strict=True):
        row[~own.passes(llm.n_items)] = -np.inf
    known = top_n(proposed, k).items
    repeated = (known[:, :, None] == found.items[:, None, :]).any(axis=2)
    more = np.where(repeated, -1, known)
    items = np.concatenate([found.items, more], axis=1)
    scored = llm.score_items(histories, more, options=options)
    return Proposed(
        items,
        np.concatenate([found.scores, scored], axis=1),
        np.take_along_axis(graph, np.maximum(items, 0), axis=1),
    )


def with_prior(llm: Llm, prior: GraphPrior) -> HybridLlm:
    """The hybrid that fits the language model's item IDs.

    Raises:
        ArtifactError: if the two are of different catalogues.
    """
    if llm.n_items != prior.n_items:
        raise ArtifactError(
            f"the item graph is of {prior.n_items} items, the language model of {llm.n_items}; "
            "run llmrec hybrid again"
        )
    kind = AtomicHybridLlm if isinstance(llm, AtomicLlm) else HybridLlm
    return kind(llm, prior)


def best_of(items: np.ndarray, scores: np.ndarray, n: int) -> Ranking:
    """The n best of each user's candidates; ties go to the smaller item index.

    Args:
        items: int ``[users, candidates]``, each at most once a user; -1 pads.
        scores: float32 ``[users, candidates]``; -inf for padding.
    """
    order = np.lexsort((items, -scores), axis=1)[:, :n]
    items, scores = (np.take_along_axis(column, order, axis=1) for column in (items, scores))
    items = np.where(np.isneginf(scores), -1, items)
    pad = ((0, 0), (0, max(0, n - items.shape[1])))
    return Ranking(
        np.pad(items, pad, constant_values=-1), np.pad(scores, pad, constant_values=-np.inf)
    )
