"""Point-in-time events, impressions, labels and sampled negatives."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.event_store import EVENT_CODES, EventStore, sums_before
from llmrec.errors import DataError
from llmrec.ranking.ctr.impressions import Impressions, read_impressions
from llmrec.ranking.ctr.item_features import COUNTERS, count_events
from llmrec.ranking.ctr.request_context import ContextVocabulary, request_context, request_contexts
from llmrec.ranking.ctr.settings import LabelConfig

ITEMS = {"a": 0, "b": 1, "c": 2, "d": 3}


def make_log(
    rows: list[tuple[int, int, str, float, float | None]], users: tuple[str, ...] = ("u", "v")
) -> EventStore:
    """A log of (user, item, type, time, rating), sorted here."""
    rows = sorted(rows, key=lambda row: (row[0], row[3]))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    return EventStore(
        user=np.array(columns[0], np.int32),
        item=np.array(columns[1], np.int32),
        kind=np.array([EVENT_CODES[name] for name in columns[2]], np.int8),
        time=np.array(columns[3], np.float64),
        rating=np.array([np.nan if r is None else r for r in columns[4]], np.float32),
        user_ids=list(users),
    )


def write_lists(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def shown(user: str, time: float, items: list[str], clicked: list[int]) -> dict[str, object]:
    return {"user_id": user, "timestamp": time, "items": items, "clicked": clicked}


def read(path: Path, log: EventStore) -> Impressions:
    labels = LabelConfig("impressions", path, timestamp_unit="s")
    return read_impressions(labels, log, [None] * len(log), ITEMS)


LOG = make_log(
    [
        (0, 0, "click", 10.0, None),
        (0, 1, "click", 20.0, None),
        (0, 1, "purchase", 25.0, None),
        (0, 1, "rating", 9000.0, 2.0),
        (1, 2, "click", 15.0, None),
    ]
)


def test_an_event_at_the_time_of_the_request_is_not_known() -> None:
    requests = request_contexts(LOG, np.array([0]), np.array([20.0]), np.zeros((1, 0), np.int32), 3)
    assert requests.items.tolist() == [[0, -1, -1]]
    assert requests.ages[0, 0] == pytest.approx(10 / 86_400)


def test_the_newest_event_comes_first_and_others_are_left_out() -> None:
    requests = request_contexts(
        LOG, np.array([0, 1]), np.array([1e6, 1e6]), np.zeros((2, 0), np.int32), 2
    )
    assert requests.items.tolist() == [[1, 1], [2, -1]]
    assert requests.ratings[0].tolist()[0] == 2.0


def test_an_unknown_user_has_no_history() -> None:
    requests = request_contexts(
        LOG, np.array([-1]), np.array([50.0]), np.zeros((1, 0), np.int32), 2
    )
    assert (requests.items == -1).all()
    assert np.isnan(requests.ages).all()


def test_a_request_and_the_log_give_the_same_context() -> None:
    of_log = request_contexts(LOG, np.array([0]), np.array([100.0]), np.zeros((1, 1), np.int32), 4)
    given = request_context(
        [0, 1, 1],
        [EVENT_CODES["click"], EVENT_CODES["click"], EVENT_CODES["purchase"]],
        [10.0, 20.0, 25.0],
        [np.nan] * 3,
        100.0,
        np.zeros(1, np.int32),
        4,
    )
    for name in ("items", "types", "ages", "ratings", "now", "context"):
        np.testing.assert_array_equal(getattr(of_log, name), getattr(given, name))


def test_positives_are_those_of_their_type_and_rating() -> None:
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
    impressions = read(path, LOG)
    assert impressions.purchase[1, 0] == 1 and np.isnan(impressions.purchase[1, 1])
    assert impressions.purchase[0].tolist()[0] == 0
    assert impressions.rating[1, 0] == 2.0 and np.isnan(impressions.rating[0]).all()


def test_items_that_are_not_in_the_catalogue_leave_their_place_empty(tmp_path: Path) -> None:
    impressions = read(
        write_lists(tmp_path / "x.jsonl", [shown("u", 9.0, ["zzz", "b"], [1, 0])]), LOG
    )
    assert impressions.items.tolist() == [[-1, 1]]
    assert impressions.position.tolist() == [[-1, 1]]
    assert np.isnan(impressions.click[0, 0])


def test_an_item_that_is_shown_twice_counts_once_with_its_click(tmp_path: Path) -> None:
    impressions = read(
        write_lists(tmp_path / "x.jsonl", [shown("u", 9.0, ["a", "b", "a"], [0, 0, 1])]), LOG
    )
    assert impressions.items.tolist() == [[0, 1, -1]]
    assert impressions.click[0, :2].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "row 1: not a readable JSON object"),
        ("[1]", "row 1: expected a JSON object"),
        ('{"user_id": "u", "items": [], "clicked": []}', "no column 'timestamp'"),
        (
            '{"user_id": "u", "timestamp": 1, "items": ["a"], "clicked": []}',
            "row 1: 1 items and 0 clicked",
        ),
        (
            '{"user_id": "u", "timestamp": 1, "items": ["a"], "clicked": [2]}',
            "row 1: clicked '2' is neither",
        ),
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
    with pytest.raises(DataError, match="the file is empty"):
        read(path, LOG)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="nothing to learn from"):
        read(path, LOG)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([shown("u", 9.0, ["x", "y", "a"], [1, 0, 0])], "2 of 3 shown items are not .*'x'.*'a'"),
        ([shown("w", 9.0, ["a"], [1])], "no user is in the dataset: it has 'w', the dataset 'u'"),
    ],
)
def test_a_log_of_another_shop_is_refused_unless_it_is_meant(
    tmp_path: Path, rows: list[dict[str, object]], said: str
) -> None:
    path = write_lists(tmp_path / "lists.jsonl", rows)
    with pytest.raises(DataError, match=said):
        read(path, LOG)
    labels = LabelConfig("impressions", path, timestamp_unit="s", max_unknown=1.0)
    found = read_impressions(labels, LOG, [None] * len(LOG), ITEMS)
    assert found.mask.sum() == 1 and len(found.notes) == 1


def test_lists_without_a_time_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [shown("u", 9.0, ["a"], [1]), shown("u", 0.0, ["b"], [0])]
    found = read(write_lists(tmp_path / "lists.jsonl", rows), LOG)
    assert found.items.tolist() == [[0]]
    assert found.counts["lists"] == 2 and found.counts["lists_without_time"] == 1
    assert found.notes == ["1 lists have no time and are left out"]


def test_what_is_known_of_users_stands_in_their_contexts(tmp_path: Path) -> None:
    rows = [shown("u", 9.0, ["a"], [1]), shown("v", 10.0, ["a"], [0]), shown("w", 11.0, ["a"], [0])]
    rows[0] |= {"context": {"device": "phone", "plan": "trial"}}
    rows[1] |= {"context": {"device": "phone"}}
    found = read(write_lists(tmp_path / "lists.jsonl", rows), LOG)
    known = found.with_user_attributes([{"plan": "gold", "age": "30"}, {"plan": "gold"}])
    assert [known.contexts[at] for at in known.context_index] == [
        {"plan": "trial", "age": "30", "device": "phone"},  # what the request says counts
        {"plan": "gold", "device": "phone"},
        {},
    ]
    assert found.with_user_attributes([{}, {}]) is found


def test_ratings_are_impressions_of_one_item() -> None:
    log = make_log([(0, 0, "rating", 1.0, 5.0), (0, 1, "rating", 2.0, 3.5)])
    impressions = read_impressions(LabelConfig("ratings", min_rating=4), log, [None, None], ITEMS)
    assert impressions.items.tolist() == [[0], [1]]
    assert impressions.click.ravel().tolist() == [1.0, 0.0]
    assert impressions.rating.ravel().tolist() == [5.0, 3.5]


def test_sampled_negatives_are_never_the_positive_nor_repeated() -> None:
    log = make_log([(0, item % 4, "click", float(item), None) for item in range(40)])
    impressions = read_impressions(
        LabelConfig("sampled", per_positive=3), log, [None] * 40, ITEMS, seed=1
    )
    for items, click in zip(impressions.items, impressions.click, strict=True):
        there = items[items >= 0]
        assert len(set(there.tolist())) == len(there)
        assert click[0] == 1 and np.nansum(click) == 1


@pytest.mark.parametrize("draw", ["uniform", "popularity"])
def test_the_sampling_rate_of_a_negative_is_the_share_of_all_draws_that_hold_it(draw: str) -> None:
    """Worked out over every pair of draws; weighted by it, each negative counts once on average."""
    clicked = [0] * 7 + [1] * 2 + [2]  # of four items, the last never
    log = make_log([(0, item, "click", 1e4 * at, None) for at, item in enumerate(clicked)])
    q = np.full(4, 0.25) if draw == "uniform" else np.array([8, 3, 2, 1]) ** 0.75
    q = q / q.sum()
    pairs = list(itertools.product(range(4), repeat=2))
    rate = [sum(q[a] * q[b] for a, b in pairs if item in (a, b)) for item in range(4)]
    labels = LabelConfig("sampled", per_positive=2, draw=draw)  # type: ignore[arg-type]
    found = read_impressions(labels, log, [None] * 10, ITEMS, seed=1)
    sampled = np.random.default_rng(1).choice(4, size=(10, 2), p=q)
    for row, positive, own in zip(range(10), clicked, sampled, strict=True):
        negatives = found.items[row, 1:][found.items[row, 1:] >= 0]
        assert sorted(negatives) == sorted(set(own.tolist()) - {positive})
        np.testing.assert_allclose(
            np.exp(found.log_sampling_rate[row, 1:][found.items[row, 1:] >= 0]),
            np.array(rate)[negatives],
            rtol=1e-6,
        )


def test_a_sampled_impression_does_not_know_the_view_that_led_to_the_click() -> None:
    """Otherwise the item in the history would give away the positive."""
    log = make_log(
        [
            (0, 3, "view", 5_000.0, None),
            (0, 1, "view", 9_990.0, None),
            (0, 1, "click", 10_000.0, None),
            (0, 1, "purchase", 10_060.0, None),
            (0, 1, "click", 90_000.0, None),
        ]
    )
    impressions = read_impressions(
        LabelConfig("sampled", per_positive=2), log, [None] * 5, ITEMS, seed=1
    )
    assert impressions.time.tolist() == [9_990.0, 90_000.0]  # one visit, then another
    history = request_contexts(
        log, impressions.user, impressions.time, np.zeros((2, 0), np.int32), 5
    )
    assert history.items[0].tolist() == [3, -1, -1, -1, -1]


def test_item_counters_hold_what_happened_before_midnight() -> None:
    """As a nightly job knows them: nothing of the day of the request, however early."""
    day = 86_400.0
    log = make_log([(0, 0, "rating", at, 4.0) for at in (0.9 * day, 1.0 * day, 1.2 * day)])
    impressions = read_impressions(LabelConfig("ratings"), log, [None] * 3, ITEMS)
    counters = count_events(impressions, log)
    times = np.array([0.95, 1.0, 1.1, 1.99, 2.0]) * day
    found = counters.before(np.zeros(5, np.int32), times)
    for name in ("impressions", "clicks", "ratings"):
        assert found[:, COUNTERS.index(name)].tolist() == [0, 1, 1, 1, 3]
    assert found[:, COUNTERS.index("rating_sum")].tolist() == [0, 4, 4, 4, 12]


def test_a_value_never_seen_and_a_missing_one_have_ids_of_their_own() -> None:
    ids = ContextVocabulary.learn([{"device": "phone"}, {"device": "phone"}, {"device": "desk"}])
    found = ids.encode([{"device": "phone"}, {"device": "watch"}, {}, {"colour": "red"}])
    assert found.ravel().tolist() == [2, 1, 0, 0]
    assert ContextVocabulary.of(ids.as_dict()).encode([{"device": "desk"}]).tolist() == [[3]]
