"""The two protocols of a recommender, and how one becomes the other.

Everything that ranks (popularity, item-kNN, SASRec, the LLM with atomic or semantic
item IDs) is one of these, so the same evaluation, tests and service run on all of them.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from llmrec.errors import CatalogError, LlmrecError
from llmrec.types import Histories, Ranking

_SAMPLED = 16  # one in so many scores says which of them to look at


@runtime_checkable
class Scorer(Protocol):
    """Scores the whole catalogue for a batch of users."""

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        ...

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, n_items]``; higher is better, finite everywhere."""
        ...


@runtime_checkable
class ListRecommender(Protocol):
    """Returns the best n items for a batch of users."""

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        ...

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
        scores: float32 ``[users, items]`` without NaN; -inf marks an item that may not be
            recommended.

    >>> top_n(np.array([[0.1, 0.5, 0.5, -np.inf]], dtype=np.float32), 4).items.tolist()
    [[1, 2, 0, -1]]
    """
    n_users, n_items = scores.shape
    keep = min(n, n_items)
    items = np.full((n_users, n), -1, dtype=np.int64)
    best = np.full((n_users, n), -np.inf, dtype=np.float32)
    if keep == 0 or n_users == 0:
        return Ranking(items, best)
    # The keep-th best value of every row: what is above it is in, ties at it enter by index
    # until the row has exactly keep.
    threshold = np.array([_kth_best(row, keep) for row in scores])[:, None]
    above = scores > threshold
    tied = scores == threshold
    places = keep - np.count_nonzero(above, axis=1)
    crowded = np.count_nonzero(tied, axis=1) > places
    tied[crowded] &= np.cumsum(tied[crowded], axis=1, dtype=np.int32) <= places[crowded, None]
    candidates = np.flatnonzero(above | tied).reshape(n_users, keep) % n_items  # by index
    values = np.take_along_axis(scores, candidates, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")  # stable: ties stay in index order
    best[:, :keep] = np.take_along_axis(values, order, axis=1)
    items[:, :keep] = np.take_along_axis(candidates, order, axis=1)
    items[:, :keep][np.isneginf(best[:, :keep])] = -1
    return Ranking(items, best)


def _kth_best(scores: np.ndarray, k: int) -> np.floating[Any]:
    """The k-th highest of at least k scores.

    The k-th highest of every 16th score is no higher, and few of the others reach it: to find
    these is several times faster than to partition all.
    """
    some = scores[::_SAMPLED]
    if len(some) > _SAMPLED * k:
        scores = scores[scores >= _kth_best(some, k)]
    return np.partition(scores, len(scores) - k)[len(scores) - k]


def recommend_from_scores(
    scorer: Scorer, histories: Histories, n: int, *, exclude_history: bool = True
) -> Ranking:
    """Turn a :class:`Scorer` into ranked lists."""
    scores = np.array(scorer.score(histories), dtype=np.float32)
    if exclude_history:
        scores[history_mask(histories)] = -np.inf
    return top_n(scores, n)


def check_known(histories: Histories, n_items: int) -> None:
    """Check that every item of the histories is in the catalogue.

    Raises:
        CatalogError: if one is not.
    """
    items = histories.items
    if len(items) and not (items.min() >= 0 and items.max() < n_items):
        raise CatalogError(
            f"a history holds an item that is not among the {n_items} of the catalogue"
        )


def check_finite(scores: np.ndarray) -> None:
    """Check that every score is a number.

    Raises:
        LlmrecError: if one is not.
    """
    if not np.isfinite(scores).all():
        raise LlmrecError("the model's scores are not finite; its weights are damaged")
