"""Which items are taken together: the cosine of items over users, within a window of events.

Two items are together in a user's history when they stand at most ``window`` events apart. A user
counts once for a pair, by the product of the weights of the two (the largest weight where an item
was taken more than once). Divided by the items' norms plus ``shrink`` this is the cosine of
item-kNN (:mod:`llmrec.ranking.retrieval.item_knn`) where the window spans every history, and passes
over what lies far apart in a long one where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from llmrec.errors import require
from llmrec.ranking.retrieval.item_knn import best_of_rows
from llmrec.ranking.retrieval.log import Log

_PAIRS = 1 << 22  # pairs held at once
_KEYS = 1 << 62  # (user, item, item) as one number stays below


def co_occurrence(log: Log, n_items: int, window: int, neighbours: int, shrink: float) -> Any:
    """Items by items, sparse: row ``i`` holds the cosines of the best neighbours of item ``i``.

    Returns:
        float32 ``csr_matrix [n_items, n_items]``, no diagonal, indices ascending in a row.
    """
    sparse = require("scipy.sparse", "eval")
    together = sparse.csr_matrix((n_items, n_items), dtype=np.float64)
    norms = np.zeros(n_items)
    for users, items, weights in _blocks(log, n_items, window):
        pairs, squares = _count(users, items, weights, n_items, window)
        norms += squares
        together = together + pairs
    norms = np.sqrt(norms)
    found = together.tocoo()
    scale = norms[found.row] * norms[found.col] + shrink
    return positive_best(found.row, found.col, found.data / scale, n_items, neighbours)


def _blocks(log: Log, n_items: int, window: int) -> Iterator[tuple[np.ndarray, ...]]:
    """(users from 0, items, weights) of some whole users at a time, each in time order."""
    order = np.argsort(log.user, kind="stable")
    users = np.unique(log.user[order], return_inverse=True)[1]
    most = max(1, _KEYS // max(n_items, 1) ** 2)
    start = 0
    while start < len(order):
        end = np.searchsorted(users, users[min(start + _PAIRS // window, len(order) - 1)], "right")
        end = min(end, np.searchsorted(users, users[start] + most, "left"))
        rows = order[start:end]
        yield users[start:end] - users[start], log.item[rows], log.weight[rows].astype(np.float64)
        start = int(end)


def _count(
    users: np.ndarray, items: np.ndarray, weights: np.ndarray, n_items: int, window: int
) -> tuple[Any, np.ndarray]:
    """Weighted pairs ``[items, items]`` and every item's sum of squared weights ``[items]``."""
    sparse = require("scipy.sparse", "eval")
    taken, place = np.unique(users * n_items + items, return_inverse=True)
    weight = np.zeros(len(taken))
    np.maximum.at(weight, place, weights)
    squares = np.bincount(taken % n_items, weights=weight**2, minlength=n_items)
    keys = [np.zeros(0, dtype=np.int64)]
    for distance in range(1, min(window, len(items) - 1) + 1):
        pair = (users[:-distance] == users[distance:]) & (items[:-distance] != items[distance:])
        first, second = items[:-distance][pair], items[distance:][pair]
        low, high = np.minimum(first, second), np.maximum(first, second)
        keys.append((users[:-distance][pair] * n_items + low) * n_items + high)
    pairs = np.unique(np.concatenate(keys))
    owner, low, high = pairs // n_items**2, pairs // n_items % n_items, pairs % n_items
    counts = weight[np.searchsorted(taken, owner * n_items + low)]
    counts = counts * weight[np.searchsorted(taken, owner * n_items + high)]
    upper = sparse.csr_matrix((counts, (low, high)), shape=(n_items, n_items))
    return upper + upper.T, squares


def positive_best(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, n: int, k: int) -> Any:
    """A sparse ``[n, n]`` matrix of the k largest positive values of every row, float32.

    Ties go to the smaller column.
    """
    keep = values > 0
    rows, columns, values = rows[keep], columns[keep], values[keep]
    matrix = best_of_rows(rows, columns, values, k, (n, n)).astype(np.float32)
    matrix.sort_indices()
    return matrix
