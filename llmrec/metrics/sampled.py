"""Ranking against sampled negatives: the target among some items that the user never met.

The protocol of many published cross-domain tables. It flatters: of 999 sampled items hardly one is
a rival, so an order of methods by it need not be their order over the whole catalogue (Krichene and
Rendle, 2020). Report it beside the full ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draw_negatives(
    pool: np.ndarray, known: Sequence[np.ndarray], users: np.ndarray, n: int, seed: int
) -> np.ndarray:
    """Items of a pool that each user never met, drawn without replacement.

    A user's draw depends on the seed and the user alone, not on who is asked beside.

    Args:
        pool: int ``[items]``, distinct.
        known: of each case, the items of the user's whole sequence, its target among them.
        users: int ``[cases]``.
        n: negatives a case; all there are where fewer are left.

    Returns:
        int64 ``[cases, n]``; -1 pads.

    >>> draw_negatives(np.arange(4), [np.array([1, 2])], np.array([7]), 5, seed=0).tolist()
    [[0, 3, -1, -1, -1]]
    """
    drawn = np.full((len(users), n), -1, dtype=np.int64)
    for row, (items, user) in enumerate(zip(known, users, strict=True)):
        most = min(len(pool), n + len(items))  # enough, whatever of them the user knows
        rng = np.random.default_rng([seed, int(user)])
        some = pool if most == len(pool) else rng.choice(pool, most, replace=False)
        some = some[~np.isin(some, items)]
        if len(some) > n:
            some = rng.choice(some, n, replace=False) if most == len(pool) else some[:n]
        drawn[row, : len(some)] = some
    return drawn


def sampled_ranks(
    own: np.ndarray, others: np.ndarray, targets: np.ndarray, negatives: np.ndarray
) -> np.ndarray:
    """Rank of each target among its negatives, 0 the top; ties go to the smaller item index.

    Args:
        own: float ``[cases]``, scores of the targets.
        others: float ``[cases, n]``, of the negatives.
        targets: int ``[cases]``.
        negatives: int ``[cases, n]`` of :func:`draw_negatives`.

    Returns:
        int64 ``[cases]``.

    >>> negatives = np.array([[4, 9, -1]])
    >>> sampled_ranks(np.array([0.5]), np.array([[0.5, 0.5, 0.0]]), np.array([7]), negatives)
    array([1])
    """
    there = negatives >= 0
    tied = (others == own[:, None]) & (negatives < targets[:, None])
    return np.count_nonzero(((others > own[:, None]) | tied) & there, axis=1).astype(np.int64)
