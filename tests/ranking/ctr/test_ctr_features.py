"""Numbers of a moment and its items."""

import dataclasses

import numpy as np
import pytest
from test_ctr_log import make_log

from llmrec.bench.ctr_baselines.flat import flatten
from llmrec.errors import ConfigError, DataError
from llmrec.ranking.ctr.features import Assembler, Inputs, Signals, shrunk_rates
from llmrec.ranking.ctr.log import KIND
from llmrec.ranking.ctr.moments import ContextIds, moments_of
from llmrec.ranking.ctr.settings import Past
from llmrec.ranking.ctr.shelf import COUNTS, Shelf

DAY = 86_400.0
NOON = 1_700_000_000.0 // DAY * DAY + DAY / 2  # a Tuesday in November


def make_shelf(n: int = 4) -> Shelf:
    """Items 0 and 1 are alike and both red, 2 is the opposite and blue, others have nothing."""
    fused = np.zeros((n, 2), np.float32)
    fused[:3] = [[1, 0], [0.8, 0.6], [-1, 0]]
    fields = np.zeros((n, 1), np.int32)
    fields[:3, 0] = [2, 2, 3]
    price = np.full(n, np.nan, np.float32)
    price[:2] = [10.0, 20.0]
    arrived = np.full(n, np.inf)
    arrived[:2] = NOON - 10 * DAY
    return Shelf(
        fused=fused,
        fields=fields,
        field_names=("colour",),
        field_sizes=(4,),
        token_ids=np.array([2, 3, 2], np.int32),
        token_offsets=np.array([0, 2, 3, *[3] * (n - 2)], np.int64),
        token_size=5,
        price=price,
        arrived=arrived,
        category=np.array([0, 0, 1, *[-1] * (n - 3)], np.int32),
        categories=("cup", "hat"),
        totals=np.zeros((n, len(COUNTS))),
    )


def make_assembler(holidays: str = "", past: Past | None = None) -> Assembler:
    context = ContextIds.learn([{"device": "phone"}])
    rates = shrunk_rates(np.zeros((1, len(COUNTS))))
    return Assembler(make_shelf(), past or Past(events=4, attended=2), context, rates, holidays)


def nothing(items: np.ndarray) -> Signals:
    shape = items.shape
    return Signals((), np.zeros((*shape, 0), np.int32), np.zeros((*shape, 0), np.float32),
                   np.zeros((*shape, len(COUNTS))))  # fmt: skip


LOG = make_log(
    [
        (0, 2, "click", NOON - 3 * DAY, None),
        (0, 0, "rating", NOON - 600, 5.0),
        (0, 2, "rating", NOON - 300, 1.0),
        (0, 0, "click", NOON - 60, None),
    ]
)
ITEMS = np.array([[0, 1, 2, 3, -1]])


def inputs_of(users: list[int], items: np.ndarray = ITEMS, now: float = NOON) -> Inputs:
    made = make_assembler()
    moments = moments_of(
        LOG, np.array(users), np.full(len(users), now), np.zeros((len(users), 1), np.int32), 4
    )
    items = np.repeat(items, len(users), axis=0)
    return made(moments, items, np.zeros_like(items), nothing(items))


def number(inputs: Inputs, name: str) -> np.ndarray:
    """One moment's values of a number, [places] or a single one."""
    names = [one for one, _ in inputs.names.pair]
    if name in names:
        return inputs.pair[0, :, names.index(name)]
    return inputs.whole[0, [one for one, _ in inputs.names.whole].index(name)]


def test_likeness_is_the_cosine_with_the_past() -> None:
    found = inputs_of([0])
    np.testing.assert_allclose(number(found, "like_last")[:4], [1, 0.8, -1, 0], atol=1e-6)
    np.testing.assert_allclose(number(found, "like_nearest")[:3], [1, 0.8, 1], atol=1e-6)


def test_what_is_said_is_compared_with_the_last_event_and_with_all() -> None:
    found = inputs_of([0])
    assert number(found, "colour_last")[:4].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(number(found, "colour_share")[:4], [0.5, 0.5, 0.5, 0], atol=1e-6)
    stars = number(found, "colour_stars")
    assert stars[0] > 0 > stars[2]  # red was rated above the person's mean, blue below


def test_prices_and_arrival_that_are_not_known_are_missing() -> None:
    found = inputs_of([0])
    assert np.isnan(number(found, "price")[2:4]).all()
    assert np.isnan(number(found, "age_in_catalogue")[2])
    np.testing.assert_allclose(number(found, "age_in_catalogue")[0], np.log1p(10), rtol=1e-5)


