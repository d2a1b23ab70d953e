"""Which epoch is best: a score of an encoder on users, or items, that are held out of training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from llmrec.content.fusion.embedding import embed
from llmrec.content.fusion.modalities import Modalities, two_subsets
from llmrec.content.fusion.retrieval import RetrievalCases, measure

Score = Callable[[nn.Module], float]


def retrieval_score(modalities: Modalities, cases: RetrievalCases) -> Score:
    """Mean NDCG@10 of item-to-item retrieval; see :mod:`llmrec.content.fusion.retrieval`.

    Args:
        cases: one or more, of users held out of training.
    """

    def score(encoder: nn.Module) -> float:
        found = measure(embed(encoder, modalities), cases).by_query()
        return float(found["ndcg@10"].mean())

    return score


def contrast_score(modalities: Modalities, items: np.ndarray, seed: int) -> Score:
    """Mean reciprocal rank of an item: one subset of its modalities is the query, another the key.

    Args:
        items: int64, two or more items that each have two modalities or more.
        seed: of the subsets, which are the same at every call.
    """
    several = Modalities(
        {name: block[items] for name, block in modalities.blocks.items()},
        modalities.present[items],
    )
    first, second = two_subsets(several.present, np.random.default_rng(seed))

    def score(encoder: nn.Module) -> float:
        cosines = embed(encoder, several, first) @ embed(encoder, several, second).T
        ranks = (cosines > np.diag(cosines)[:, None]).sum(axis=1)
        return float((1 / (1 + ranks)).mean())

    return score
