"""The source ``item_to_item``: co-occurrence with the items of the history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np

from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.ranking.retrieval.source import DenseScores, Source, SourceScores
from llmrec.ranking.retrieval.vectors import newest_weighted
from llmrec.types import Histories


class ItemToItem(Source):
    """Item-to-item collaborative filtering, the newest event counting most.

    The score is the sum of the co-occurrence cosines with the newest items of the history, each
    weighted ``item_to_item_decay`` times the one after it. An item that never occurs with any has 0
    and is not proposed; a user without a history has no scores.
    """

    name = "item_to_item"
    reason_priority = 0

    def __init__(self, catalogue: Catalogue, snapshot: Snapshot) -> None:
        super().__init__(catalogue, snapshot)
        self._similarity = snapshot.similarity(self.n_items)
        matrix = self._similarity
        self._parts: Any = [memoryview(p) for p in (matrix.indptr, matrix.indices, matrix.data)]

    def _query(self, histories: Histories) -> SourceScores:
        config = self.config
        weights = newest_weighted(
            histories, config.item_to_item_decay, config.item_to_item_events, self.n_items
        )
        scores = (weights @ self._similarity).toarray()
        scores[histories.lengths() == 0] = -np.inf
        return DenseScores(scores, floor=0.0)

    def reason(self, item: int, history: np.ndarray, title: Callable[[int], str]) -> str:
        recent = history[-self.config.item_to_item_events :][::-1].tolist()
        if not recent:
            return ""
        best = max(recent, key=lambda other: self._cosine(other, item))  # of equal ones the newest
        if not self._cosine(best, item):
            return ""
        return f"often chosen together with {title(best)}"

    def _cosine(self, row: int, column: int) -> float:
        """One number of the matrix, whose own indexing takes hundreds of times as long."""
        rows, columns, values = self._parts
        end = rows[row + 1]
        at = bisect_left(columns, column, rows[row], end)
        return float(values[at]) if at < end and columns[at] == column else 0.0
