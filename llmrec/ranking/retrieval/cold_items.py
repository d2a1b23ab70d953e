"""What stands in for items that no edge of an item graph leads to: the nearest of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from llmrec.errors import require


@dataclass(frozen=True)
class ColdItems:
    """Items that no edge leads to, and the items that stand in for each.

    Attributes:
        items: int64 ``[cold]``, rising.
        neighbours: sparse float64 ``[cold, n_items]``; a row sums to 1, or to 0 where no other
            item is alike.
    """

    items: np.ndarray
    neighbours: Any

    @classmethod
    def of(cls, items: np.ndarray, content: Any, most: int) -> Self:
        """The nearest items that edges lead to.

        Args:
            items: int ``[cold]``, rising; edges lead to all others.
            content: sparse ``[n_items, n_items]``, weights of content neighbours.
            most: neighbours of each item.
        """
        rows = content[items].tocsr()
        warm = np.ones(content.shape[0], dtype=bool)
        warm[items] = False
        row = np.repeat(np.arange(len(items)), np.diff(rows.indptr))
        known = warm[rows.indices]
        row, column, weight = row[known], rows.indices[known], rows.data[known]
        order = np.lexsort((column, -weight, row))  # ties go to the smaller item index
        row, column, weight = row[order], column[order], weight[order]
        counts = np.bincount(row, minlength=len(items))
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = place < most
        row, column, weight = row[kept], column[kept], weight[kept]
        total = np.bincount(row, weight, len(items))
        shape = (len(items), content.shape[0])
        matrix = require("scipy.sparse", "eval").csr_matrix
        return cls(items, matrix((weight / total[row], (row, column)), shape=shape))

    def fill(self, scores: np.ndarray) -> None:
        """Put the neighbours' mean in place of a cold item's score, in float64 ``[users, n]``."""
        scores[:, self.items] = (self.neighbours @ scores.T).T

    def filled(self, scores: Any) -> Any:
        """The same for sparse scores ``[users, n_items]``, in which a cold item has none."""
        found = (scores @ self.neighbours.T).tocsr()
        places = (found.data, self.items[found.indices], found.indptr)
        return scores + require("scipy.sparse", "eval").csr_matrix(places, shape=scores.shape)
