"""What every baseline of click probability has in common."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from llmrec.bench.ctr_baselines.table import Table


class ClickModel(Protocol):
    """Learns how likely a click is from rows and whether they were clicked."""

    def fit(
        self,
        table: Table,
        labels: np.ndarray,
        validation_table: Table,
        validation_labels: np.ndarray,
        seed: int = 0,
    ) -> Any:
        """Learn from ``table``; settings are chosen by the log loss on the validation rows.

        Args:
            labels: 0 or 1, ``[n]``.

        Returns:
            Itself.
        """
        ...

    def logits(self, table: Table) -> np.ndarray:
        """float64 ``[n]``, finite."""
        ...


class Fitted:
    """What a fit remembers: the columns it saw, and the answer where there is nothing to learn.

    Rows that all have the same label teach nothing but that; every row then gets the probability
    ``(k + 1) / (n + 2)`` for k clicks among n rows, which is neither 0 nor 1.

    Args:
        table: the rows that are learned from.
        labels: 0 or 1, ``[n]``.

    Raises:
        ValueError: if there is not one label a row, or one is neither 0 nor 1.
    """

    def __init__(self, table: Table, labels: np.ndarray) -> None:
        check_labels(table, labels)
        clicks, rows = int(np.sum(labels)), len(labels)
        self.constant = float(np.log((clicks + 1) / (rows - clicks + 1)))
        self.learns = 0 < clicks < rows
        self._names = table.names

    def check(self, table: Table) -> None:
        """Check that a table has the columns of the fit.

        Raises:
            ValueError: if it has others.
        """
        if table.names != self._names:
            raise ValueError(
                f"columns {', '.join(table.names)}; it was fitted on {', '.join(self._names)}"
            )


def check_labels(table: Table, labels: np.ndarray) -> None:
    """Check that there is one label a row, 0 or 1.

    Raises:
        ValueError: if not.
    """
    if np.shape(labels) != (len(table),):
        raise ValueError(f"labels: shape {np.shape(labels)} for {len(table)} rows")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels: each must be 0 or 1")


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood, in nats.

    >>> log_loss(np.zeros(2), np.array([0, 1])) == float(np.log(2))
    True
    """
    return float(np.mean(np.logaddexp(0.0, logits) - np.asarray(labels) * logits))


def need_validation(table: Table, labels: np.ndarray) -> None:
    """Check the rows that settings are chosen on.

    Raises:
        ValueError: if there are none, or their labels are wrong.
    """
    check_labels(table, labels)
    if not len(table):
        raise ValueError("validation: there are no rows to choose settings on")
