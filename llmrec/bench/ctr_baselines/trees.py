"""Gradient-boosted trees on numbers, categories, the item and what its words say.

The words enter as coordinates: the item-word matrix, weighted by inverse document frequency, is
reduced by a truncated SVD. It is fitted once, on the words of all items, which say nothing of
clicks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmrec.bench.ctr_baselines.baseline import Baseline, Part, log_loss
from llmrec.bench.ctr_baselines.table import Table
from llmrec.errors import require

CHOICES: tuple[dict[str, float], ...] = (
    {"num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20},
    {"num_leaves": 15, "learning_rate": 0.05, "min_data_in_leaf": 200},
    {"num_leaves": 31, "learning_rate": 0.05, "min_data_in_leaf": 100},
    {"num_leaves": 63, "learning_rate": 0.05, "min_data_in_leaf": 200},
)
COMPONENTS = 16  # coordinates that the words are reduced to, at most


class Trees(Baseline):
    """By LightGBM, on one thread.

    Args:
        choices: settings of LightGBM; the best by the log loss on the validation rows is kept.
        rounds: trees at most.
        patience: stop after so many trees without a better log loss on the validation rows.
    """

    def __init__(
        self,
        choices: Sequence[Mapping[str, float]] = CHOICES,
        rounds: int = 1000,
        patience: int = 50,
    ) -> None:
        self.choices, self.rounds, self.patience = choices, rounds, patience

    def _fit(self, train: Part, validation: Part, seed: int) -> None:
        table, labels = train
        lightgbm = require("lightgbm", "ctr")
        self._words = WordCoordinates(table, seed)
        fixed = {
            "objective": "binary",
            "metric": "binary_logloss",
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "feature_pre_filter": False,  # choices share the data and differ in min_data_in_leaf
            "verbosity": -1,
        }
        # both sets need it, or the second counts as of another kind
        first = len(table.dense_names)
        categories = list(range(first, first + len(table.categorical_names) + 1))
        common = {"categorical_feature": categories, "params": fixed}
        held = self._rows(validation[0])
        rows = lightgbm.Dataset(self._rows(table), labels, **common).construct()
        held_rows = lightgbm.Dataset(held, validation[1], reference=rows, **common).construct()
        losses: list[float] = []
        for choice in self.choices:
            booster = lightgbm.train(
                fixed | dict(choice),
                rows,
                self.rounds,
                [held_rows],
                callbacks=[lightgbm.early_stopping(self.patience, verbose=False)],
            )
            loss = log_loss(_raw(booster, held), validation[1])
            if not losses or loss < min(losses):
                self._booster = booster
                self.chosen = dict(choice) | {"trees": booster.best_iteration}
            losses.append(loss)
        self.chosen["validation_log_loss"] = losses

    def _logits(self, table: Table) -> np.ndarray:
        return _raw(self._booster, self._rows(table))

    def _rows(self, table: Table) -> np.ndarray:
        """float32 ``[n, d + k + 1 + components]``: numbers, categories, the item, its words."""
        parts = [table.dense, table.categorical, table.item[:, None], self._words.of(table)]
        return np.concatenate([part.astype(np.float32, copy=False) for part in parts], axis=1)


class WordCoordinates:
    """Coordinates of items by their words: a truncated SVD, randomised by a seed."""

    def __init__(self, table: Table, seed: int) -> None:
        self._n_words = table.n_words
        components = min(COMPONENTS, self._n_words - 1, table.n_items - 1)
        self._reduce: Any = None
        if components > 0:
            weighting = require("sklearn.feature_extraction.text", "ctr").TfidfTransformer(
                norm=None
            )
            decomposition = require("sklearn.decomposition", "ctr")
            svd = decomposition.TruncatedSVD(components, random_state=seed)
            self._reduce = require("sklearn.pipeline", "ctr").make_pipeline(weighting, svd)
            self._reduce.fit(table.item_words(self._n_words))

    def of(self, table: Table) -> np.ndarray:
        """float32 ``[n, components]``, of every row's item."""
        if self._reduce is None:
            return np.zeros((len(table), 0), dtype=np.float32)
        items: np.ndarray = self._reduce.transform(table.item_words(self._n_words))
        return items[table.item]


def _raw(booster: Any, rows: np.ndarray) -> np.ndarray:
    """float64 ``[n]``, logits by the trees up to the best one."""
    logits: np.ndarray = booster.predict(rows, raw_score=True, num_iteration=booster.best_iteration)
    return logits
