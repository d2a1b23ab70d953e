"""Packed histories: packing, selecting and unpacking lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.types import Cases, Histories

ROWS = st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=8)


def rows_of(histories: Histories) -> list[list[int]]:
    return [row.tolist() for row in histories]


@given(ROWS)
def test_packed_lists_come_back(rows: list[list[int]]) -> None:
    histories = Histories.from_lists(rows)
    assert rows_of(histories) == rows
    assert len(histories) == len(rows)
    assert histories.lengths().tolist() == [len(row) for row in rows]
    assert histories.items.dtype == np.int32
    assert histories.offsets.dtype == np.int64


@given(ROWS, st.data())
def test_select_is_list_indexing(rows: list[list[int]], data: st.DataObject) -> None:
    users = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10)) if rows else []
    times = [[float(item) + 0.5 for item in row] for row in rows]
    histories = Histories.from_lists(rows, times, [float(u) for u in range(len(rows))])
    chosen = histories.select(users)
    assert rows_of(chosen) == [rows[u] for u in users]
    assert chosen.now is not None and chosen.now.tolist() == users
    for place, user in enumerate(users):
        stamps = chosen.times(place)
        assert stamps is not None and stamps.tolist() == times[user]


def test_a_mask_selects_the_users_it_marks() -> None:
    histories = Histories.from_lists([[1], [2, 3], [4]])
    mask = np.array([False, True, True])
    assert rows_of(histories.select(mask)) == [[2, 3], [4]]
    cases = Cases(np.array([7, 8, 9], dtype=np.int32), histories, np.array([0, 1, 2]))
    chosen = cases.select(mask)
    assert (chosen.users.tolist(), chosen.targets.tolist()) == ([8, 9], [1, 2])
    assert rows_of(chosen.histories) == [[2, 3], [4]]


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(IndexError):
        Histories.from_lists([[1], [2]]).select(np.array([True]))


def test_data_without_times_has_none() -> None:
    histories = Histories.from_lists([[1, 2], [3]])
    assert histories.times(0) is None
    assert histories.select([1]).timestamps is None
    assert histories.select([1]).now is None


def test_cases_keep_their_rows_together() -> None:
    histories = Histories.from_lists([[1], [2, 3], []])
    cases = Cases(np.array([5, 6, 7], dtype=np.int32), histories, np.array([10, 20, 30]))
    chosen = cases.select([2, 0])
    assert len(chosen) == 2
    assert chosen.users.tolist() == [7, 5]
    assert chosen.targets.tolist() == [30, 10]
    assert rows_of(chosen.histories) == [[], [1]]
