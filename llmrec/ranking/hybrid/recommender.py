"""A language model whose likelihood of an item is raised by what the item graph knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.errors import ArtifactError
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.constraints import Constraints
from llmrec.generation.llm import AtomicLlm, Llm, constraints_of
from llmrec.generation.vllm_adapters import AdaptedVllm
from llmrec.ranking.hybrid.evidence import Evidence, evidence_of
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.retrieval.graph_scorer import GraphScorer
from llmrec.recommender import Scorer, top_n
from llmrec.types import Histories, Ranking

_SCORES_AT_ONCE = 1 << 23  # of each part, float64: 64 MiB


class HybridLlm:
    """Ranks by ``log-likelihood + bonus``.

    The candidates are the items that the language model finds likeliest and as many of the items
    with the highest score by graph and content, all of them scored by both.

    Args:
        llm: the language model.
        prior: of the same catalogue.
    """

    def __init__(self, llm: Llm | AdaptedVllm, prior: GraphPrior) -> None:
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
        options = options or self.llm.options
        wanted = max(options.beams, n)
        found = propose(self.llm, self.prior.scorer, histories, wanted, allowed, options)
        scores = found.log_likelihood + self.prior.bonus(found.evidence)
        return best_of(found.items, scores, n)

    def score_items(
        self, histories: Histories, items: np.ndarray, *, options: SearchOptions | None = None
    ) -> np.ndarray:
        """Scores of given items; as for :meth:`~llmrec.generation.llm.Llm.score_items`."""
        scores = self.llm.score_items(histories, items, options=options)
        if not scores.size:
            return scores
        scorer = self.prior.scorer
        evidence = evidence_of(scorer, scorer.dense_parts(histories), histories, items, scores)
        return scores + self.prior.bonus(evidence)


@dataclass(frozen=True)
class Proposed:
    """What language model and item graph propose, scored by both.

    Attributes:
        items: int64 ``[users, candidates]``, each at most once a user; -1 pads.
        evidence: of them.
    """

    items: np.ndarray
    evidence: Evidence

    @property
    def log_likelihood(self) -> np.ndarray:
        """Of the language model, float32 ``[users, candidates]``; -inf where padded."""
        return self.evidence.log_likelihood

    @classmethod
    def joined(cls, some: Sequence[Proposed]) -> Proposed:
        """Those of several batches of users, one after the other."""
        items = np.concatenate([one.items for one in some])
        return cls(items, Evidence.joined([one.evidence for one in some]))


def propose(
    llm: Llm | AdaptedVllm | Scorer,
    scorer: GraphScorer,
    histories: Histories,
    k: int,
    constraints: Sequence[Constraints],
    options: SearchOptions | None = None,
) -> Proposed:
    """The ``k`` best items of the language model and of the graph.

    Args:
        constraints: one a user.
        options: how a language model searches.
    """
    at_once = max(1, _SCORES_AT_ONCE // llm.n_items)
    if len(histories) > at_once:
        some = []
        for start in range(0, len(histories), at_once):
            theirs = constraints[start : start + at_once]
            users = histories.select(np.arange(start, start + len(theirs)))
            some.append(propose(llm, scorer, users, k, theirs, options))
        return Proposed.joined(some)
    masks = [own.passes(llm.n_items) for own in constraints]
    every, passes = None, np.array(masks, dtype=bool).reshape(-1, llm.n_items)
    if isinstance(llm, Scorer):  # reading a history once gives the likelihood of every item
        every = llm.score(histories)
        if isinstance(llm, AtomicLlm):
            every[:, llm.trie.leaf_of_item.cpu().numpy() < 0] = -np.inf
        found = top_n(np.where(passes, every, np.float32(-np.inf)), k)
    else:
        found = llm.recommend(
            histories, k, exclude_history=False, constraints=constraints, options=options
        )
    parts = scorer.dense_parts(histories)
    # the best of the items that graph or content lead to
    led = scorer.combined(parts)
    known = top_n(np.where(passes & (led > 0), led, -np.inf).astype(np.float32), k).items
    repeated = (known[:, :, None] == found.items[:, None, :]).any(axis=2)
    more = np.where(repeated, -1, known)
    items = np.concatenate([found.items, more], axis=1)
    if isinstance(llm, Scorer):
        assert every is not None
        scored = np.take_along_axis(every, np.maximum(more, 0), axis=1)
        scored = np.where(more >= 0, scored, -np.inf).astype(np.float32)
    else:
        scored = llm.score_items(histories, more, options=options)
    log_likelihood = np.concatenate([found.scores, scored], axis=1)
    return Proposed(items, evidence_of(scorer, parts, histories, items, log_likelihood))


def with_prior(llm: Llm | AdaptedVllm, prior: GraphPrior) -> HybridLlm:
    """The hybrid that fits the language model's item IDs.

    Raises:
        ArtifactError: if the two are of different catalogues.
    """
    if llm.n_items != prior.n_items:
        raise ArtifactError(
            f"the item graph is of {prior.n_items} items, the language model of {llm.n_items}; "
            "run llmrec hybrid again"
        )
    return HybridLlm(llm, prior)


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
