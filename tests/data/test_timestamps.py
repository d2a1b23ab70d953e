"""Times in every notation, and the values that are none."""

import time
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.timestamps import UnreadableTimeError, to_seconds

T = 1_700_000_000.0


@pytest.mark.parametrize(
    "values",
    [
        pa.array([T]),
        pa.array([int(T)]),
        pa.array([int(T) * 1000]),
        pa.array([int(T) * 10**6]),
        pa.array([int(T) * 10**9]),
        pa.array([int(T)]).cast(pa.decimal128(20, 0)),
        pa.array(["1700000000"]),
        pa.array([" 1700000000000 "]),
        pa.array(["2023-11-14T22:13:20Z"]),
        pa.array(["2023-11-14 22:13:20"]),
        pa.array(["2023-11-14T23:13:20+01:00"]),
        pa.array([datetime.fromtimestamp(T, UTC)]),
        pa.array([datetime.fromtimestamp(T, timezone(timedelta(hours=5)))]),
        pa.array([datetime(2023, 11, 14, 22, 13, 20)]),
    ],
)
def test_every_notation_of_one_moment(values: pa.Array) -> None:
    seconds, unusable = to_seconds(values)
    assert seconds.tolist() == [T]
    assert unusable == 0


def test_times_without_a_zone_are_utc_wherever_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        uniform = to_seconds(pa.array(["2023-11-14 22:13:20"]))[0]
        mixed = to_seconds(pa.array(["2023-11-14 22:13:20", str(int(T))]))[0]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [*uniform, *mixed] == [T, T, T]


def test_notations_may_mix() -> None:
    mixed = pa.array(["1700000000", "2023-11-14T22:13:20Z", "2023-11-14", None, ""])
    seconds, unusable = to_seconds(mixed)
    assert seconds[:3].tolist() == [T, T, 1_699_920_000.0]
    assert np.isnan(seconds[3:]).all()
    assert unusable == 0


@pytest.mark.parametrize("unit, factor", [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_a_given_unit_is_obeyed(unit: str, factor: float) -> None:
    assert to_seconds(pa.array([5.0 * factor]), unit)[0].tolist() == [5.0]


def test_zero_negative_and_infinite_are_unknown_and_counted() -> None:
    values = pa.array([0.0, -1.0, np.inf, -np.inf, np.nan, None, T])
    seconds, unusable = to_seconds(values)
    assert np.isnan(seconds[:6]).all() and seconds[6] == T
    assert unusable == 5
    assert to_seconds(pa.array(["inf", "0", "-3", "nan"]))[1] == 4


@pytest.mark.parametrize(
    "values, unit, index",
    [
        (pa.array(["1700000000", "yesterday"]), "auto", 1),
        (pa.array(["2023-11-14"]), "s", 0),
        (pa.array(["1700000000"]), "iso", 0),
        (pa.array([T]), "iso", 0),
        (pa.array([T, T * 1000]), "s", 1),  # milliseconds read as seconds
    ],
)
def test_what_is_no_time_is_named(values: pa.Array, unit: str, index: int) -> None:
    with pytest.raises(UnreadableTimeError) as caught:
        to_seconds(values, unit)
    assert caught.value.index == index


def test_a_column_of_no_times_is_named_whatever_the_format() -> None:
    with pytest.raises(UnreadableTimeError, match="is a column of list<"):
        to_seconds(pa.array([[1]]), format="%Y")
    with pytest.raises(UnreadableTimeError, match="lies after the year 5000"):
        to_seconds(pa.array([3 * 10**11], pa.timestamp("s")))
