"""Clicked and unclicked rows: checks of what is measured, and the pairs that AUC counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.errors import DataError


@dataclass(frozen=True)
class Pairs:
    """The (clicked, not clicked) pairs within groups, so counted that only weights may change.

    Attributes:
        negatives: int64 ``[not clicked]``, rows by group, within it by rising p.
        positives: int64 ``[clicked]``, rows.
        first: int64 ``[clicked]``, where the row's group begins in ``negatives``.
        below: int64 ``[clicked]``, where those of its group end that have a lower p.
        up_to: int64 ``[clicked]``, where those of its group end that have no higher p.
    """

    negatives: np.ndarray
    positives: np.ndarray
    first: np.ndarray
    below: np.ndarray
    up_to: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, p: np.ndarray, groups: np.ndarray) -> Pairs:
        """Sort once: ``O(n log n)``; arrays ``[n]`` that were checked."""
        order = np.lexsort((p, groups))
        p, groups, clicked = p[order], groups[order], labels[order] == 1
        differs = np.ones(len(p), dtype=bool)
        differs[1:] = (p[1:] != p[:-1]) | (groups[1:] != groups[:-1])
        place = np.cumsum(differs)  # rises with (group, p); equal for a tie
        of_negatives = place[~clicked]
        return cls(
            negatives=order[~clicked],
            positives=order[clicked],
            first=np.searchsorted(groups[~clicked], groups[clicked]),
            below=np.searchsorted(of_negatives, place[clicked], side="left"),
            up_to=np.searchsorted(of_negatives, place[clicked], side="right"),
        )

    def wins(self, weights: np.ndarray) -> np.ndarray:
        """Weight of the negatives that a positive of the same group beats, a tie being half.

        Args:
            weights: float ``[not clicked]``, in the order of ``negatives``.

        Returns:
            float64 ``[clicked]``, in the order of ``positives``.
        """
        total = np.zeros(len(weights) + 1)
        np.cumsum(weights, out=total[1:])
        return (total[self.below] + total[self.up_to]) / 2 - total[self.first]


def check_scores(
    labels: np.ndarray, p: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and weights as float64 ``[n]``.

    Raises:
        DataError: naming the first row that is wrong.
    """
    labels, p = np.asarray(labels, dtype=np.float64), np.asarray(p, dtype=np.float64)
    w = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    if labels.ndim != 1 or not labels.shape == p.shape == w.shape:
        raise DataError(
            f"labels {labels.shape}, p {p.shape} and weights {w.shape} must be equally long"
        )
    if not len(labels):
        raise DataError("there are no rows to measure")
    refuse(~((labels == 0) | (labels == 1)), labels, "label", "neither 0 nor 1")
    refuse(~np.isfinite(p), p, "p", "not a finite number")
    refuse(~(np.isfinite(w) & (w >= 0)), w, "weight", "not a number from 0 up")
    if not w.any():
        raise DataError("every weight is 0; there are no rows to measure")
    return labels, p, w


def check_probabilities(
    labels: np.ndarray, p: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`check_scores`, and p must lie within [0, 1]."""
    labels, p, w = check_scores(labels, p, weights)
    refuse((p < 0) | (p > 1), p, "p", "outside [0, 1]; give probabilities, not logits")
    return labels, p, w


def refuse(wrong: np.ndarray, values: np.ndarray, what: str, why: str) -> None:
    """Raise a DataError that names the first row where ``wrong`` is true."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise DataError(f"row {rows[0]}: {what} {values[rows[0]]:g} is {why}")
