"""Item-item co-occurrence: the cosine of items over users, within a window of events.

Two items co-occur in a user's history when they stand at most ``window`` events apart. A user
counts once for a pair. Divided by the items' norms plus ``shrink`` this is the cosine of item-kNN
(:mod:`llmrec.ranking.retrieval.item_knn`) where the window spans every history, and leaves out
pairs that lie far apart in a long one where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from llmrec.errors import require
from llmrec.ranking.retrieval.interactions import Interactions
from llmrec.ranking.retrieval.item_knn import best_of_rows

_PAIRS = 1 << 22  # pairs held at once
_KEYS = 1 << 62  # (user, item, item) as one number stays below


def co_occurrence(
    log: Interactions, n_items: int, window: int, neighbours: int, shrink: float
) -> Any:
    """Items by items, sparse: row ``i`` holds the cosines of the best neighbours of item ``i``.

    Returns:
        float32 ``csr_matrix [n_items, n_items]``, no diagonal, indices ascending in a row; only
        positive values, of which ties go to the smaller index.
    """
    sparse = require("scipy.sparse", "eval")
    counts = sparse.csr_matrix((n_items, n_items), dtype=np.float64)
    users_of_item = np.zeros(n_items)
    for users, items in _blocks(log, n_items, window):
        distinct = np.unique(users * n_items + items)
        users_of_item += np.bincount(distinct % n_items, minlength=n_items)
        counts = counts + _count_pairs(users, items, n_items, window)
    norms = np.sqrt(users_of_item)
    found = counts.tocoo()
    scale = norms[found.row] * norms[found.col] + shrink
    shape = (n_items, n_items)
    best = best_of_rows(found.row, found.col, found.data / scale, neighbours, shape)
    best = best.astype(np.float32)
    best.sort_indices()
    return best


def _blocks(log: Interactions, n_items: int, window: int) -> Iterator[tuple[np.ndarray, ...]]:
    """(users from 0, items) of some whole users at a time, each in time order."""
    order = np.argsort(log.user, kind="stable")
    users = np.unique(log.user[order], return_inverse=True)[1]
    most = max(1, _KEYS // max(n_items, 1) ** 2)
    start = 0
    while start < len(order):
        end = np.searchsorted(users, users[min(start + _PAIRS // window, len(order) - 1)], "right")
        end = min(end, np.searchsorted(users, users[start] + most, "left"))
        yield users[start:end] - users[start], log.item[order[start:end]]
        start = int(end)


def _count_pairs(users: np.ndarray, items: np.ndarray, n_items: int, window: int) -> Any:
    """Users of every pair of items, sparse ``[items, items]``."""
    keys = [np.zeros(0, dtype=np.int64)]
    for distance in range(1, min(window, len(items) - 1) + 1):
        pair = (users[:-distance] == users[distance:]) & (items[:-distance] != items[distance:])
        first, second = items[:-distance][pair], items[distance:][pair]
        low, high = np.minimum(first, second), np.maximum(first, second)
        keys.append((users[:-distance][pair] * n_items + low) * n_items + high)
    pairs = np.unique(np.concatenate(keys))
    low, high = pairs // n_items % n_items, pairs % n_items
    sparse = require("scipy.sparse", "eval")
    upper = sparse.csr_matrix((np.ones(len(pairs)), (low, high)), shape=(n_items, n_items))
    return upper + upper.T
