"""A log of what was served, a batch at a time, every row checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.columns import identifiers, times
from llmrec.data.impression_forms import read_flags
from llmrec.data.raw_files import Chunk, chunks, files_at, strings
from llmrec.data.timestamps import Plausibility
from llmrec.errors import DataError
from llmrec.ranking.monitor.reference import NumericColumn, Reference

P, CLICKED, TIME = "p_click", "clicked", "timestamp"


@dataclass(frozen=True)
class ServedBatch:
    """Some served items.

    Attributes:
        p: float64 ``[n]``, the probability that was served.
        clicked: float64 ``[n]`` of 0 and 1, NaN where not known.
        seconds: float64 ``[n]`` since 1970 UTC.
        bins: by input of the reference, int64 ``[n]``.
    """

    p: np.ndarray
    clicked: np.ndarray
    seconds: np.ndarray
    bins: dict[str, np.ndarray]


def read_served(path: str | Path, reference: Reference) -> Iterator[ServedBatch]:
    """Read a log: a JSON-lines or Parquet file (CSV too), or a folder of them.

    Raises:
        DataError: for a missing column, a row that is wrong, or a log without rows, naming the
            file, the row and the fix.
    """
    required = {
        P: "log the calibrated click probability of every shown item",
        TIME: "log when every item was shown",
    }
    for name in reference.columns:
        required.setdefault(name, "log this input too, or fit the reference without it")
    rows, plausible = 0, Plausibility()
    for file in files_at(Path(path)):
        for chunk in chunks(file, [*required, CLICKED], required):
            rows += len(chunk.rows)
            yield _batch(chunk, reference, plausible)
    plausible.check()
    if not rows:
        raise DataError(f"{path}: the log holds no row; give one with at least one shown item")


def _batch(chunk: Chunk, reference: Reference, plausible: Plausibility) -> ServedBatch:
    bins = {}
    for name, column in reference.columns.items():
        if isinstance(column, NumericColumn):
            bins[name] = column.bins_of(_numbers(chunk, name))
        else:
            bins[name] = column.bins_of(_texts(chunk.columns[name]))
    return ServedBatch(_probabilities(chunk), _clicks(chunk), _times(chunk, plausible), bins)


def _probabilities(chunk: Chunk) -> np.ndarray:
    p = _numbers(chunk, P)
    _refuse(chunk, P, np.isnan(p), "is missing", "log a probability for every shown item")
    _refuse(chunk, P, (p < 0) | (p > 1), "is outside [0, 1]", "log the probability, not the logit")
    return p


def _clicks(chunk: Chunk) -> np.ndarray:
    column = chunk.columns.get(CLICKED)
    if column is None:
        return np.full(len(chunk.rows), np.nan)
    clicked = read_flags(column)
    _refuse(chunk, CLICKED, clicked < 0, "is neither 0 nor 1", "or leave it out if not known yet")
    return clicked


def _times(chunk: Chunk, plausible: Plausibility) -> np.ndarray:
    seconds = times(chunk, TIME, plausible=plausible)
    wrong = np.isnan(seconds)
    _refuse(chunk, TIME, wrong, "is no time after 1970", "log when every item was shown")
    return seconds


def _numbers(chunk: Chunk, name: str) -> np.ndarray:
    """A column as float64 ``[n]``, NaN where missing."""
    column = chunk.columns[name]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif pa.types.is_string(column.type):
        column = identifiers(column)
    try:
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        wrong = np.array([not _is_number(value) for value in column.to_pylist()])
        _refuse(chunk, name, wrong, "is no number", "log a number, or leave it out where missing")
        raise


def _is_number(value: object) -> bool:
    try:
        return value is None or np.isscalar(float(str(value)))
    except ValueError:
        return False


def _texts(column: pa.Array) -> pa.Array:
    """A column as text, written as the reference's was; null where missing."""
    return column if pa.types.is_string(column.type) else strings(column.to_pylist())


def _refuse(chunk: Chunk, name: str, wrong: np.ndarray, why: str, fix: str) -> None:
    """Raise a DataError that names the first row where ``wrong`` is true."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        value = chunk.columns[name][int(rows[0])].as_py()
        shown = "" if value is None else f" {value!r}"
        raise DataError(f"{chunk.path}: row {chunk.rows[rows[0]]}: {name}{shown} {why}; {fix}")
