"""How good are predicted click probabilities: do they rank, and can they be taken literally?

``labels`` are float ``[n]`` of 0 and 1 (was it clicked?), ``p`` float ``[n]``, one a shown item.
:func:`auc` and :func:`group_aucs` look at the order alone, so they take logits too; all others
need probabilities. ``weights``, where there are any, are float ``[n]``, not negative: a row of
weight 3 is worth three rows. Functions raise :class:`~llmrec.errors.DataError` for arrays that do
not fit together, for a label that is neither 0 nor 1, and for a NaN; none returns a NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.errors import DataError
from llmrec.metrics.click_pairs import Pairs, check_probabilities, check_scores

CLIP = 1e-7  # log_loss takes no probability nearer to 0 or 1 than this
FIELD_ROWS = 50  # a value of a field with fewer says more about chance than about the model
Z95 = 1.959963984540054  # 95% of a normal distribution lie within so many standard deviations


@dataclass(frozen=True)
class Reliability:
    """What was predicted and what happened, a row a bin, lowest predictions first.

    Attributes:
        mean_p, mean_label: float64 ``[bins]``.
        count: int64 ``[bins]``.
        low, high: float64 ``[bins]``, the 95% Wilson interval of ``mean_label``.
    """

    mean_p: np.ndarray
    mean_label: np.ndarray
    count: np.ndarray
    low: np.ndarray
    high: np.ndarray


def auc(labels: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of (clicked, not clicked) pairs in which the clicked one scores higher; a tie is half.

    Raises:
        DataError: if every label is the same.

    >>> auc(np.array([0, 0, 1, 1.0]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    labels, p, w = check_scores(labels, p, weights)
    clicked = float(w @ labels)
    if clicked == 0 or clicked == w.sum():
        raise DataError(
            f"AUC needs clicked and unclicked rows; all {int((w > 0).sum())} labels "
            f"are {int(clicked > 0)}"
        )
    pairs = Pairs.of(labels, p, np.zeros(len(p), dtype=np.int64))
    return auc_of(pairs, w[pairs.negatives], w[pairs.positives])


def auc_of(pairs: Pairs, negatives: np.ndarray, positives: np.ndarray) -> float:
    """AUC of one group for given weights, in the orders of ``pairs``; NaN without a pair."""
    possible = float(negatives.sum() * positives.sum())
    return float(positives @ pairs.wins(negatives)) / possible if possible else np.nan


def group_aucs(
    labels: np.ndarray, p: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUC of every group (a user, a list) that has both labels; arrays that were checked.

    GAUC is their mean, weighted by the groups' rows.

    Args:
        groups: int ``[n]``, in any order.

    Returns:
        float64 ``[counted]`` AUCs and rows of the groups, and int64 ``[counted]``, one row of each
        group.

    >>> labels, p = np.array([0, 1, 0, 1, 1.0]), np.array([0.1, 0.2, 0.9, 0.8, 0.5])
    >>> group_aucs(labels, p, np.array([0, 0, 1, 1, 2]))[0].tolist()
    [1.0, 0.0]
    """
    _, row, owner = np.unique(groups, return_index=True, return_inverse=True)
    pairs = Pairs.of(labels, p, owner)
    won = pairs.wins(np.ones(len(pairs.negatives)))
    won = np.bincount(owner[pairs.positives], weights=won, minlength=len(row))
    sizes = np.bincount(owner).astype(np.float64)
    clicked = np.bincount(owner, weights=labels)
    possible = clicked * (sizes - clicked)
    counts = possible > 0
    return won[counts] / possible[counts], sizes[counts], row[counts]


def log_loss(labels: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log likelihood in nats, p clipped to [1e-7, 1 - 1e-7].

    >>> round(log_loss(np.array([0, 1.0]), np.array([0.5, 0.5])), 4)
    0.6931
    """
    labels, p, w = check_probabilities(labels, p, None)
    return float(w @ row_losses(labels, p) / w.sum())


def row_losses(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each row, float64 ``[n]``, of arrays that were checked."""
    p = np.clip(p, CLIP, 1 - CLIP)
    return -np.where(labels == 1, np.log(p), np.log1p(-p))


def entropy(rate: float | np.ndarray) -> float | np.ndarray:
    """Entropy in nats of a click rate strictly between 0 and 1.

    Log loss over it is the normalized entropy (He et al. 2014): below 1 is better than always
    saying the mean label.
    """
    return -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))


