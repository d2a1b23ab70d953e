"""What every baseline of click probability has in common, and the simplest: one number alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from llmrec.bench.ctr_baselines.table import Table
from llmrec.ranking.calibration.methods import fit_line, platt_targets

Part = tuple[Table, np.ndarray]  # rows and their labels


class Baseline(ABC):
    """Learns how likely a click is from rows and whether they were clicked.

    Rows that all have the same label teach nothing but that; every row then gets the probability
    ``(k + 1) / (n + 2)`` for k clicks among n rows, which is neither 0 nor 1.

    Attributes:
        chosen: the settings that were best by the log loss on the validation rows, and that loss
            for each that was tried; empty where there is nothing to choose.
    """

    def fit(
        self,
        table: Table,
        labels: np.ndarray,
        validation_table: Table,
        validation_labels: np.ndarray,
        seed: int = 0,
    ) -> Self:
        """Learn; the same seed gives the same model.

        Args:
            labels: 0 or 1, ``[n]``.

        Raises:
            MissingExtraError: without the library that learns.
        """
        clicks, rows = int(np.sum(labels)), len(labels)
        self._constant = float(np.log((clicks + 1) / (rows - clicks + 1)))
        self._learned = 0 < clicks < rows
        self.chosen: dict[str, Any] = {}
        if self._learned:
            self._fit((table, labels), (validation_table, validation_labels), seed)
        return self

    def logits(self, table: Table) -> np.ndarray:
        """float64 ``[n]``, finite."""
        if not self._learned or not len(table):
            return np.full(len(table), self._constant)
        return self._logits(table)

    @abstractmethod
    def _fit(self, train: Part, validation: Part, seed: int) -> None:
        """Learn from rows of both labels."""

    @abstractmethod
    def _logits(self, table: Table) -> np.ndarray:
        """float64 ``[n]``, of at least one row."""


class ScoreAlone(Baseline):
    """One number alone, such as an item's popularity or an LLM's score.

    The number orders the items; Platt's sigmoid makes a probability of it, so that it has a
    log loss. Where the number is missing it is the mean of the rows that were learned from; beyond
    the range of these it is the end of the range.

    Args:
        column: name of a dense column.
    """

    def __init__(self, column: str) -> None:
        self.column = column

    def _fit(self, train: Part, validation: Part, seed: int) -> None:
        table, labels = train
        numbers = table.column(self.column)
        known = numbers[~np.isnan(numbers)]
        known = known if len(known) else np.zeros(1)
        self._mean, self._scale = known.mean(), known.std() or 1.0
        self._low, self._high = known.min(), known.max()
        self._slope, self._intercept = fit_line(self._standard(numbers), platt_targets(labels))

    def _logits(self, table: Table) -> np.ndarray:
        return self._slope * self._standard(table.column(self.column)) + self._intercept

    def _standard(self, numbers: np.ndarray) -> np.ndarray:
        numbers = np.where(np.isnan(numbers), self._mean, numbers)
        return (np.clip(numbers, self._low, self._high) - self._mean) / self._scale


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood, in nats.

    >>> log_loss(np.zeros(2), np.array([0, 1])) == float(np.log(2))
    True
    """
    return float(np.mean(np.logaddexp(0.0, logits) - np.asarray(labels) * logits))
