"""Point-in-time access: an event at the time itself is not known yet."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.event_store import EVENT_CODES, EventStore, sums_before

STORE = EventStore(
    user=np.array([0, 0, 0, 0, 1], np.int32),
    item=np.array([0, 1, 1, 1, 2], np.int32),
    kind=np.array([EVENT_CODES[n] for n in ("click", "click", "purchase", "rating", "click")]),
    time=np.array([10.0, 20.0, 25.0, 9000.0, 15.0]),
    rating=np.array([np.nan, np.nan, np.nan, 2.0, np.nan], np.float32),
    user_ids=["u", "v"],
)


def test_positives_are_those_of_their_type_and_rating() -> None:
    found = STORE.positives(np.array([0, 0]), np.array([21.0, 1e6]), ("click", "rating"), 3.0, 5)
    assert [row.tolist() for row in found] == [[0, 1], [0, 1]]
    assert found.now is not None and found.now.tolist() == [21.0, 1e6]


def test_only_the_newest_before_the_time_are_taken() -> None:
    kinds = ("click", "purchase", "rating")
    users, times = np.array([0, 0, 1, -1]), np.array([20.0, 1e6, 15.0, 1e6])
    found = STORE.positives(users, times, kinds, None, 2)
    assert [row.tolist() for row in found] == [[0], [1, 1], [], []]
    assert STORE.ends(users, times).tolist() == [1, 4, 4, 0]
    assert STORE.starts(users).tolist() == [0, 0, 4, 0]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(-5, 5)), max_size=20),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10)), min_size=1, max_size=8),
)
def test_sums_are_of_what_came_strictly_before(
    events: list[tuple[int, int, int]], queries: list[tuple[int, int]]
) -> None:
    rows = np.array(events, dtype=np.float64).reshape(-1, 3)
    of = np.array(queries, dtype=np.float64)
    found = sums_before(
        rows[:, 0].astype(int), rows[:, 1], rows[:, 2:], of[:, 0].astype(int), of[:, 1]
    )
    expected = [sum(v for k, t, v in events if k == key and t < time) for key, time in queries]
    assert found.ravel().tolist() == expected
