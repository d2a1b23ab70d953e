"""STAR: content similarity and co-occurrence, added without training (Lee et al., 2024).

A candidate's score is a weighted sum, over the newest items of the history, of ``share`` times the
cosine of the two items' text embeddings and ``1 - share`` times their co-occurrence, the number of
users with both divided by the root of the product of the users of each. Only its retrieval is
here; the paper's second step asks a large language model to order the best.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.config import check_ranges
from llmrec.errors import CatalogError, require
from llmrec.ranking.retrieval.vectors import check_vectors, newest_weighted
from llmrec.types import Histories


class Star:
    """A :class:`~llmrec.recommender.Scorer`.

    Args:
        vectors: float ``[n_items, dim]``, content.
        share: of content in the sum, in [0, 1].
        decay: weight of a history item relative to the one after it, in (0, 1].
        events: newest items of a history that count.
    """

    def __init__(
        self, vectors: np.ndarray, share: float = 0.5, decay: float = 0.7, events: int = 3
    ) -> None:
        self.share, self.decay, self.events = share, decay, events
        check_ranges(self, "[0, 1]", "share")
        check_ranges(self, "(0, 1]", "decay")
        check_ranges(self, "[1, inf)", "events")
        self.vectors = check_vectors(vectors, "content")
        self.n_items = len(vectors)
        self._co_occurrence: Any = None

    def fit(self, train: Histories, n_items: int) -> Star:
        """Count.

        Raises:
            CatalogError: if the vectors are of another catalogue.
        """
        if n_items != self.n_items or n_items < 1:
            raise CatalogError(f"content of {self.n_items} items for a catalogue of {n_items}")
        sparse = require("scipy.sparse", "eval")
        taken = sparse.csr_matrix(
            (np.ones(len(train.items)), train.items, train.offsets),
            shape=(len(train), n_items),
            copy=True,  # summing duplicates works in place, and the histories are not ours
        )
        taken.sum_duplicates()
        taken.data[:] = 1
        scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(taken.sum(axis=0)).ravel(), 1)))
        counts = taken.T @ taken
        counts.setdiag(0)
        self._co_occurrence = (scale @ counts @ scale).tocsr()
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, items]``; 0 everywhere for an empty history."""
        query = newest_weighted(histories, self.decay, self.events, self.n_items)
        content = (query @ self.vectors) @ self.vectors.T
        together = (query @ self._co_occurrence).toarray()
        return np.asarray(self.share * content + (1 - self.share) * together, np.float32)
