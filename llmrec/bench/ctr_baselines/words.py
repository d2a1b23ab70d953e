"""The words of items as a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.bench.ctr_baselines.table import Table
from llmrec.errors import require


def count_words(table: Table) -> int:
    """Ids that the words of a catalogue take: the greatest and all below."""
    return int(table.bag_ids.max()) + 1 if len(table.bag_ids) else 0


def item_words(table: Table, n_words: int) -> Any:
    """float32 CSR ``[items, n_words]``, each row of length 1 (or 0); other words are left out."""
    sparse = require("scipy.sparse", "ctr")
    owner = np.repeat(np.arange(table.n_items), np.diff(table.bag_offsets))
    known = table.bag_ids < n_words
    owner, words = owner[known], table.bag_ids[known]
    values = np.ones(len(words), dtype=np.float32)
    shape = (table.n_items, n_words)
    matrix = sparse.coo_matrix((values, (owner, words)), shape=shape).tocsr()  # sums repetitions
    squares = np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()
    lengths = np.sqrt(np.maximum(squares, 1.0))
    matrix.data /= np.repeat(lengths, np.diff(matrix.indptr)).astype(np.float32)
    return matrix
