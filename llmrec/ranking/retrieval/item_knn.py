"""Item-kNN: items similar to those of a history, the latest ones counting most.

Two items are similar when the same users took them. Counting is weighted (plain, or TF-IDF: a
user of everything tells little), normalised to a cosine with shrinkage, and cut to each item's
best neighbours (Sarwar et al., WWW 2001; weighting as in information retrieval). A user's score
for an item is the sum of its similarity to the items of the history, each counting ``decay`` times
as much as the one after it. Items without any neighbour in the history follow, by popularity, so
an empty history gets popular items.

The defaults are the best by NDCG@10 on the validation split of Amazon 2014 Beauty: weighting,
shrink (0 to 100) and decay (0.5 to 1) on a grid, then 20 to 2,000 neighbours at its best point
(beyond 500 the gain is in the fifth decimal place). BM25 is not among the weightings: on pairs
that are there or not its item factor cancels in the cosine.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from llmrec.config import check_ranges
from llmrec.errors import CatalogError, ConfigError, require
from llmrec.ranking.retrieval.vectors import newest_weighted
from llmrec.types import Histories

Weighting = Literal["cosine", "tfidf"]
_BLOCK = 2048  # rows of the similarity matrix made at once


class ItemKNN:
    """A :class:`~llmrec.recommender.Scorer` from item-item co-occurrence.

    Args:
        neighbours: similar items kept for each item.
        weighting: how a (user, item) pair counts.
        shrink: added to the cosine's denominator, in users; trusts pairs of many users
            more than pairs of rare items.
        decay: weight of a history item relative to the one after it, in (0, 1].
    """

    def __init__(
        self,
        neighbours: int = 500,
        weighting: Weighting = "tfidf",
        shrink: float = 40.0,
        decay: float = 0.6,
    ) -> None:
        self.neighbours, self.weighting = neighbours, weighting
        self.shrink, self.decay = shrink, decay
        check_ranges(self, "[1, inf)", "neighbours")
        check_ranges(self, "[0, inf)", "shrink")
        check_ranges(self, "(0, 1]", "decay")
        if weighting not in get_args(Weighting):
            raise ConfigError(f"weighting: {weighting!r} is not one of cosine, tfidf")
        self.n_items = 0
        self._similarity: Any = None
        self._fallback = np.zeros(0, dtype=np.float32)

    def fit(self, train: Histories, n_items: int) -> ItemKNN:
        """Count and normalise; quadratic in the longest history, block by block in memory.

        Raises:
            CatalogError: if the catalogue is empty.
        """
        if n_items < 1:
            raise CatalogError("the catalogue is empty; there is nothing to rank")
        self.n_items = n_items
        self._similarity = self._neighbours(self._weighted(train))
        counts = np.bincount(train.items, minlength=n_items)
        # in [-1, 0): below every similarity, which is positive
        self._fallback = (counts / (counts.max() + 1.0) - 1.0).astype(np.float32)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, items]``; positive where an item of the history is similar."""
        events = len(histories.items)
        weights = newest_weighted(histories, self.decay, events, self.n_items, np.float64)
        scores = (weights @ self._similarity).toarray().astype(np.float32)
        return np.where(scores > 0, scores, self._fallback)

    def _weighted(self, train: Histories) -> Any:
        """Users by items, sparse, each pair once."""
        matrix = _sparse().csr_matrix(
            (np.ones(len(train.items)), train.items, train.offsets),
            shape=(len(train), self.n_items),
            copy=True,  # summing duplicates works in place, and the histories are not ours
        )
        matrix.sum_duplicates()
        matrix.data[:] = 1.0  # taking an item twice is one fact about the pair
        if self.weighting == "cosine":
            return matrix
        per_user = np.diff(matrix.indptr)
        rarity = np.log1p(self.n_items / np.maximum(per_user, 1))  # a user is the "term"
        matrix.data *= np.repeat(rarity, per_user)
        matrix.data /= matrix.data.mean() if matrix.nnz else 1.0  # shrink is in users again
        return matrix

    def _neighbours(self, matrix: Any) -> Any:
        """Items by items, sparse: row i holds the best neighbours of item i."""
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
        columns, rows = matrix.tocsr(), matrix.T.tocsr()
        blocks = []
        for start in range(0, self.n_items, _BLOCK):
            block = (rows[start : start + _BLOCK] @ columns).tocoo()
            item, other = block.row + start, block.col
            similarity = block.data / (norms[item] * norms[other] + self.shrink)
            similarity[item == other] = 0.0
            blocks.append(best_of_rows(block.row, other, similarity, self.neighbours, block.shape))
        return _sparse().vstack(blocks, format="csr")


def best_of_rows(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, k: int, shape: tuple[int, int]
) -> Any:
    """A sparse matrix of the k largest positive values of every row; ties: the smaller column."""
    rows, columns, values = (column[values > 0] for column in (rows, columns, values))
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    first = np.searchsorted(rows, rows)  # where this row's entries start
    keep = np.arange(len(rows)) - first < k
    return _sparse().csr_matrix((values[keep], (rows[keep], columns[keep])), shape=shape)


def _sparse() -> Any:
    return require("scipy.sparse", "eval")
