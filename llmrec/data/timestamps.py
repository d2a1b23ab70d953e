"""Event times in any usual notation -> float64 seconds since 1970 UTC.

A number's unit is given, or follows from its size: below 1e11 seconds (the year 5138), below 1e14
milliseconds, below 1e17 microseconds, else nanoseconds; but 20231114 is that day. Text that is no
number is read as ISO 8601; without a zone it is UTC. Zero, negative, infinite and NaN times stand
for "unknown" in every log we met, so they become NaN and are counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.errors import DataError

Unit = Literal["auto", "s", "ms", "us", "ns", "iso"]
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_LATEST = 1e11  # seconds
_DAY = 86_400.0
_EARLY = 631_152_000.0  # 1990: no shop's log begins before
_DAYS = (19_900_101, 21_001_231)  # as numbers they would be seconds of August 1970
_LIKELY = (  # formats that a message names
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%y"),
    *("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M"),
    *("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S"),
    *("%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    *("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %Z"),
    *("%d/%b/%Y:%H:%M:%S %z", "%m %d, %Y", "%Y-%m", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m", "%Y"),
)


class UnreadableTimeError(ValueError):
    """The values at ``indices`` are no times, the first for the reason in the message."""

    def __init__(self, indices: list[int], message: str) -> None:
        super().__init__(message)
        self.indices = indices
        self.index = indices[0]


def to_seconds(
    values: pa.Array,
    unit: Unit = "auto",
    format: str | None = None,
    missing: Sequence[str] = ("",),
) -> tuple[np.ndarray, int]:
    """Seconds since 1970 UTC, NaN where unknown.

    Args:
        values: ``[n]`` numbers, text, dates or timestamps.
        unit: what a number means.
        format: how text is written, as ``strptime`` has it; None: as the module says.
        missing: texts that stand for no time.

    Returns:
        float64 ``[n]``, and how many values were there but unusable (zero, negative, infinite).

    Raises:
        UnreadableTimeError: for values that are no times.

    >>> to_seconds(pa.array(["1700000000", "1700000000000", "2023-11-14T22:13:20Z", "0"]))
    (array([1.7e+09, 1.7e+09, 1.7e+09,     nan]), 1)
    >>> to_seconds(pa.array(["14/11/2023"]), format="%d/%m/%Y"), to_seconds(pa.array([20231114]))
    ((array([1.69992e+09]), 0), (array([1.69992e+09]), 0))
    """
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if is_text:
        values = pc.utf8_trim_whitespace(values)
    is_temporal, is_nested = pa.types.is_temporal(values.type), pa.types.is_nested(values.type)
    if format is not None and not (is_temporal or is_nested):
        seconds = _formatted(_without(values.cast(pa.string()), missing), format)
    elif is_text:
        seconds = _text(values, unit, missing)
    elif pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        seconds = _temporal(values)
    elif pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
        seconds = _scale(_floats(values), unit)
    elif pa.types.is_decimal(values.type) or pa.types.is_null(values.type):
        seconds = _scale(_floats(values.cast(pa.float64())), unit)
    else:
        raise UnreadableTimeError([0], f"is a column of {values.type}, not of times")
    with np.errstate(invalid="ignore"):
        unusable = ~((seconds > 0) & np.isfinite(seconds))
    late = np.flatnonzero(~unusable & (seconds >= _LATEST))
    if len(late):
        # a datetime of Python ends with the year 9999
        first = seconds[late[0]].item() if is_temporal else values[int(late[0])].as_py()
        raise UnreadableTimeError(late.tolist(), f"{first!r} lies after the year 5000")
    seconds[unusable] = np.nan
    if not unusable.any():
        return seconds, 0
    given = (_without(values, missing) if is_text else values).is_valid()
    return seconds, int((unusable & given.to_numpy(zero_copy_only=False)).sum())


def likely_formats(text: str) -> list[str]:
    """Formats in which a time may be written.

    >>> likely_formats("23/10/2022"), likely_formats("2/1/2022")
    (['%d/%m/%Y'], ['%d/%m/%Y', '%m/%d/%Y'])
    """
    found = []
    for likely in _LIKELY:
        try:
            moment = datetime.strptime(text.strip(), likely)
        except ValueError:
            continue
        if 1990 <= moment.year < 2100:
            found.append(likely)
    return found[:2]


class Plausibility:
    """Whether the times of a log lie where those of a log do: after 1990, and not in the future.

    Attributes:
        late: how many lie more than a day in the future.
        first_late: place and value of the first of them.
    """

    def __init__(self) -> None:
        self.late = self._early = self._known = 0
        self.first_late = self._first_early = ("", "")
        self._tomorrow = time.time() + _DAY

    def see(self, seconds: np.ndarray, values: pa.Array, place: Callable[[int], str]) -> None:
        """Take note of times.

        Args:
            seconds: ``[n]``, as :func:`to_seconds` gave them for ``values``.
            place: file and row of one of them.
        """
        early, late = seconds < _EARLY, seconds > self._tomorrow
        self._known += int((~np.isnan(seconds)).sum())
        if early.any() and not self._early:
            at = int(np.argmax(early))
            self._first_early = (place(at), str(values[at].as_py()))
        if late.any() and not self.late:
            at = int(np.argmax(late))
            self.first_late = (place(at), str(values[at].as_py()))
        self._early += int(early.sum())
        self.late += int(late.sum())

    def check(self) -> None:
        """Refuse a log most of whose times are not plausible.

        Raises:
            DataError: naming one, and the format that it is likely in.
        """
        if 2 * (self._early + self.late) <= self._known:
            return
        is_early = self._early >= self.late
        place, text = self._first_early if is_early else self.first_late
        when, count = ("before 1990", self._early) if is_early else ("in the future", self.late)
        formats = " or ".join(f"'{format}'" for format in likely_formats(text))
        fix = f"timestamp_format: {formats}" if formats else "timestamp_unit or timestamp_format"
        raise DataError(
            f"{place}: timestamp {text!r} lies {when}, as {count:,} of {self._known:,} do; set "
            f"{fix} (or timestamp_unit: s, if these are seconds since 1970 after all)"
        )


def _without(values: pa.Array, missing: Sequence[str]) -> pa.Array:
    """Text with null where it stands for no time."""
    absent = pc.is_in(values, pa.array(["", *missing], values.type))
    return pc.if_else(absent, pa.scalar(None, values.type), values)


def _floats(values: pa.Array) -> np.ndarray:
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).copy()


def _temporal(values: pa.Array) -> np.ndarray:
    micros = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return _floats(micros) / 1e6


def _scale(numbers: np.ndarray, unit: Unit) -> np.ndarray:
    if unit == "iso":
        known = np.flatnonzero(~np.isnan(numbers))
        if len(known):
            first = f"{numbers[known[0]]:g} is not ISO 8601 text"
            raise UnreadableTimeError(known.tolist(), first)
        return numbers
    if unit != "auto":
        return numbers / _PER_SECOND[unit]
    size = np.abs(numbers)
    divisor = np.select([size < 1e11, size < 1e14, size < 1e17], [1.0, 1e3, 1e6], 1e9)
    seconds = numbers / divisor
    may_be_day = (numbers >= _DAYS[0]) & (numbers <= _DAYS[1])
    if may_be_day.any():
        distinct, which = np.unique(numbers[may_be_day], return_inverse=True)
        seconds[may_be_day] = np.array([_day(number) for number in distinct.tolist()])[which]
    return seconds


def _day(number: float) -> float:
    """Seconds since 1970 of a day such as 20231114; any other number as it is."""
    try:
        return datetime.strptime(f"{number:.15g}", "%Y%m%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return number


def _text(values: pa.Array, unit: Unit, missing: Sequence[str]) -> np.ndarray:
    """Fast when all values are of one notation, one by one when not."""
    if unit != "iso":
        with contextlib.suppress(pa.ArrowInvalid):
            return _scale(_floats(values), unit)
    values = _without(values, missing)
    if unit != "iso":
        with contextlib.suppress(pa.ArrowInvalid):
            return _scale(_floats(values), unit)
    if unit in ("iso", "auto"):
        for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
            with contextlib.suppress(pa.ArrowInvalid):
                return _temporal(values.cast(kind))
    return _one_by_one(values, lambda text: _one(text, unit), "is not a time")


def _one(text: str, unit: Unit) -> float:
    if unit != "iso":
        try:
            return float(_scale(np.array([float(text)]), unit)[0])
        except ValueError:
            pass
    if unit not in ("iso", "auto"):
        raise ValueError
    moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _formatted(values: pa.Array, format: str) -> np.ndarray:
    """Times in one notation."""
    if not any(part in format for part in ("%f", "%z", "%Z")):  # which Arrow does not read
        moments = pc.strptime(values, format, "us", error_is_null=True)
        if moments.null_count == values.null_count:
            return _temporal(moments)

    def one(text: str) -> float:
        moment = datetime.strptime(text, format)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    return _one_by_one(values, one, f"is not a time as {format} writes it")


def _one_by_one(values: pa.Array, read: Callable[[str], float], problem: str) -> np.ndarray:
    """Every distinct text on its own.

    Raises:
        UnreadableTimeError: for all that cannot be read.
    """
    encoded = values.dictionary_encode()
    indices = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    seconds = np.full(len(encoded.dictionary) + 1, np.nan)
    bad = np.zeros(len(seconds), dtype=bool)
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            seconds[code] = read(text)
        except (ValueError, OverflowError):
            bad[code] = True
    unreadable = np.flatnonzero(bad[indices])
    if len(unreadable):
        first = values[int(unreadable[0])].as_py()
        likely = " or ".join(f"'{format}'" for format in likely_formats(first))
        hint = f"; set timestamp_format: {likely}" if likely else ""
        raise UnreadableTimeError(unreadable.tolist(), f"{first[:80]!r} {problem}{hint}")
    return seconds[indices]
