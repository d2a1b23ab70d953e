"""The reference distribution of a model's inputs: shares of values, as one small JSON file.

A numeric column is binned at the quantiles of the rows it was fitted on. Values below the least of
them or above the greatest have bins of their own, because values out of range are the clearest
drift. A text column keeps its 50 most frequent values. Both have a bin for missing ones.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.raw_files import json_column, strings
from llmrec.errors import ArtifactError, DataError
from llmrec.files import read_versioned, write_whole

SCHEMA_VERSION = 1
MOST_VALUES = 50  # of a text column; rarer ones are "other"


@dataclass(frozen=True)
class NumericColumn:
    """A numeric column.

    Attributes:
        limits: ascending, ``[limits]``. Bins: below the first, equal to it, ``(one, next]``,
            above the last, missing.
        counts: rows of each bin, ``[limits + 3]``.
    """

    limits: tuple[float, ...]
    counts: tuple[int, ...] = ()

    @classmethod
    def fit(cls, values: np.ndarray, bins: int) -> NumericColumn:
        """Limits at quantiles of float ``[n]``, which are values that occur; NaN is missing."""
        known = values[np.isfinite(values)]
        quantiles = np.zeros(1)
        if len(known):
            quantiles = np.quantile(known, np.linspace(0, 1, bins + 1), method="inverted_cdf")
        binned = cls(tuple(float(limit) for limit in np.unique(quantiles)))
        counts = np.bincount(binned.bins_of(values), minlength=len(binned.limits) + 3)
        return cls(binned.limits, tuple(int(count) for count in counts))

    def bins_of(self, values: np.ndarray) -> np.ndarray:
        """The bin of each value of float ``[n]``, int64 ``[n]``.

        >>> NumericColumn((1.0, 2.0)).bins_of(np.array([0.5, 1, 1.5, 2, 3, np.nan])).tolist()
        [0, 1, 2, 2, 3, 4]
        """
        limits = np.array(self.limits)
        with np.errstate(invalid="ignore"):
            bins = np.searchsorted(limits, values) + (values >= limits[0])
        return np.where(np.isnan(values), len(limits) + 2, bins)

    def labels(self) -> list[str]:
        """A name of each bin."""
        edges = [f"{limit:g}" for limit in self.limits]
        between = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
        return [f"below {edges[0]}", edges[0], *between, f"above {edges[-1]}", "missing"]


@dataclass(frozen=True)
class CategoricalColumn:
    """A categorical column.

    Attributes:
        values: the most frequent ones, ``[values]``. Bins: each of them, other, missing.
        counts: rows of each bin, ``[values + 2]``.
    """

    values: tuple[str, ...]
    counts: tuple[int, ...] = ()

    @classmethod
    def fit(cls, values: pa.Array) -> CategoricalColumn:
        """The 50 most frequent texts of ``[n]``; null is missing."""
        found = pc.value_counts(values.drop_null())
        order = np.argsort(-found.field("counts").to_numpy(), kind="stable")[:MOST_VALUES]
        kept = cls(tuple(found.field("values").take(pa.array(order)).to_pylist()))
        counts = np.bincount(kept.bins_of(values), minlength=len(kept.values) + 2)
        return cls(kept.values, tuple(int(count) for count in counts))

    def bins_of(self, values: pa.Array) -> np.ndarray:
        """The bin of each text of ``[n]``, int64 ``[n]``.

        >>> CategoricalColumn(("red", "blue")).bins_of(pa.array(["blue", "pink", None])).tolist()
        [1, 2, 3]
        """
        other = len(self.values)
        found = pc.index_in(values, pa.array(self.values, values.type))
        bins = pc.fill_null(found, other).to_numpy(zero_copy_only=False).astype(np.int64)
        return np.where(np.asarray(pc.is_null(values)), other + 1, bins)

    def labels(self) -> list[str]:
        """A name of each bin."""
        return [*self.values, "other", "missing"]


@dataclass(frozen=True)
class Reference:
    """The inputs of the rows a model was trained on.

    Attributes:
        rows: how many there were.
        columns: by name.
    """

    rows: int
    columns: dict[str, NumericColumn | CategoricalColumn]

    @classmethod
    def fit(cls, columns: Mapping[str, np.ndarray], bins: int = 10) -> Reference:
        """Count the values of each column.

        Args:
            columns: ``[n]`` each: numbers (NaN is missing), or text and booleans (None is
                missing). An array of objects is numbers if all of them are.
            bins: quantile bins of a number column; with ties there are fewer.

        Raises:
            DataError: if there is no column or row, or a column is neither.
        """
        lengths = {name: len(values) for name, values in columns.items()}
        if not lengths or not min(lengths.values()):
            raise DataError("a reference needs at least one column with at least one row")
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns differ in length: {lengths}; give all the same rows")
        if bins < 1:
            raise DataError(f"bins={bins}: at least one is needed")
        fitted = {name: _fit(name, np.asarray(values), bins) for name, values in columns.items()}
        return cls(next(iter(lengths.values())), fitted)

    def save(self, path: str | Path) -> Path:
        """Write the JSON file; it appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {name: vars(column) for name, column in self.columns.items()}
        raw = {"schema_version": SCHEMA_VERSION, "rows": self.rows, "columns": columns}
        write_whole(path, json.dumps(raw, allow_nan=False) + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if it is missing, damaged or from a newer llmrec.
        """
        path = Path(path)
        raw = read_versioned(path, "reference", SCHEMA_VERSION, "fit it with the click model again")
        try:
            columns = {name: _column(column) for name, column in raw["columns"].items()}
            return cls(int(raw["rows"]), columns)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: damaged reference ({error}); fit it again") from None


def _fit(name: str, values: np.ndarray, bins: int) -> NumericColumn | CategoricalColumn:
    if values.ndim != 1 or values.dtype.kind not in "iufbUSO":
        raise DataError(
            f"column {name!r} is {values.dtype} {values.shape}; give one number or text a row"
        )
    if values.dtype.kind in "iuf":
        return NumericColumn.fit(values.astype(np.float64), bins)
    listed = [None if value != value else value for value in values.tolist()]  # NaN is missing
    column = json_column(listed) if values.dtype.kind == "O" else strings(listed)
    if pa.types.is_string(column.type):
        return CategoricalColumn.fit(column)
    return NumericColumn.fit(column.cast(pa.float64()).to_numpy(zero_copy_only=False), bins)


def _column(raw: dict[str, Any]) -> NumericColumn | CategoricalColumn:
    """A column of the JSON file, or ValueError."""
    counts = tuple(raw["counts"])
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("a count is no count")
    column: NumericColumn | CategoricalColumn
    if "limits" in raw:
        column = NumericColumn(tuple(float(limit) for limit in raw["limits"]), counts)
        if not column.limits or not (np.diff(column.limits) > 0).all():
            raise ValueError("limits do not rise")
    else:
        column = CategoricalColumn(tuple(raw["values"]), counts)
        if not all(isinstance(value, str) for value in column.values):
            raise ValueError("a value is no text")
    if len(column.labels()) != len(counts):
        raise ValueError(f"{len(counts)} counts for {len(column.labels())} bins")
    return column
