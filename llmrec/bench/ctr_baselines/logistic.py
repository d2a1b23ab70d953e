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
        seen: for every category, bool ``[size]``, which ids occur; then for the item.
        one_hot: scikit-learn's encoder of bins, categories and item.
        n_words: ids of words.
    """

    mean: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    edges: tuple[np.ndarray, ...]
    seen: tuple[np.ndarray, ...]
    one_hot: Any
    n_words: int

    @classmethod
    def of(cls, table: Table) -> Encoding:
        """Learn it."""
        known = [column[~np.isnan(column)].astype(np.float64) for column in table.dense.T]
        known = [column if len(column) else np.zeros(1) for column in known]
        scales = np.array([column.std() for column in known])
        cuts = np.linspace(0, 1, BINS + 1)[1:-1]
        edges = tuple(np.unique(np.quantile(column, cuts)) for column in known)
        sizes = (*table.sizes, table.n_items)
        one_hot = require("sklearn.preprocessing", "ctr").OneHotEncoder(
            categories=[np.arange(size) for size in (*(len(e) + 2 for e in edges), *sizes)],
            handle_unknown="ignore",
            dtype=np.float32,
        )
        return cls(
            mean=np.array([column.mean() for column in known]),
            scale=np.where(scales > 0, scales, 1.0),
            low=np.array([column.min() for column in known]),
            high=np.array([column.max() for column in known]),
            edges=edges,
            seen=tuple(
                np.bincount(column, minlength=size) > 0
                for column, size in zip((*table.categorical.T, table.item), sizes, strict=True)
            ),
            one_hot=one_hot.fit(np.zeros((1, len(edges) + len(sizes)), dtype=np.int64)),
            n_words=table.n_words,
        )

    def rows(self, table: Table) -> Any:
        """float32 CSR ``[n, columns]``."""
        sparse = require("scipy.sparse", "ctr")
        held = np.clip(table.dense.astype(np.float64), self.low, self.high)
        numbers = np.nan_to_num((held - self.mean) / self.scale).astype(np.float32)
        ids = [
            np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="right"))
            for edges, column in zip(self.edges, table.dense.T, strict=True)
        ]
        unknown = [0] * len(table.sizes) + [-1]  # an item that was not seen has no column
        for seen, column, other in zip(
            self.seen, (*table.categorical.T, table.item), unknown, strict=True
        ):
            inside = column < len(seen)
            ids.append(np.where(inside & seen[np.where(inside, column, 0)], column, other))
        one_hot = self.one_hot.transform(np.stack(ids, axis=1))
        words = table.item_words(self.n_words)[table.item]
        return sparse.hstack([sparse.csr_matrix(numbers), one_hot, words], format="csr")
