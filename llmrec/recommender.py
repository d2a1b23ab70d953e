"""The two shapes a recommender can have, and how one becomes the other.

Everything that ranks (popularity, item-kNN, SASRec, the LLM with atomic or semantic
item IDs) is one of these, so the same evaluation, tests and service run on all of them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from llmrec.types import Histories, Ranking


@runtime_checkable
class Scorer(Protocol):
    """Scores the whole catalogue for a batch of users."""

    n_items: int

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, n_items]``; higher is better, finite everywhere."""
        ...


@runtime_checkable
class Recommender(Protocol):
    """Returns the best n items for a batch of users."""

    n_items: int

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        """Ranked item indices; see :class:`~llmrec.types.Ranking` for shapes and padding."""
        ...


def history_mask(histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of every (user, item of that user's history) pair."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths())
    return rows, histories.items


def top_n(scores: np.ndarray, n: int) -> Ranking:
    """The n best of every row; ties go to the smaller item index, -inf is never returned.

    Args:
        scores: float32 ``[users, items]``; -inf marks an item that may not be recommended.

    >>> top_n(np.array([[0.1, 0.5, 0.5, -np.inf]], dtype=np.float32), 4).items.tolist()
    [[1, 2, 0, -1]]
    """
    n_users, n_items = scores.shape
    keep = min(n, n_items)
    # The keep-th best value; everything above it is in, ties at it enter by index.
    threshold = -np.partition(-scores, keep - 1, axis=1)[:, keep - 1]
    items = np.full((n_users, n), -1, dtype=np.int64)
    best = np.full((n_users, n), -np.inf, dtype=np.float32)
    for user in range(n_users):
        row = scores[user]
        candidates = np.flatnonzero(row >= threshold[user])
        order = candidates[np.argsort(-row[candidates], kind="stable")][:keep]
        order = order[np.isfinite(row[order])]
        items[user, : len(order)] = order
        best[user, : len(order)] = row[order]
    return Ranking(items, best)


def recommend_from_scores(
    scorer: Scorer, histories: Histories, n: int, *, exclude_history: bool = True
) -> Ranking:
    """Turn a :class:`Scorer` into ranked lists."""
    scores = np.array(scorer.score(histories), dtype=np.float32)
    if exclude_history:
        scores[history_mask(histories)] = -np.inf
    return top_n(scores, n)
