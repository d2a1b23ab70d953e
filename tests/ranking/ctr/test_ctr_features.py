"""Features of requests and candidates."""

import dataclasses

import numpy as np
import pytest
from test_ctr_log import make_log

from llmrec.bench.ctr_baselines.table import flatten
from llmrec.data.event_store import EVENT_CODES
from llmrec.errors import ConfigError, DataError
from llmrec.ranking.ctr.features import ClickFeatures, FeatureBuilder
from llmrec.ranking.ctr.item_features import COUNTERS, ItemFeatures, prior_rates
from llmrec.ranking.ctr.request_context import ContextVocabulary, request_contexts
from llmrec.ranking.ctr.settings import HistoryConfig
from llmrec.ranking.retrieval.source_features import SourceFeatures

DAY = 86_400.0
NOON = 1_700_000_000.0 // DAY * DAY + DAY / 2  # a Tuesday in November


def make_items(n: int = 4) -> ItemFeatures:
    """Items 0 and 1 are alike and both red, 2 is the opposite and blue, others have nothing."""
    fused = np.zeros((n, 2), np.float32)
    fused[:3] = [[1, 0], [0.8, 0.6], [-1, 0]]
    fields = np.zeros((n, 1), np.int32)
    fields[:3, 0] = [2, 2, 3]
    price = np.full(n, np.nan, np.float32)
    price[:2] = [10.0, 20.0]
    available_from = np.full(n, np.nan)
    available_from[:2] = NOON - 10 * DAY
    return ItemFeatures(
        fused=fused,
        fields=fields,
        field_names=("colour",),
        field_sizes=(4,),
        token_ids=np.array([2, 3, 2], np.int32),
        token_offsets=np.array([0, 2, 3, *[3] * (n - 2)], np.int64),
        token_size=5,
        price=price,
        available_from=available_from,
        category=np.array([0, 0, 1, *[-1] * (n - 3)], np.int32),
        categories=("cup", "hat"),
        totals=np.zeros((n, len(COUNTERS))),
    )


def make_builder(holidays: str = "", history: HistoryConfig | None = None) -> FeatureBuilder:
    context = ContextVocabulary.learn([{"device": "phone"}])
    rates = prior_rates(np.zeros((1, len(COUNTERS))))
    return FeatureBuilder(
        make_items(), history or HistoryConfig(events=4, attended=2), context, rates, holidays
    )


def nothing(items: np.ndarray) -> tuple[SourceFeatures, np.ndarray]:
    """No sources, and counters of 0."""
    return SourceFeatures.empty((), items.shape), np.zeros((*items.shape, len(COUNTERS)))


LOG = make_log(
    [
        (0, 2, "click", NOON - 3 * DAY, None),
        (0, 0, "rating", NOON - 600, 5.0),
        (0, 2, "rating", NOON - 300, 1.0),
        (0, 0, "click", NOON - 60, None),
    ]
)
ITEMS = np.array([[0, 1, 2, 3, -1]])


def inputs_of(users: list[int], items: np.ndarray = ITEMS, now: float = NOON) -> ClickFeatures:
    made = make_builder()
    requests = request_contexts(
        LOG, np.array(users), np.full(len(users), now), np.zeros((len(users), 1), np.int32), 4
    )
    items = np.repeat(items, len(users), axis=0)
    return made(requests, items, np.zeros_like(items), *nothing(items))


def number(inputs: ClickFeatures, name: str) -> np.ndarray:
    """One request's values of a feature, [candidates] or a single one."""
    names = [one for one, _ in inputs.names.candidate]
    if name in names:
        return inputs.candidate[0, :, names.index(name)]
    return inputs.request[0, [one for one, _ in inputs.names.request].index(name)]


def test_similarity_is_the_cosine_with_the_history() -> None:
    found = inputs_of([0])
    np.testing.assert_allclose(number(found, "similarity_last")[:4], [1, 0.8, -1, 0], atol=1e-6)
    np.testing.assert_allclose(number(found, "similarity_max")[:3], [1, 0.8, 1], atol=1e-6)


def test_captions_are_matched_with_the_last_event_and_with_all() -> None:
    found = inputs_of([0])
    assert number(found, "colour_last")[:4].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(number(found, "colour_share")[:4], [0.5, 0.5, 0.5, 0], atol=1e-6)
    stars = number(found, "colour_rated")
    assert stars[0] > 0 > stars[2]  # red was rated above the user's mean, blue below


def test_prices_and_ages_that_are_not_known_are_missing() -> None:
    found = inputs_of([0])
    assert np.isnan(number(found, "price")[2:4]).all()
    assert np.isnan(number(found, "item_age")[2])
    np.testing.assert_allclose(number(found, "item_age")[0], np.log1p(10), rtol=1e-5)


def test_the_session_is_of_the_newest_events() -> None:
    found = inputs_of([0])
    np.testing.assert_allclose(
        number(found, "minutes_since_last"), np.log1p(1.0), rtol=1e-3
    )  # a minute
    assert number(found, "session_events") == 3  # the pause of three days ends it


