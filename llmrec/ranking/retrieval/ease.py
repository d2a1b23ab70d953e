"""EASE: a linear item-to-item model in closed form (Steck, WWW 2019).

Its weights are those of a ridge regression of every item on all others, from one inverse of the
items' Gram matrix. Memory is ``n_items ** 2`` numbers, so it is for catalogues up to
:data:`MAX_ITEMS`.
"""

from __future__ import annotations

import numpy as np

from llmrec.config import check_ranges
from llmrec.errors import CatalogError, ConfigError, require
from llmrec.ranking.retrieval.vectors import newest_weighted
from llmrec.types import Histories

MAX_ITEMS = 20_000


class Ease:
    """A :class:`~llmrec.recommender.Scorer` of weights ``[n_items, n_items]``.

    Args:
        regularization: of the ridge regression, in users.
        decay: weight of a history item relative to the one after it when scoring, in (0, 1].
    """

    def __init__(self, regularization: float = 200.0, decay: float = 0.6) -> None:
        self.regularization, self.decay = regularization, decay
        check_ranges(self, "(0, inf)", "regularization")
        check_ranges(self, "(0, 1]", "decay")
        self.n_items = 0
        self._weights = np.zeros((0, 0), dtype=np.float32)

    def fit(self, train: Histories, n_items: int) -> Ease:
        """Invert the regularized Gram matrix.

        Raises:
            CatalogError: if the catalogue is empty.
            ConfigError: if it is too large.
        """
        if n_items < 1:
            raise CatalogError("the catalogue is empty; there is nothing to rank")
        if n_items > MAX_ITEMS:
            raise ConfigError(f"ease: {n_items:,} items are more than {MAX_ITEMS:,}; leave it out")
        sparse = require("scipy.sparse", "eval")
        linalg = require("scipy.linalg", "eval")
        taken = sparse.csr_matrix(
            (np.ones(len(train.items), np.float32), train.items, train.offsets),
            shape=(len(train), n_items),
            copy=True,  # summing duplicates works in place, and the histories are not ours
        )
        taken.sum_duplicates()
        taken.data[:] = 1
        gram = (taken.T @ taken).toarray()
        gram[np.diag_indices(n_items)] += self.regularization
        factor = linalg.lapack.spotrf(gram, lower=1, overwrite_a=True)[0]
        inverse = linalg.lapack.spotri(factor, lower=1, overwrite_c=True)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices(n_items)] = 0
        self.n_items, self._weights = n_items, weights
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, items]``; 0 everywhere for an empty history."""
        events = max(1, len(histories.items))
        query = newest_weighted(histories, self.decay, events, self.n_items)
        return np.asarray(query @ self._weights, np.float32)
