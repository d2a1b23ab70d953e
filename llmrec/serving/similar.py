"""The items most like one: in content, and by how often people chose both."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmrec.generation.constraints import Constraints
from llmrec.ranking.retrieval.candidates import candidates, explain
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.content import ContentNeighbours
from llmrec.ranking.retrieval.item_to_item import ItemToItem
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.ranking.retrieval.source import Source
from llmrec.serving.item_list import ItemList
from llmrec.types import Histories

if TYPE_CHECKING:
    from llmrec.serving.bundle import Bundle
    from llmrec.serving.click_ranker import ClickRanker

BY_ITEM = (ContentNeighbours.name, ItemToItem.name)


class SimilarItems:
    """Ranks the catalogue by closeness to one item. Threads may use one at once.

    With a click model these are its candidate sources of content and co-occurrence, joined by
    reciprocal rank fusion; without one, the text vectors of the bundle.

    Args:
        bundle: opened.
        ranker: of its click model, or None without one.
    """

    def __init__(self, bundle: Bundle, ranker: ClickRanker | None) -> None:
        self.bundle, self._ranker = bundle, ranker

    def rank(self, item: int, n: int, now: float, constraints: Constraints) -> ItemList:
        """The n most like an item, of those that may be recommended.

        Args:
            now: seconds since 1970 UTC; NaN for unknown. Items that come later are left out.

        Raises:
            ConfigError: if the bundle holds nothing to compare items by.
        """
        request = Histories.from_lists([[item]], now=[now])
        (found,) = candidates(self._sources, request, n, n, constraints)
        history, title = np.array([item]), self.bundle.quoted_title
        rows = range(len(found.items))
        return ItemList(
            found.items,
            found.fused,
            [explain(self._sources, found, row, history, title) for row in rows],
            [tuple(found.sources_of(row)) for row in rows],
        )

    @cached_property
    def _sources(self) -> list[Source]:
        if self._ranker is not None:
            return [source for source in self._ranker.sources if source.name in BY_ITEM]
        catalogue = Catalogue(self.bundle.text_vectors("similar_to"))
        return [ContentNeighbours(catalogue, Snapshot.empty())]