def test_a_user_without_history_has_missing_features() -> None:
    found = inputs_of([-1])
    assert np.isnan(number(found, "similarity_last")).all()
    assert np.isnan(number(found, "minutes_since_last"))
    assert number(found, "clicks") == 0
    assert not np.isinf(found.candidate).any() and not np.isinf(found.request).any()


def test_one_request_alone_is_as_among_others() -> None:
    alone, both = inputs_of([0]), inputs_of([-1, 0])
    np.testing.assert_array_equal(alone.candidate[0], both.candidate[1])
    np.testing.assert_array_equal(alone.request[0], both.request[1])


def test_hours_weekdays_and_seasons_count_from_one_and_0_is_unknown() -> None:
    names = [name for name, _, _ in inputs_of([0]).names.categories]
    known = dict(zip(names, inputs_of([0]).categories[0].tolist(), strict=True))
    assert known == {"device": 0, "hour": 13, "weekday": 2, "month": 11, "season": 4}
    unknown = dict(zip(names, inputs_of([0], now=np.nan).categories[0].tolist(), strict=True))
    assert {unknown[name] for name in ("hour", "weekday", "month", "season")} == {0}


def test_public_holidays_are_a_category() -> None:
    days = np.array(["2024-07-04T12:00", "2024-07-05T12:00"], "datetime64[s]").astype(float)
    made = make_builder("US")
    empty = request_contexts(LOG, np.array([-1, -1]), days, np.zeros((2, 1), np.int32), 4)
    items = np.zeros((2, 1), np.int64)
    found = made(empty, items, items, *nothing(items))
    at = [name for name, _, _ in found.names.categories].index("holiday")
    assert found.categories[:, at].tolist() == [2, 1]


def test_a_country_without_calendar_is_an_error() -> None:
    items = np.zeros((1, 1), np.int64)
    requests = request_contexts(LOG, np.array([0]), np.array([NOON]), np.zeros((1, 1), np.int32), 4)
    with pytest.raises(ConfigError, match="no calendar of 'Atlantis'"):
        make_builder("Atlantis")(requests, items, items, *nothing(items))


def test_groups_can_be_left_out() -> None:
    found = inputs_of([0])
    less = found.without(["captions", "time"])
    left = {group for _, group in (*less.names.candidate, *less.names.request)}
    assert not left & {"captions", "time"}
    assert less.candidate.shape[2] == len(less.names.candidate) < found.candidate.shape[2]
    assert [name for name, _, _ in less.names.categories] == ["device"]
    with pytest.raises(ConfigError, match="'colours' is no group"):
        found.without(["colours"])


def test_without_time_no_feature_depends_on_the_clock_or_the_calendar() -> None:
    now, later = (inputs_of([0], now=at) for at in (NOON, NOON + 100.3 * DAY))
    assert any(not np.array_equal(getattr(now, kind), getattr(later, kind), equal_nan=True)
               for kind in ("candidate", "request", "categories"))  # fmt: skip
    now, later = now.without(["time"]), later.without(["time"])
    for kind in ("candidate", "request", "categories", "history_ages"):
        np.testing.assert_array_equal(getattr(now, kind), getattr(later, kind))
    assert np.isnan(now.history_ages).all()  # target attention reads them


def test_sources_give_a_score_and_a_rank() -> None:
    made = make_builder()
    requests = request_contexts(LOG, np.array([0]), np.array([NOON]), np.zeros((1, 1), np.int32), 4)
    items = np.array([[0, 1]])
    sources = SourceFeatures(
        ("generated",),
        np.array([[[0], [-1]]], np.int32),
        np.array([[[-1.5], [np.nan]]], np.float32),
    )
    found = made(requests, items, items, sources, nothing(items)[1])
    assert found.names.candidate[0] == ("generated_score", "llm")
    np.testing.assert_array_equal(number(found, "generated_rank"), [0, np.nan])
    np.testing.assert_array_equal(number(found, "generated_score"), [-1.5, np.nan])


def test_flat_rows_have_all_that_the_network_reads() -> None:
    found = inputs_of([0])
    table = flatten(found, make_items())
    assert len(table) == 4  # the fifth place is empty
    assert {"fused_0", "minutes_since_last", "colour_share"} <= set(table.dense_names)
    assert {"item", "position", "caption_colour", "last_colour"} <= set(table.categorical_names)


def test_items_of_parts_that_do_not_fit_are_an_error() -> None:
    item_features = make_items()
    with pytest.raises(DataError, match="price is of 1 items, fused of 4"):
        dataclasses.replace(item_features, price=item_features.price[:1])
    with pytest.raises(DataError, match="fused vector of item 2 is not finite"):
        dataclasses.replace(
            item_features, fused=np.where(np.arange(4)[:, None] == 2, np.nan, item_features.fused)
        )


def test_event_types_are_counted_within_the_history_that_is_read() -> None:
    found = inputs_of([0])
    np.testing.assert_allclose(number(found, "clicks"), np.log1p(2))
    np.testing.assert_allclose(number(found, "ratings"), np.log1p(2))
    assert EVENT_CODES["view"] == 0 and number(found, "views") == 0
