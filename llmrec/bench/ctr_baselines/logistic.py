"""Logistic regression on numbers, their quantile bins, categories, items and items' words.

The model sees a sparse row:

* every number, standardised on the rows it learns from and held within the range seen there;
* the bin it falls in, of ten with equally many rows, or that it is missing: so that a number need
  not act along a line;
* every category and the item by a column of its own; a value that was not seen is the unknown one,
  an item that was not seen is left to its other columns;
* the item's words, as a vector of length 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.bench.ctr_baselines.baseline import Baseline, Part, log_loss
from llmrec.bench.ctr_baselines.table import Table
from llmrec.errors import require

BINS = 10
_TOLERANCE = 1e-6  # of the mean gradient: a column that few of a million rows have counts too
_ROWS = 1 << 18  # of a block


class LogisticRegression(Baseline):
    """By scikit-learn's L-BFGS; nothing is drawn, so the seed changes nothing.

    Args:
        strengths: values of ``C``, inverse strength of the L2 penalty, ascending; the best by the
            log loss on the validation rows is kept. Each is tried from the weights of the one
            before.
        max_iter: iterations for each.
    """

    def __init__(self, strengths: Sequence[float] = (0.01, 0.1, 1.0), max_iter: int = 200) -> None:
        self.strengths, self.max_iter = strengths, max_iter

    def _fit(self, train: Part, validation: Part, seed: int) -> None:
        self._encoding = Encoding.of(train[0])
        rows, held = (self._encoding.rows(table) for table, _ in (train, validation))
        linear = require("sklearn.linear_model", "ctr")
        convergence = require("sklearn.exceptions", "ctr").ConvergenceWarning
        model = linear.LogisticRegression(tol=_TOLERANCE, max_iter=self.max_iter, warm_start=True)
        losses: dict[float, float] = {}
        for strength in self.strengths:
            model.C = strength
            with warnings.catch_warnings():  # iterations are bounded on purpose
                warnings.simplefilter("ignore", convergence)
                model.fit(rows, np.asarray(train[1], dtype=np.int8))
            weights, intercept = model.coef_[0].astype(np.float64), float(model.intercept_[0])
            loss = log_loss(held @ weights + intercept, validation[1])
            if not losses or loss < min(losses.values()):
                self._weights, self._intercept = weights, intercept
            losses[strength] = loss
        best = min(losses, key=losses.__getitem__)
        self.chosen = {"C": best, "validation_log_loss": losses}

    def _logits(self, table: Table) -> np.ndarray:
        logits = np.full(len(table), self._intercept)
        for start in range(0, len(table), _ROWS):
            part = slice(start, start + _ROWS)
            logits[part] += self._encoding.rows(table.select(part)) @ self._weights
        return logits


@dataclass(frozen=True, eq=False)
class Encoding:
    """How a row becomes sparse, learned from the rows of training.

    Attributes:
        mean, scale, low, high: float64 ``[d]``, of every number where it is known.
        edges: between the bins of every number, ascending.
        seen: for every category, bool ``[size]``, which ids occur.
        seen_items: bool ``[items]``.
        n_words: ids of words.
    """

    mean: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    edges: tuple[np.ndarray, ...]
    seen: tuple[np.ndarray, ...]
    seen_items: np.ndarray
    n_words: int

    @classmethod
    def of(cls, table: Table) -> Encoding:
        """Learn it."""
        known = [column[~np.isnan(column)].astype(np.float64) for column in table.dense.T]
        known = [column if len(column) else np.zeros(1) for column in known]
        scales = np.array([column.std() for column in known])
        cuts = np.linspace(0, 1, BINS + 1)[1:-1]
        return cls(
            mean=np.array([column.mean() for column in known]),
            scale=np.where(scales > 0, scales, 1.0),
            low=np.array([column.min() for column in known]),
            high=np.array([column.max() for column in known]),
            edges=tuple(np.unique(np.quantile(column, cuts)) for column in known),
            seen=tuple(
                np.bincount(column, minlength=size) > 0
                for column, size in zip(table.categorical.T, table.sizes, strict=True)
            ),
            seen_items=np.bincount(table.item, minlength=table.n_items) > 0,
            n_words=table.n_words,
        )

    def rows(self, table: Table) -> Any:
        """float32 CSR ``[n, columns]``."""
        sparse = require("scipy.sparse", "ctr")
        n, d, k = len(table), len(self.mean), len(self.seen)
        width = 2 * d + k + 1
        columns = np.empty((n, width), dtype=np.int32)
        values = np.ones((n, width), dtype=np.float32)
        first = d  # of the block of columns that is next
        for i, column in enumerate(table.dense.T):
            missing = np.isnan(column)
            number = np.clip(column.astype(np.float64), self.low[i], self.high[i])
            number = (number - self.mean[i]) / self.scale[i]
            columns[:, i], values[:, i] = i, np.where(missing, 0.0, number)
            of_bin = np.searchsorted(self.edges[i], column, side="right")
            columns[:, d + i] = first + np.where(missing, len(self.edges[i]) + 1, of_bin)
            first += len(self.edges[i]) + 2
        for i, column in enumerate(table.categorical.T):
            columns[:, 2 * d + i] = first + np.where(self._known(self.seen[i], column), column, 0)
            first += len(self.seen[i])
        known = self._known(self.seen_items, table.item)
        columns[:, -1], values[:, -1] = first + np.where(known, table.item, 0), known
        first += len(self.seen_items)
        begins = np.arange(0, n * width + 1, width)
        block = (values.ravel(), columns.ravel(), begins)
        dense = sparse.csr_matrix(block, shape=(n, first))
        return sparse.hstack([dense, table.item_words(self.n_words)[table.item]], format="csr")

    @staticmethod
    def _known(seen: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """bool ``[n]``; an id from beyond those of the fit is not known."""
        inside = ids < len(seen)
        return inside & seen[np.where(inside, ids, 0)]
