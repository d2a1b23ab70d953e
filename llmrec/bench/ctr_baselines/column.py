"""One number alone, as a click probability.

A number orders the items; Platt's sigmoid makes a probability of it, so that it has a
log loss (Platt, 1999, with his targets ``(k + 1) / (k + 2)`` and ``1 / (n - k + 2)`` for k
clicks among n rows, which keep the slope finite where the number separates them).
"""

from __future__ import annotations

from typing import Self

import numpy as np

from llmrec.bench.ctr_baselines.model import Fitted
from llmrec.bench.ctr_baselines.table import Table
from llmrec.errors import require

_RIDGE = 1e-9  # makes the slope 0 where the number is always the same


class ScoreAlone:
    """A :class:`~llmrec.bench.ctr_baselines.model.ClickModel` of one number, such as an LLM's
    score.

    Where the number is missing it is the mean of the rows that were learned from; beyond the range
    seen there it is the end of the range.

    Args:
        column: name of a dense column.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self.slope = 0.0
        self.intercept = 0.0

    def fit(
        self,
        table: Table,
        labels: np.ndarray,
        validation_table: Table,
        validation_labels: np.ndarray,
        seed: int = 0,
    ) -> Self:
        """Learn; there is nothing to choose and nothing is drawn.

        Raises:
            ConfigError: if there is no such column.
            ValueError: if rows and labels do not go together.
        """
        self._fitted = Fitted(table, labels)
        numbers = table.column(self.column)
        known = numbers[~np.isnan(numbers)]
        known = known if len(known) else np.zeros(1)
        self._mean, self._scale = known.mean(), known.std() or 1.0
        self._low, self._high = known.min(), known.max()
        self.slope, self.intercept = 0.0, self._fitted.constant
        if self._fitted.learns:
            self.slope, self.intercept = platt(self._standard(numbers), labels)
        return self

    def logits(self, table: Table) -> np.ndarray:
        """float64 ``[n]``, finite."""
        return self.slope * self._standard(table.column(self.column)) + self.intercept

    def _standard(self, numbers: np.ndarray) -> np.ndarray:
        numbers = np.where(np.isnan(numbers), self._mean, numbers)
        return (np.clip(numbers, self._low, self._high) - self._mean) / self._scale


class Popularity(ScoreAlone):
    """How popular an item is, and nothing else.

    Args:
        column: the dense column that says it, such as decayed clicks.
    """


def platt(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the likeliest sigmoid.

    Args:
        scores: float64 ``[n]``, finite, standardised.
        labels: 0 or 1, ``[n]``.

    >>> slope, intercept = platt(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([0, 0, 1, 1]))
    >>> round(slope, 3), abs(round(intercept, 3))  # half way to 3/4 and 1/4, not to 1 and 0
    (1.099, 0.0)
    """
    labels = np.asarray(labels)
    clicks, rows = int(labels.sum()), len(labels)
    targets = np.where(labels == 1, (clicks + 1) / (clicks + 2), 1 / (rows - clicks + 2))
    special, optimize = require("scipy.special", "ctr"), require("scipy.optimize", "ctr")

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        logits = at[0] * scores + at[1]
        value = np.mean(np.logaddexp(0.0, logits) - targets * logits) + _RIDGE / 2 * at[0] ** 2
        error = special.expit(logits) - targets
        return value, np.array([np.mean(error * scores) + _RIDGE * at[0], np.mean(error)])

    start = np.array([0.0, np.log((clicks + 1) / (rows - clicks + 1))])
    found = optimize.minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    return float(found.x[0]), float(found.x[1])
