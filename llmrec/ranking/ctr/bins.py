"""Quantile bins of numeric features."""

from __future__ import annotations

import numpy as np


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges of bins that hold about as many rows each, float32 ``[features, bins + 1]``.

    A value that many rows share, such as 0 of a count, takes one edge and no more, so that the
    bins distinguish the others.

    Args:
        values: float32 ``[rows, features]``; NaN is left out. A constant feature has bins of no
            width, one that is always missing has NaN.

    >>> quantile_edges(np.float32([[0], [0], [0], [0], [1], [2]]), 2).tolist()
    [[0.0, 1.0, 2.0]]
    """
    edges = np.full((values.shape[1], bins + 1), np.nan, dtype=np.float32)
    for column in range(values.shape[1]):
        known = values[:, column][~np.isnan(values[:, column])]
        if len(known):
            found = _edges(known, bins)
            edges[column] = found[np.minimum(np.arange(bins + 1), len(found) - 1)]
    return edges


def _edges(known: np.ndarray, bins: int) -> np.ndarray:
    """At most ``bins + 1`` different values, rising."""
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= bins + 1:
        return distinct
    shared = distinct[counts > len(known) / bins]  # fewer than `bins`
    rest = known[~np.isin(known, shared)]
    room = bins + 1 - len(shared)
    if not len(rest) or room < 2:
        return np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)))
    return np.unique(np.concatenate([shared, np.quantile(rest, np.linspace(0, 1, room))]))
