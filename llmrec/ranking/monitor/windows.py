"""Days or weeks of a log in a few numbers each, however many rows they have.

A window keeps sums, and its rows and clicks on a fine grid of p: 4,096 cells between log odds of
-16 and 16, each 0.8% of odds wide. Sums (log loss, predicted and observed clicks) are exact; AUC
and the bins of ECE take the rows of a cell for ties, which moves AUC by some 0.0001 at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from llmrec.metrics.click_metrics import auc, ece, entropy, row_losses, wilson
from llmrec.ranking.monitor.served import ServedBatch

Length = Literal["day", "week"]
DAY = 86_400
CELLS = 4096
ECE_BINS = 20
_ROWS_A_BIN = 100  # fewer rows a bin would measure chance
_REACH = 16.0  # log odds
_FIGURES = ("rows", "labelled", "mean_p", "predicted", "observed", "observed_interval",
            "predicted_over_observed", "predicted_over_observed_interval",
            "ece", "ne", "auc")  # fmt: skip


@dataclass
class Window:
    """What is kept of some rows.

    Attributes:
        rows, labelled: all rows; those of which it is known whether they were clicked.
        p_sum: predicted clicks of all rows.
        loss: log loss summed over labelled rows.
        grid: float64 ``[3, CELLS]``, labelled rows: their number, clicks and predicted clicks.
        counts: by input, int64 ``[bins]``: rows in each bin of the reference.
    """

    rows: int = 0
    labelled: int = 0
    p_sum: float = 0.0
    loss: float = 0.0
    grid: np.ndarray = field(default_factory=lambda: np.zeros((3, CELLS)))
    counts: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, batch: ServedBatch, rows: np.ndarray, sizes: Mapping[str, int]) -> None:
        """Take some rows of a batch.

        Args:
            rows: row numbers within the batch.
            sizes: by input, how many bins it has.
        """
        p, clicked = batch.p[rows], batch.clicked[rows]
        self.rows += len(rows)
        self.p_sum += float(p.sum())
        for name, bins in batch.bins.items():
            found = np.bincount(bins[rows], minlength=sizes[name])
            self.counts[name] = self.counts.get(name, 0) + found
        known = ~np.isnan(clicked)
        p, clicked = p[known], clicked[known]
        self.labelled += len(p)
        self.loss += float(row_losses(clicked, p).sum())
        cell = _cells(p)
        for row, weights in enumerate((None, clicked, p)):
            self.grid[row] += np.bincount(cell, weights=weights, minlength=CELLS)

    def merge(self, other: Window) -> None:
        """Add another window's rows."""
        self.rows += other.rows
        self.labelled += other.labelled
        self.p_sum += other.p_sum
        self.loss += other.loss
        self.grid = self.grid + other.grid
        for name, counts in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + counts

    def figures(self) -> dict[str, Any]:
        """Every figure of these rows; None for one that they do not have.

        Predicted over observed has the interval that the observed click rate's 95% Wilson
        interval gives it. ECE has 20 bins, fewer where there would be less than 100 rows in each.
        """
        clicks, predicted = float(self.grid[1].sum()), float(self.grid[2].sum())
        found: dict[str, Any] = dict.fromkeys(_FIGURES)
        found |= {"rows": self.rows, "labelled": self.labelled, "mean_p": self.p_sum / self.rows}
        if not self.labelled:
            return found
        low, high = (float(edge) for edge in wilson(np.array(clicks), np.array(self.labelled)))
        mean, rate = predicted / self.labelled, clicks / self.labelled
        found |= {"predicted": mean, "observed": rate, "observed_interval": [low, high]}
        found["predicted_over_observed_interval"] = [mean / high, mean / low if low else None]
        labels, p, weights = self._as_rows()
        bins = min(ECE_BINS, max(1, self.labelled // _ROWS_A_BIN))
        found["ece"] = ece(labels, p, bins, weights)
        if clicks:
            found["predicted_over_observed"] = mean / rate
        if 0 < clicks < self.labelled:
            found["ne"] = float(self.loss / self.labelled / entropy(rate))
            found["auc"] = auc(labels, p, weights)
        return found

    def _as_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, p and weights: a clicked and an unclicked row of each used cell."""
        count, clicks, predicted = self.grid[:, self.grid[0] > 0]
        p = np.clip(predicted / count, 0, 1)
        labels = np.repeat([1.0, 0.0], len(p))
        return labels, np.tile(p, 2), np.concatenate([clicks, count - clicks])


class Windows:
    """All windows of a log."""

    def __init__(self, length: Length, sizes: Mapping[str, int]) -> None:
        """``sizes``: by input, how many bins it has."""
        self.length, self._sizes = length, sizes
        self._found: dict[int, Window] = {}

    def add(self, batch: ServedBatch) -> None:
        """Give each row to its window."""
        number = np.floor(batch.seconds / DAY).astype(np.int64)
        if self.length == "week":
            number = (number + 3) // 7  # 1970 began on a Thursday, a week begins on Monday
        order = np.argsort(number, kind="stable")
        present, first = np.unique(number[order], return_index=True)
        for window, rows in zip(present, np.split(order, first[1:]), strict=True):
            self._found.setdefault(int(window), Window()).add(batch, rows, self._sizes)

    def in_order(self) -> list[tuple[str, Window]]:
        """Each window with its first day (ISO 8601, UTC), oldest first."""
        return [(self._first_day(number), self._found[number]) for number in sorted(self._found)]

    def overall(self) -> Window:
        """All rows in one window."""
        whole = Window()
        for window in self._found.values():
            whole.merge(window)
        return whole

    def _first_day(self, number: int) -> str:
        day = number * 7 - 3 if self.length == "week" else number
        return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()


def _cells(p: np.ndarray) -> np.ndarray:
    """The cell of each p, int64 ``[n]``."""
    least = 1 / (1 + np.exp(_REACH))
    p = np.clip(p, least, 1 - least)
    cell = (np.log(p) - np.log1p(-p) + _REACH) / (2 * _REACH) * CELLS
    return np.clip(cell.astype(np.int64), 0, CELLS - 1)