def equal_mass_bins(p: np.ndarray, bins: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The bin of each row, lowest p first: about equal weights, ties of p together.

    Returns:
        int64 ``[n]`` from 0, without gaps: fewer bins than requested where p has few values.

    >>> equal_mass_bins(np.array([0.9, 0.1, 0.1, 0.1]), 2).tolist()
    [1, 0, 0, 0]
    """
    if bins < 1:
        raise DataError(f"bins={bins}: at least one bin is needed")
    values, place = np.unique(p, return_inverse=True)
    mass = np.bincount(place, weights=weights, minlength=len(values)).astype(np.float64)
    middle = np.cumsum(mass) - mass / 2  # a tie goes where its middle lies
    wanted = np.minimum(np.floor(middle * bins / mass.sum()), bins - 1)
    return np.unique(wanted, return_inverse=True)[1][place]


def ece(
    labels: np.ndarray, p: np.ndarray, bins: int = 20, weights: np.ndarray | None = None
) -> float:
    """Expected calibration error over bins of equal mass.

    ``sum over bins of  n_bin / n * |mean p - mean label|``  (Naeini et al. 2015, whose bins are
    of equal width: with few clicks all rows would be in one). The ECE of n rows of a perfectly
    calibrated model is not 0 but about ``0.8 * sqrt(bins * rate * (1 - rate) / n)``.

    >>> ece(np.array([0, 1, 1, 1.0]), np.array([0.25, 0.25, 1, 1]), bins=2)
    0.125
    """
    labels, p, w = check_probabilities(labels, p, weights)
    gaps = np.bincount(equal_mass_bins(p, bins, w), weights=w * (p - labels))
    return float(np.abs(gaps).sum() / w.sum())


def reliability(labels: np.ndarray, p: np.ndarray, bins: int = 20) -> Reliability:
    """Predicted and observed click rates over bins of equal mass.

    >>> reliability(np.array([0, 1, 1, 1.0]), np.array([0.25, 0.25, 1, 1]), 2).mean_label.tolist()
    [0.5, 1.0]
    """
    labels, p, _ = check_probabilities(labels, p, None)
    place = equal_mass_bins(p, bins)
    count = np.bincount(place)
    clicks = np.bincount(place, weights=labels)
    low, high = wilson(clicks, count)
    return Reliability(np.bincount(place, weights=p) / count, clicks / count, count, low, high)


def wilson(clicks: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of a rate (Wilson 1927), which holds for few clicks and for none.

    Args:
        clicks, count: ``[...]``; count at least 1.

    >>> low, high = wilson(np.array([0]), np.array([100]))
    >>> [round(float(edge), 4) for edge in (low[0], high[0])]
    [0.0, 0.037]
    """
    clicks, count = np.asarray(clicks, dtype=np.float64), np.asarray(count, dtype=np.float64)
    rate, spread = clicks / count, Z95**2 / count
    centre = (rate + spread / 2) / (1 + spread)
    half = np.sqrt(spread * rate * (1 - rate) + spread**2 / 4) / (1 + spread)
    return np.clip(centre - half, 0, rate), np.clip(centre + half, rate, 1)


def field_calibration_error(
    labels: np.ndarray, p: np.ndarray, field: np.ndarray, min_count: int = FIELD_ROWS
) -> float:
    """How wrong click rates are for the values of a field, such as a category.

    ``sum over values v of  n_v / N * |mean p of v - mean label of v|``,  N the rows of all values
    that have at least ``min_count`` rows (Pan et al. 2020, Field-ECE). A rarer value says more
    about chance than about the model and is left out; -1, unknown, is a value like any other.

    Args:
        field: int ``[n]``.

    Raises:
        DataError: if no value has ``min_count`` rows.

    >>> p, field = np.full(4, 0.75), np.array([5, 5, 7, 7])
    >>> field_calibration_error(np.array([0, 1, 1, 1.0]), p, field, min_count=2)
    0.25
    """
    labels, p, _ = check_probabilities(labels, p, None)
    field = np.asarray(field)
    if field.shape != p.shape:
        raise DataError(f"field has shape {field.shape}, p has {p.shape}; give one value a row")
    _, place, count = np.unique(field, return_inverse=True, return_counts=True)
    frequent = count >= min_count
    if not frequent.any():
        raise DataError(
            f"no value of the field has {min_count} rows (the most is {count.max()}); "
            "lower min_count or give more rows"
        )
    gaps = np.bincount(place, weights=p - labels)
    return float(np.abs(gaps[frequent]).sum() / count[frequent].sum())
