"""Are two rankings the same, apart from ties?"""

from __future__ import annotations

import numpy as np

from llmrec.types import Ranking


def same_order(values: np.ndarray, reference: np.ndarray, tolerance: float) -> np.ndarray:
    """Which users' lists are the reference's, ties aside; bool ``[users]``.

    Args:
        values: ``[users, n]``, the reference's own scores of the items that were found; NaN for
            an item that must not be there.
        reference: ``[users, n]``, its best scores, best first.

    >>> same_order(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[2.0, 1.0]] * 2), 0.1).tolist()
    [True, False]
    """
    with np.errstate(invalid="ignore"):
        close = np.abs(values - reference) <= tolerance
    same: np.ndarray = (close | (values == reference)).all(axis=1)  # -inf is no distance from -inf
    return same


def same_as(found: Ranking, reference: Ranking, tolerance: float) -> np.ndarray:
    """Which users' lists are the reference's, ties aside; bool ``[users]``.

    An item the reference lacks is a tie only with the last of its list.
    """
    values = np.full(found.items.shape, np.nan)
    for user, row in enumerate(found.items):
        scores = dict(zip(reference.items[user].tolist(), reference.scores[user], strict=True))
        last = reference.scores[user, -1]
        for place, item in enumerate(row.tolist()):
            own = found.scores[user, place]
            tied = np.isfinite(last) and abs(own - last) <= tolerance
            values[user, place] = scores.get(item, last if tied else np.nan)
    return same_order(values, reference.scores, tolerance) & all_differ(found.items)


def all_differ(items: np.ndarray) -> np.ndarray:
    """Whether no item stands twice in a list ``[users, n]``; bool ``[users]``.

    >>> all_differ(np.array([[3, 1, -1, -1], [3, 1, 3, -1]])).tolist()
    [True, False]
    """
    ordered = np.sort(items, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    differ: np.ndarray = ~twice.any(axis=1)
    return differ


def overlap(found: np.ndarray, reference: np.ndarray) -> float:
    """Share of the reference's items that were found, whatever their order; -1 is no item.

    >>> overlap(np.array([[3, 1, 7]]), np.array([[1, 3, 4]]))
    0.6666666666666666
    """
    there = reference >= 0
    same = (reference[:, :, None] == found[:, None]).any(axis=2) & there
    return float(same.sum() / max(1, there.sum()))


def largest_difference(found: np.ndarray, reference: np.ndarray) -> float:
    """Of two ``[users, n]`` tables of scores, where both have a score."""
    both = np.isfinite(found) & np.isfinite(reference)
    return float(np.abs(found[both] - reference[both]).max()) if both.any() else 0.0
