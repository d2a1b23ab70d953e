"""Ranks with the language model of a bundle, and the item graph beside it where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmrec.recommender import top_n
from llmrec.serving.bundle import Bundle
from llmrec.serving.explanation import cross_domain_reasons
from llmrec.serving.query import Query
from llmrec.serving.timing import timed_llm
from llmrec.types import Histories, Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.generation.llm import Llm
    from llmrec.generation.vllm_adapters import AdaptedVllm
    from llmrec.ranking.hybrid.recommender import HybridLlm

LANGUAGE_MODEL, HYBRID = "language_model", "hybrid"


class LanguageRanker:
    """Makes the lists that no click model ranks. Many threads may ask one at once.

    Args:
        bundle: opened.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @property
    def name(self) -> str:
        """Who ranks."""
        return LANGUAGE_MODEL if self._bundle.prior is None else HYBRID

    def rank_all(self, queries: list[Query]) -> list[list[Recommendation]]:
        """The lists of queries that have an adapter and options in common."""
        if queries[0].items is None:
            rankings = self._search(queries)
        else:
            rankings = [self._order(query) for query in queries]
        lists = [
            self._bundle.items.named(ranking, query.request.n, self._reason(query), (self.name,))
            for query, ranking in zip(queries, rankings, strict=True)
        ]
        return [
            self._explained(query, found) if query.request.explain else found
            for query, found in zip(queries, lists, strict=True)
        ]

    def _explained(self, query: Query, found: list[Recommendation]) -> list[Recommendation]:
        """A list whose reasons also name the item of another shop that moved each item."""
        if not found or not len(query.positives):
            return found
        table = self._bundle.items
        items = np.array([table.index[one.item_id] for one in found])
        histories = query.positives.histories(query.now)
        moved = cross_domain_reasons(self._ranker_of(query), histories, items, table)
        return [
            replace(one, reason=f"{one.reason}; {more}") if more else one
            for one, more in zip(found, moved, strict=True)
        ]

    def _search(self, queries: list[Query]) -> list[Ranking]:
        """What the language model finds in the catalogue."""
        first = queries[0]
        found = self._ranker_of(first).recommend(
            Histories.concatenate([query.positives.histories(query.now) for query in queries]),
            min(max(query.request.n for query in queries), len(self._bundle.items)),
            exclude_history=False,
            constraints=[query.constraints for query in queries],
            options=first.request.options,
        )
        return [
            Ranking(found.items[row : row + 1], found.scores[row : row + 1])
            for row in range(len(queries))
        ]

    def _order(self, query: Query) -> Ranking:
        """The items of a query, ranked."""
        items = query.items
        assert items is not None
        if query.similarity is not None and not len(query.positives):
            return Ranking(items[None], query.similarity[None])
        histories = query.positives.histories(query.now)
        scores = self._ranker_of(query).score_items(
            histories, items[None], options=query.request.options
        )
        found = top_n(scores, len(items))
        return Ranking(items[found.items], found.scores)

    def _ranker_of(self, query: Query) -> Llm | AdaptedVllm | HybridLlm:
        """The language model of a query, with the item graph where the bundle has one."""
        llm = timed_llm(query.llm, query.watch)
        if self._bundle.prior is None:
            return llm
        from llmrec.ranking.hybrid.recommender import with_prior

        return with_prior(llm, self._bundle.prior)

    def _reason(self, query: Query) -> str:
        """Why the language model's items are recommended."""
        close, history = query.request.closeness, query.positives.items
        if close:
            return close + (" and likely after this history" if len(history) else "")
        if len(history):
            return f"likely to follow {self._bundle.titles[history[-1]]!r}"
        return "popular with everyone; there is no history to go by"
