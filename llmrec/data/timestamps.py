"""Event times in any usual notation -> float64 seconds since 1970 UTC.

A number's unit is given, or follows from its size: below 1e11 seconds (the year 5138), below 1e14
milliseconds, below 1e17 microseconds, else nanoseconds. Text that is no number is read as
ISO 8601; without a zone it is UTC. Zero, negative, infinite and NaN times stand for "unknown"
in every log we met, so they become NaN and are counted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Unit = Literal["auto", "s", "ms", "us", "ns", "iso"]
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_LATEST = 1e11  # seconds


class UnreadableTimeError(ValueError):
    """The value at ``index`` is no time, for the reason in the message."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def to_seconds(values: pa.Array, unit: Unit = "auto") -> tuple[np.ndarray, int]:
    """Seconds since 1970 UTC, NaN where unknown.

    Args:
        values: ``[n]`` numbers, text, dates or timestamps.
        unit: what a number means.

    Returns:
        float64 ``[n]``, and how many values were there but unusable (zero, negative, infinite).

    Raises:
        UnreadableTimeError: for the first value that is no time.

    >>> to_seconds(pa.array(["1700000000", "1700000000000", "2023-11-14T22:13:20Z", "0"]))
    (array([1.7e+09, 1.7e+09, 1.7e+09,     nan]), 1)
    """
    if pa.types.is_temporal(values.type):
        seconds = _temporal(values)
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        seconds = _text(values, unit)
    else:
        seconds = _scale(_floats(values), unit)
    with np.errstate(invalid="ignore"):
        unusable = ~((seconds > 0) & np.isfinite(seconds))
    late = np.flatnonzero(~unusable & (seconds >= _LATEST))
    if len(late):
        index = int(late[0])
        raise UnreadableTimeError(index, f"{values[index].as_py()!r} lies after the year 5000")
    given = ~np.asarray(pc.is_null(values, nan_is_null=False))
    if pa.types.is_string(values.type):
        given &= np.asarray(pc.fill_null(pc.utf8_trim_whitespace(values), "")) != ""
    seconds[unusable] = np.nan
    return seconds, int((unusable & given).sum())


def _floats(values: pa.Array) -> np.ndarray:
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).copy()


def _temporal(values: pa.Array) -> np.ndarray:
    micros = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return _floats(micros) / 1e6


def _scale(numbers: np.ndarray, unit: Unit) -> np.ndarray:
    if unit == "iso":
        known = np.flatnonzero(~np.isnan(numbers))
        if len(known):
            raise UnreadableTimeError(int(known[0]), f"{numbers[known[0]]:g} is not ISO 8601 text")
        return numbers
    if unit != "auto":
        return numbers / _PER_SECOND[unit]
    size = np.abs(numbers)
    divisor = np.select([size < 1e11, size < 1e14, size < 1e17], [1.0, 1e3, 1e6], 1e9)
    return numbers / divisor


def _text(values: pa.Array, unit: Unit) -> np.ndarray:
    """Fast when all values are of one notation, one by one when not."""
    trimmed = pc.utf8_trim_whitespace(values)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    if unit != "iso":
        try:
            return _scale(_floats(trimmed), unit)
        except pa.ArrowInvalid:
            pass
    if unit in ("iso", "auto"):
        try:
            return _temporal(trimmed.cast(pa.timestamp("us")))
        except pa.ArrowInvalid:
            pass
    return np.array([_one(i, text, unit) for i, text in enumerate(trimmed.to_pylist())], np.float64)


def _one(index: int, text: str | None, unit: Unit) -> float:
    if text is None:
        return np.nan
    if unit != "iso":
        try:
            return float(_scale(np.array([float(text)]), unit)[0])
        except ValueError:
            pass
    if unit in ("iso", "auto"):
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    raise UnreadableTimeError(index, f"{text!r} is not a time")
