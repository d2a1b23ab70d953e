"""What was known before a moment, and what was shown and clicked."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.errors import DataError
from llmrec.ranking.ctr.lists import Lists, read_lists
from llmrec.ranking.ctr.log import KIND, Log, sums_before
from llmrec.ranking.ctr.moments import ContextIds, moment_of_events, moments_of
from llmrec.ranking.ctr.settings import Labels

ITEMS = {"a": 0, "b": 1, "c": 2, "d": 3}


def make_log(
    rows: list[tuple[int, int, str, float, float | None]], users: tuple[str, ...] = ("u", "v")
) -> Log:
    """A log of (user, item, type, time, rating), sorted here."""
    rows = sorted(rows, key=lambda row: (row[0], row[3]))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    return Log(
        user=np.array(columns[0], np.int32),
        item=np.array(columns[1], np.int32),
        kind=np.array([KIND[name] for name in columns[2]], np.int8),
        time=np.array(columns[3], np.float64),
        rating=np.array([np.nan if r is None else r for r in columns[4]], np.float32),
        user_ids=list(users),
    )


def write_lists(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def shown(user: str, time: float, items: list[str], clicked: list[int]) -> dict[str, object]:
    return {"user_id": user, "timestamp": time, "items": items, "clicked": clicked}


def read(path: Path, log: Log) -> Lists:
    return read_lists(Labels("impressions", path), log, [None] * len(log), ITEMS)


LOG = make_log(
    [
        (0, 0, "click", 10.0, None),
        (0, 1, "click", 20.0, None),
        (0, 1, "purchase", 25.0, None),
        (0, 1, "rating", 9000.0, 2.0),
        (1, 2, "click", 15.0, None),
    ]
)


def test_an_event_at_the_moment_itself_is_not_known() -> None:
    moments = moments_of(LOG, np.array([0]), np.array([20.0]), np.zeros((1, 0), np.int32), 3)
    assert moments.items.tolist() == [[0, -1, -1]]
    assert moments.ages[0, 0] == pytest.approx(10 / 86_400)


def test_the_newest_event_comes_first_and_others_are_left_out() -> None:
    moments = moments_of(LOG, np.array([0, 1]), np.array([1e6, 1e6]), np.zeros((2, 0), np.int32), 2)
    assert moments.items.tolist() == [[1, 1], [2, -1]]
    assert moments.ratings[0].tolist()[0] == 2.0


def test_somebody_unknown_has_no_past() -> None:
    moments = moments_of(LOG, np.array([-1]), np.array([50.0]), np.zeros((1, 0), np.int32), 2)
    assert (moments.items == -1).all()
    assert np.isnan(moments.ages).all()


def test_a_request_and_the_log_give_the_same_moment() -> None:
    of_log = moments_of(LOG, np.array([0]), np.array([100.0]), np.zeros((1, 1), np.int32), 4)
    given = moment_of_events(
        [0, 1, 1],
        [KIND["click"], KIND["click"], KIND["purchase"]],
        [10.0, 20.0, 25.0],
        [np.nan] * 3,
        100.0,
        np.zeros(1, np.int32),
        4,
    )
    for name in ("items", "kinds", "ages", "ratings", "now", "context"):
        np.testing.assert_array_equal(getattr(of_log, name), getattr(given, name))


def test_choices_are_those_of_their_type_and_rating() -> None:
    found = LOG.positives(np.array([0, 0]), np.array([21.0, 1e6]), ("click", "rating"), 3.0, 5)
    assert [row.tolist() for row in found] == [[0, 1], [0, 1]]
    assert found.now is not None and found.now.tolist() == [21.0, 1e6]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(-5, 5)), max_size=20),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10)), min_size=1, max_size=8),
)
def test_sums_are_of_what_came_strictly_before(
    events: list[tuple[int, int, int]], asked: list[tuple[int, int]]
) -> None:
    rows = np.array(events, dtype=np.float64).reshape(-1, 3)
    of = np.array(asked, dtype=np.float64)
    found = sums_before(
        rows[:, 0].astype(int), rows[:, 1], rows[:, 2:], of[:, 0].astype(int), of[:, 1]
    )
    expected = [sum(v for k, t, v in events if k == key and t < time) for key, time in asked]
    assert found.ravel().tolist() == expected


def test_a_purchase_and_a_rating_belong_to_the_click_before_them(tmp_path: Path) -> None:
    path = write_lists(
        tmp_path / "lists.jsonl",
        [shown("u", 9.0, ["a", "b"], [1, 0]), shown("u", 19.0, ["b", "c"], [1, 0])],
    )
    lists = read(path, LOG)
    assert lists.purchase[1, 0] == 1 and np.isnan(lists.purchase[1, 1])
    assert lists.purchase[0].tolist()[0] == 0
    assert lists.rating[1, 0] == 2.0 and np.isnan(lists.rating[0]).all()


def test_items_that_are_not_in_the_catalogue_leave_their_place_empty(tmp_path: Path) -> None:
    lists = read(write_lists(tmp_path / "x.jsonl", [shown("u", 9.0, ["zzz", "b"], [1, 0])]), LOG)
    assert lists.items.tolist() == [[-1, 1]]
    assert lists.position.tolist() == [[-1, 1]]
    assert np.isnan(lists.click[0, 0])


def test_an_item_that_is_shown_twice_counts_once_with_its_click(tmp_path: Path) -> None:
    lists = read(
        write_lists(tmp_path / "x.jsonl", [shown("u", 9.0, ["a", "b", "a"], [0, 0, 1])]), LOG
    )
    assert lists.items.tolist() == [[0, 1, -1]]
    assert lists.click[0, :2].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "row 1: not JSON"),
        ("[1]", "row 1: expected an object"),
        ('{"user_id": "u", "items": [], "clicked": []}', "has no 'timestamp'"),
        (
            '{"user_id": "u", "timestamp": 1, "items": ["a"], "clicked": []}',
            "lists of the same length",
        ),
        ('{"user_id": "u", "timestamp": 1, "items": ["a"], "clicked": [2]}', "must be 0 or 1"),
        (
            '{"user_id": "u", "timestamp": "noon", "items": ["a"], "clicked": [1]}',
            "'noon' is not a time",
        ),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read(path, LOG)


def test_a_file_without_lists_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="nothing to learn from"):
        read(path, LOG)


def test_ratings_are_lists_of_one_item() -> None:
    log = make_log([(0, 0, "rating", 1.0, 5.0), (0, 1, "rating", 2.0, 3.5)])
    lists = read_lists(Labels("ratings", min_rating=4), log, [None, None], ITEMS)
    assert lists.items.tolist() == [[0], [1]]
    assert lists.click.ravel().tolist() == [1.0, 0.0]
    assert lists.rating.ravel().tolist() == [5.0, 3.5]


def test_drawn_negatives_are_never_the_choice_nor_drawn_twice() -> None:
    log = make_log([(0, item % 4, "click", float(item), None) for item in range(40)])
    lists = read_lists(Labels("sampled", per_positive=3), log, [None] * 40, ITEMS, seed=1)
    for items, click in zip(lists.items, lists.click, strict=True):
        there = items[items >= 0]
        assert len(set(there.tolist())) == len(there)
        assert click[0] == 1 and np.nansum(click) == 1


def test_odds_of_drawn_negatives_come_out_right() -> None:
    """With the correction, the mean row says how likely one of all items is chosen."""
    log = make_log([(0, item % 4, "click", float(item), None) for item in range(400)])
    lists = read_lists(Labels("sampled", per_positive=2), log, [None] * 400, ITEMS, seed=1)
    known = lists.items >= 0
    weight = np.exp(-lists.log_copies[known]) * (lists.click[known] == 0)
    positives = np.nansum(lists.click)
    # 400 moments, 3 items each that were not chosen; repeats among two draws of four are dropped
    assert weight.sum() / positives == pytest.approx(3.0, rel=0.2)


def test_a_drawn_list_does_not_know_the_view_that_led_to_the_click() -> None:
    """Otherwise the item in the past would give away which one was chosen."""
    log = make_log(
        [
            (0, 3, "view", 5_000.0, None),
            (0, 1, "view", 9_990.0, None),
            (0, 1, "click", 10_000.0, None),
            (0, 1, "purchase", 10_060.0, None),
            (0, 1, "click", 90_000.0, None),
        ]
    )
    lists = read_lists(Labels("sampled", per_positive=2), log, [None] * 5, ITEMS, seed=1)
    assert lists.time.tolist() == [9_990.0, 90_000.0]  # one visit, then another
    past = moments_of(log, lists.user, lists.time, np.zeros((2, 0), np.int32), 5)
    assert past.items[0].tolist() == [3, -1, -1, -1, -1]


def test_a_value_never_seen_and_a_missing_one_have_ids_of_their_own() -> None:
    ids = ContextIds.learn([{"device": "phone"}, {"device": "phone"}, {"device": "desk"}])
    found = ids.encode([{"device": "phone"}, {"device": "watch"}, {}, {"colour": "red"}])
    assert found.ravel().tolist() == [2, 1, 0, 0]
    assert ContextIds.of(ids.as_dict()).encode([{"device": "desk"}]).tolist() == [[3]]