def test_gap_and_session_are_of_the_newest_events() -> None:
    found = inputs_of([0])
    np.testing.assert_allclose(number(found, "gap"), np.log1p(1.0), rtol=1e-3)  # a minute
    assert number(found, "session_position") == 3  # the pause of three days ends it


def test_a_person_without_past_has_missing_numbers_and_no_likeness() -> None:
    found = inputs_of([-1])
    assert np.isnan(number(found, "like_last")).all()
    assert np.isnan(number(found, "gap"))
    assert number(found, "clicks") == 0
    assert not np.isinf(found.pair).any() and not np.isinf(found.whole).any()


def test_one_moment_alone_is_as_among_others() -> None:
    alone, both = inputs_of([0]), inputs_of([-1, 0])
    np.testing.assert_array_equal(alone.pair[0], both.pair[1])
    np.testing.assert_array_equal(alone.whole[0], both.whole[1])


def test_hours_weekdays_and_seasons_count_from_one_and_0_is_unknown() -> None:
    names = [name for name, _, _ in inputs_of([0]).names.categories]
    known = dict(zip(names, inputs_of([0]).categories[0].tolist(), strict=True))
    assert known == {"device": 0, "hour": 13, "weekday": 2, "month": 11, "season": 4}
    unknown = dict(zip(names, inputs_of([0], now=np.nan).categories[0].tolist(), strict=True))
    assert {unknown[name] for name in ("hour", "weekday", "month", "season")} == {0}


def test_public_holidays_are_told_apart() -> None:
    days = np.array(["2024-07-04T12:00", "2024-07-05T12:00"], "datetime64[s]").astype(float)
    made = make_assembler("US")
    empty = moments_of(LOG, np.array([-1, -1]), days, np.zeros((2, 1), np.int32), 4)
    items = np.zeros((2, 1), np.int64)
    found = made(empty, items, items, nothing(items))
    at = [name for name, _, _ in found.names.categories].index("holiday")
    assert found.categories[:, at].tolist() == [2, 1]


def test_a_country_without_calendar_is_an_error() -> None:
    items = np.zeros((1, 1), np.int64)
    moments = moments_of(LOG, np.array([0]), np.array([NOON]), np.zeros((1, 1), np.int32), 4)
    with pytest.raises(ConfigError, match="no calendar of 'Atlantis'"):
        make_assembler("Atlantis")(moments, items, items, nothing(items))


def test_groups_can_be_left_out() -> None:
    found = inputs_of([0])
    less = found.without(["captions", "time"])
    left = {group for _, group in (*less.names.pair, *less.names.whole)}
    assert not left & {"captions", "time"}
    assert less.pair.shape[2] == len(less.names.pair) < found.pair.shape[2]
    assert [name for name, _, _ in less.names.categories] == ["device"]
    with pytest.raises(ConfigError, match="'colours' is no group"):
        found.without(["colours"])


def test_sources_give_a_score_and_a_rank() -> None:
    made = make_assembler()
    moments = moments_of(LOG, np.array([0]), np.array([NOON]), np.zeros((1, 1), np.int32), 4)
    items = np.array([[0, 1]])
    signals = dataclasses.replace(
        nothing(items),
        names=("generated",),
        rank=np.array([[[0], [-1]]], np.int32),
        score=np.array([[[-1.5], [np.nan]]], np.float32),
    )
    found = made(moments, items, items, signals)
    assert found.names.pair[0] == ("generated_score", "llm")
    np.testing.assert_array_equal(number(found, "generated_rank"), [0, np.nan])
    np.testing.assert_array_equal(number(found, "generated_score"), [-1.5, np.nan])


def test_flat_rows_have_all_that_the_head_reads() -> None:
    found = inputs_of([0])
    table = flatten(found, make_shelf())
    assert len(table) == 4  # the fifth place is empty
    assert {"fused_0", "gap", "colour_share"} <= set(table.dense_names)
    assert {"item", "position", "said_colour", "last_colour"} <= set(table.categorical_names)
    assert "said_colour" not in flatten(found, make_shelf(), captions=False).categorical_names


def test_a_shelf_of_parts_that_do_not_fit_is_an_error() -> None:
    shelf = make_shelf()
    with pytest.raises(DataError, match="price is of 1 items, fused of 4"):
        dataclasses.replace(shelf, price=shelf.price[:1])
    with pytest.raises(DataError, match="fused vector of item 2 is not finite"):
        dataclasses.replace(shelf, fused=np.where(np.arange(4)[:, None] == 2, np.nan, shelf.fused))


def test_kinds_are_counted_within_what_is_read() -> None:
    found = inputs_of([0])
    np.testing.assert_allclose(number(found, "clicks"), np.log1p(2))
    np.testing.assert_allclose(number(found, "ratings"), np.log1p(2))
    assert KIND["view"] == 0 and number(found, "views") == 0
