"""Gradient-boosted trees on numbers, categories, the item and what its words say.

The words enter as coordinates: the item-word matrix, weighted by inverse document frequency, is
reduced by a truncated SVD. It is fitted once, on the words of all items, which say nothing of
clicks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmrec.bench.ctr_baselines.model import Fitted, log_loss, need_validation
from llmrec.bench.ctr_baselines.table import Table
from llmrec.bench.ctr_baselines.words import count_words, item_words
from llmrec.errors import ConfigError, require


@dataclass(frozen=True)
class TreeSettings:
    """One choice of settings; the names are those of LightGBM."""

    num_leaves: int
    learning_rate: float
    min_data_in_leaf: int


CHOICES = tuple(
    itertools.starmap(
        TreeSettings, [(15, 0.1, 20), (15, 0.05, 200), (31, 0.05, 100), (63, 0.05, 200)]
    )
)


class Trees:
    """A :class:`~llmrec.bench.ctr_baselines.model.ClickModel`, by LightGBM.

    Args:
        choices: settings; the best by the log loss on the validation rows is kept.
        rounds: trees at most.
        patience: stop after so many trees without a better log loss on the validation rows.
        components: coordinates that the words are reduced to, at most.
        threads: of the CPU.

    Attributes:
        chosen: the settings, trees, and the log loss on the validation rows for each choice.
    """

    def __init__(
        self,
        choices: Sequence[TreeSettings] = CHOICES,
        rounds: int = 1000,
        patience: int = 50,
        components: int = 16,
        threads: int = 1,
    ) -> None:
        if not choices:
            raise ConfigError("choices: give at least one")
        for name, value in (("rounds", rounds), ("patience", patience), ("threads", threads)):
            if value < 1:
                raise ConfigError(f"{name}: must be 1 or more, got {value}")
        if components < 0:
            raise ConfigError(f"components: must be 0 or more, got {components}")
        self.choices, self.rounds, self.patience = tuple(choices), rounds, patience
        self.components, self.threads = components, threads
        self.chosen: dict[str, Any] = {}
        self._booster: Any = None

    def fit(
        self,
        table: Table,
        labels: np.ndarray,
        validation_table: Table,
        validation_labels: np.ndarray,
        seed: int = 0,
    ) -> Trees:
        """Learn; the same seed and threads give the same trees.

        Raises:
            MissingExtraError: without LightGBM.
            ValueError: if rows and labels do not go together, or there is nothing to choose on.
        """
        lightgbm = require("lightgbm", "ctr")
        self._fitted = Fitted(table, labels)
        need_validation(validation_table, validation_labels)
        self._fitted.check(validation_table)
        self._booster, self.chosen = None, {}
        if not self._fitted.learns:
            return self
        self._words = WordCoordinates(table, self.components, seed)
        fixed = self._fixed(seed)
        # both sets need it, or the second counts as of another kind
        common = {
            "categorical_feature": list(range(len(table.dense_names), len(table.names) + 1)),
            "params": fixed,
        }
        validation = self._rows(validation_table)
        rows = lightgbm.Dataset(self._rows(table), labels, **common).construct()
        held = lightgbm.Dataset(validation, validation_labels, reference=rows, **common).construct()
        losses: list[float] = []
        for choice in self.choices:
            booster = lightgbm.train(
                fixed | asdict(choice),
                rows,
                self.rounds,
                [held],
                callbacks=[lightgbm.early_stopping(self.patience, verbose=False)],
            )
            loss = log_loss(_raw(booster, validation), validation_labels)
            if not losses or loss < min(losses):
                self._booster = booster
                self.chosen = asdict(choice) | {"trees": booster.best_iteration}
            losses.append(loss)
        self.chosen["validation_log_loss"] = losses
        return self

    def logits(self, table: Table) -> np.ndarray:
        """float64 ``[n]``, finite."""
        self._fitted.check(table)
        if self._booster is None or not len(table):
            return np.full(len(table), self._fitted.constant)
        return _raw(self._booster, self._rows(table))

    def _fixed(self, seed: int) -> dict[str, Any]:
        return {
            "objective": "binary",
            "metric": "binary_logloss",
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.threads,
            "feature_pre_filter": False,  # choices share the data and differ in min_data_in_leaf
            "verbosity": -1,
        }

    def _rows(self, table: Table) -> np.ndarray:
        """float32 ``[n, d + k + 1 + components]``: numbers, categories, the item, its words."""
        parts = [table.dense, table.categorical, table.item[:, None], self._words.of(table)]
        return np.concatenate([part.astype(np.float32, copy=False) for part in parts], axis=1)


class WordCoordinates:
    """Coordinates of items by their words.

    Args:
        table: whose items' words are looked at.
        components: coordinates at most; fewer where there are few words or items.
        seed: of the randomised SVD.
    """

    def __init__(self, table: Table, components: int, seed: int) -> None:
        self._n_words = count_words(table)
        components = min(components, self._n_words - 1, table.n_items - 1)
        self._map = np.zeros((self._n_words, 0), dtype=np.float32)
        if components < 1:
            return
        words = item_words(table, self._n_words)
        of_items = np.bincount(words.indices, minlength=self._n_words)
        weights = np.log((1 + table.n_items) / (1 + of_items)) + 1
        decomposition = require("sklearn.decomposition", "ctr")
        svd = decomposition.TruncatedSVD(components, random_state=seed)
        svd.fit(words.multiply(weights[None, :]).tocsr())
        self._map = (svd.components_.T * weights[:, None]).astype(np.float32)

    def of(self, table: Table) -> np.ndarray:
        """float32 ``[n, components]``, of every row's item."""
        items: np.ndarray = item_words(table, self._n_words) @ self._map
        return items[table.item]


def _raw(booster: Any, rows: np.ndarray) -> np.ndarray:
    """float64 ``[n]``, logits by the trees up to the best one."""
    logits: np.ndarray = booster.predict(rows, raw_score=True, num_iteration=booster.best_iteration)
    return logits
