"""The source ``generated``: items whose IDs the language model generates after the history.

The score is the item's log-likelihood. With atomic IDs, as with any other model that scores the
whole catalogue, one pass over the history ranks and scores; with semantic IDs a beam search ranks
and a second pass over the trie scores given items.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from llmrec.ranking.retrieval.catalogue import Catalogue, Generator
from llmrec.ranking.retrieval.source import DenseScores, Limits, Source, SourceScores
from llmrec.recommender import Scorer
from llmrec.types import Histories, Ranking


class Generated(Source):
    """Items that the catalogue's language model generates.

    Items newer than the model are left out of the histories that it reads and have no score.
    """

    name = "generated"
    feature_group = "llm"
    reason_priority = 2

    @classmethod
    def available(cls, catalogue: Catalogue) -> bool:
        return catalogue.model is not None

    def _query(self, histories: Histories) -> SourceScores:
        model = self.catalogue.model
        assert model is not None  # `available` says so
        known = known_part(histories, model.n_items)
        if not isinstance(model, Scorer):
            return _BeamSearchScores(model, known)
        scores = np.full((len(histories), self.n_items), -np.inf, dtype=np.float32)
        if model.n_items:
            scores[:, : model.n_items] = model.score(known)
            scores[:, : model.n_items][:, ~_in_trie(model)] = -np.inf
        return DenseScores(scores)

    def reason(self, item: int, history: np.ndarray, title: Callable[[int], str]) -> str:
        if not len(history):
            return "what many begin with"
        return f"likely to follow {title(int(history[-1]))}"


class _BeamSearchScores(SourceScores):
    def __init__(self, model: Generator, histories: Histories) -> None:
        self.model, self.histories = model, histories

    def best(self, k: int, limits: Limits) -> Ranking:
        from llmrec.generation.constraints import Constraints

        order = np.argsort(limits.users, kind="stable")
        users, items = limits.users[order], limits.items[order]
        known = items < self.model.n_items
        users, items = users[known], items[known]
        ends = np.searchsorted(users, np.arange(len(self.histories) + 1))
        own = [
            Constraints(exclude=items[start:end], allow=limits.allow)
            for start, end in itertools.pairwise(ends)
        ]
        return self.model.recommend(self.histories, k, exclude_history=False, constraints=own)

    def of(self, items: np.ndarray) -> np.ndarray:
        known = np.where(items < self.model.n_items, items, -1)
        return self.model.score_items(self.histories, known)


def known_part(histories: Histories, n_items: int) -> Histories:
    """The histories without items that come after the first ``n_items``."""
    known = histories.items < n_items
    if known.all():
        return histories
    kept = np.concatenate([[0], np.cumsum(known)])
    times = histories.timestamps
    return Histories(
        histories.items[known],
        kept[histories.offsets].astype(np.int64),
        None if times is None else times[known],
        histories.now,
    )


def _in_trie(model: Any) -> np.ndarray:
    """bool ``[n_items]``, what may be proposed; a model over a changed catalogue scores also
    items that are no longer there."""
    trie = getattr(model, "trie", None)
    if trie is None:
        return np.ones(model.n_items, dtype=bool)
    return trie.leaf_of_item.cpu().numpy() >= 0
