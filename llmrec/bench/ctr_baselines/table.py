"""Rows of a click log as flat columns, the form in which the baselines read the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmrec.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Table:
    """A row is an item that was shown at a moment.

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
        ValueError: if the arrays do not go together.
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
        n = len(self.item)
        for name, names in (("dense", self.dense_names), ("categorical", self.categorical_names)):
            shape = getattr(self, name).shape
            if shape != (n, len(names)):
                raise ValueError(f"{name}: shape {shape}, expected {(n, len(names))}")
        names = (*self.dense_names, *self.categorical_names)
        if len(set(names)) < len(names):
            raise ValueError(f"two columns have the same name among {', '.join(names)}")
        if len(self.sizes) != len(self.categorical_names):
            raise ValueError("sizes: there must be one for each categorical column")
        for name, size, column in zip(
            self.categorical_names, self.sizes, self.categorical.T, strict=True
        ):
            _check_ids(name, column, size)
        offsets = self.bag_offsets
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(self.bag_ids):
            raise ValueError("bag_offsets: must begin at 0 and end with the number of words")
        if (np.diff(offsets) < 0).any():
            raise ValueError("bag_offsets: must not fall")
        _check_ids("bag_ids", self.bag_ids, None)
        _check_ids("item", self.item, self.n_items)
        self._check_finite()

    def __len__(self) -> int:
        return len(self.item)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return len(self.bag_offsets) - 1

    def select(self, rows: np.ndarray | slice) -> Table:
        """Some of the rows."""
        return replace(
            self,
            dense=self.dense[rows],
            categorical=self.categorical[rows],
            item=self.item[rows],
        )

    def without(self, names: Sequence[str]) -> Table:
        """The same without some columns.

        Raises:
            ConfigError: for a name that no column has.
        """
        for name in names:
            if name not in self.dense_names and name not in self.categorical_names:
                raise ConfigError(f"{name}: no such column; there are {', '.join(self.names)}")
        dense = [i for i, name in enumerate(self.dense_names) if name not in names]
        kinds = [i for i, name in enumerate(self.categorical_names) if name not in names]
        return replace(
            self,
            dense=self.dense[:, dense],
            dense_names=tuple(self.dense_names[i] for i in dense),
            categorical=self.categorical[:, kinds],
            categorical_names=tuple(self.categorical_names[i] for i in kinds),
            sizes=tuple(self.sizes[i] for i in kinds),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, the dense ones first."""
        return (*self.dense_names, *self.categorical_names)

    def column(self, name: str) -> np.ndarray:
        """A dense column, float64 ``[n]``, NaN missing.

        Raises:
            ConfigError: if there is none of this name.
        """
        if name not in self.dense_names:
            raise ConfigError(f"{name}: no such number; there are {', '.join(self.dense_names)}")
        return self.dense[:, self.dense_names.index(name)].astype(np.float64)

    def _check_finite(self) -> None:
        for name, column in zip(self.dense_names, self.dense.T, strict=True):
            infinite = np.isinf(column)
            if infinite.any():
                row = int(np.argmax(infinite))
                raise DataError(
                    f"{name}: row {row} is {column[row]}; give NaN for a missing number"
                )


def _check_ids(name: str, ids: np.ndarray, size: int | None) -> None:
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name}: expected integers, got {ids.dtype}")
    if len(ids) and (ids.min() < 0 or (size is not None and ids.max() >= size)):
        raise ValueError(f"{name}: ids from {ids.min()} to {ids.max()}, expected [0, {size})")
