"""Rows of a click log as flat columns, the form in which the baselines read the features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmrec.errors import ConfigError, DataError, require
from llmrec.ranking.ctr.features import ClickFeatures
from llmrec.ranking.ctr.item_features import ItemFeatures


@dataclass(frozen=True, eq=False)
class Table:
    """A row is an item of an impression.

    Attributes:
        dense: float32 ``[n, d]``; NaN is missing.
        dense_names: name of each.
        categorical: int32 ``[n, k]``; 0 is unknown.
        categorical_names: name of each.
        sizes: ids of each, 0 included.
        bag_ids: int32 ``[total]``, the words of each item, item after item.
        bag_offsets: int64 ``[items + 1]``, where each item's words begin.
        item: int32 ``[n]``, the row's item.

    Raises:
        DataError: for an infinite number, naming its column and row.
    """

    dense: np.ndarray
    dense_names: tuple[str, ...]
    categorical: np.ndarray
    categorical_names: tuple[str, ...]
    sizes: tuple[int, ...]
    bag_ids: np.ndarray
    bag_offsets: np.ndarray
    item: np.ndarray

    def __post_init__(self) -> None:
        for row, column in np.argwhere(np.isinf(self.dense))[:1]:
            raise DataError(
                f"{self.dense_names[column]}: row {row} is {self.dense[row, column]}; "
                "give NaN for a missing number"
            )

    def __len__(self) -> int:
        return len(self.item)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return len(self.bag_offsets) - 1

    @property
    def n_words(self) -> int:
        """Ids that the words of the catalogue take: the greatest and all below."""
        return int(self.bag_ids.max(initial=-1)) + 1

    def select(self, rows: np.ndarray | slice) -> Table:
        """Some of the rows."""
        return replace(
            self,
            dense=self.dense[rows],
            categorical=self.categorical[rows],
            item=self.item[rows],
        )

    def column(self, name: str) -> np.ndarray:
        """A dense column, float64 ``[n]``, NaN missing.

        Raises:
            ConfigError: if there is none of this name.
        """
        if name not in self.dense_names:
            raise ConfigError(f"{name}: no such number; there are {', '.join(self.dense_names)}")
        return self.dense[:, self.dense_names.index(name)].astype(np.float64)

    def item_words(self, n_words: int) -> Any:
        """float32 CSR ``[items, n_words]``, each row of length 1 (or 0); other words are left out.

        Args:
            n_words: those of the table that was learned from.
        """
        sparse = require("scipy.sparse", "ctr")
        owner = np.repeat(np.arange(self.n_items), np.diff(self.bag_offsets))
        known = self.bag_ids < n_words
        owner, words = owner[known], self.bag_ids[known]
        values = np.ones(len(words), dtype=np.float32)
        shape = (self.n_items, n_words)
        matrix = sparse.coo_matrix((values, (owner, words)), shape=shape).tocsr()  # sums duplicates
        squares = np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()
        lengths = np.sqrt(np.maximum(squares, 1.0))
        matrix.data /= np.repeat(lengths, np.diff(matrix.indptr)).astype(np.float32)
        return matrix


def flatten(inputs: ClickFeatures, item_features: ItemFeatures) -> Table:
    """The features of a click network as a table, a row an item of an impression.

    The numbers and categories of the network, the item's fused vector, the item itself, its
    captions, the position, and the type and item of the last event.
    """
    where, place = np.nonzero(inputs.items >= 0)
    item = inputs.items[where, place]
    names = inputs.names
    position = inputs.position[where, place].astype(np.int64) + 1
    columns = {
        name: (inputs.categories[where, at], size)
        for at, (name, _, size) in enumerate(names.categories)
    } | {
        "item": (item + 1, item_features.n_items + 1),
        "position": (position, int(position.max(initial=0)) + 1),
        "last_kind": (inputs.history_types[where, 0].astype(np.int64) + 1, 9),
    }
    last = np.maximum(inputs.history_items[where, 0], 0)
    there = inputs.history_items[where, 0] >= 0
    for at, (name, size) in enumerate(
        zip(item_features.field_names, item_features.field_sizes, strict=True)
    ):
        columns[f"caption_{name}"] = (item_features.fields[item, at], size)
        columns[f"last_{name}"] = (np.where(there, item_features.fields[last, at], 0), size)
    fused = tuple(f"fused_{number}" for number in range(item_features.fused.shape[1]))
    return Table(
        dense=np.concatenate(
            [inputs.candidate[where, place], inputs.request[where], item_features.fused[item]],
            axis=1,
        ).astype(np.float32),
        dense_names=(*(n for n, _ in names.candidate), *(n for n, _ in names.request), *fused),
        categorical=np.stack([values for values, _ in columns.values()], axis=1).astype(np.int32),
        categorical_names=tuple(columns),
        sizes=tuple(size for _, size in columns.values()),
        bag_ids=item_features.token_ids,
        bag_offsets=item_features.token_offsets,
        item=item.astype(np.int32),
    )
