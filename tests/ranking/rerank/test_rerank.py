"""Re-ranking: what every list has, whatever is on."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.config import build
from llmrec.errors import ConfigError, LlmrecError
from llmrec.ranking.rerank import RerankConfig, rerank
from llmrec.ranking.rerank.order import bonus

CONFIGS = st.builds(
    RerankConfig,
    diversity=st.sampled_from([None, "mmr", "dpp"]),
    mmr_lambda=st.floats(0, 1),
    dpp_alpha=st.floats(0, 100),
    per_category=st.none() | st.integers(1, 4),
    freshness=st.just(0.0) | st.floats(0, 100),
    half_life_days=st.floats(1e-300, 1e300),
)


STRANGE_LOGITS = [0.0, 1.0, -0.0, 1e-320, -np.inf, 1.7e308, -1.7e308]
STRANGE_AGES = [0.0, 3.0, -3.0, np.nan, np.inf, -np.inf, 1e300]


@st.composite
def scored_candidates(draw):
    """Candidates with ties, and few different vectors, so that there are duplicates and zeros."""
    count, size = draw(st.integers(0, 25)), draw(st.integers(0, 4))
    scale = draw(st.sampled_from([1.0, 1e-40, 1e38]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    strange, masked = draw(st.booleans()), draw(st.booleans())
    logits = rng.normal(size=count).round(draw(st.integers(0, 3)))
    return {
        "logits": rng.choice(STRANGE_LOGITS, count) if strange else logits,
        "vectors": (rng.integers(-1, 2, (count, size)) * scale).astype(np.float32),
        "category": rng.integers(-2, 4, count),
        "age_days": rng.choice(STRANGE_AGES, count) if strange else rng.exponential(9, count),
        "available": rng.random(count) < 0.7 if masked else None,
    }


def allowed(candidates):
    may = ~np.isneginf(candidates["logits"])
    return may if candidates["available"] is None else may & candidates["available"]


@settings(max_examples=100, deadline=None)
@given(CONFIGS, scored_candidates(), st.integers(0, 30))
def test_a_list_holds_what_may_be_shown_once_each(config, candidates, n):
    order = rerank(config, n=n, **candidates)
    assert order.dtype == np.int64
    assert len(order) == min(n, allowed(candidates).sum())
    assert len(set(order.tolist())) == len(order)
    assert allowed(candidates)[order].all()


@settings(max_examples=100, deadline=None)
@given(CONFIGS, scored_candidates(), st.integers(0, 30))
def test_a_shorter_list_is_the_beginning_of_a_longer_one(config, candidates, n):
    whole = rerank(config, n=30, **candidates)
    np.testing.assert_array_equal(rerank(config, n=n, **candidates), whole[:n])


@settings(max_examples=100, deadline=None)
@given(scored_candidates(), st.integers(0, 30))
def test_with_everything_off_it_is_the_stable_order_of_the_scores(candidates, n):
    order = rerank(RerankConfig(), n=n, **candidates)
    expected = sorted(np.flatnonzero(allowed(candidates)), key=lambda c: -candidates["logits"][c])
    assert order.tolist() == expected[:n]


@settings(max_examples=100, deadline=None)
@given(CONFIGS, scored_candidates(), st.integers(0, 30))
def test_a_lambda_of_one_is_no_diversity(config, candidates, n):
    off = replace(config, diversity=None)
    mmr = replace(config, diversity="mmr", mmr_lambda=1.0)
    np.testing.assert_array_equal(rerank(mmr, n=n, **candidates), rerank(off, n=n, **candidates))


@settings(max_examples=100, deadline=None)
@given(CONFIGS, scored_candidates(), st.integers(0, 30), st.integers(1, 4))
def test_no_category_is_over_its_cap_while_there_are_others(config, candidates, n, cap):
    order = rerank(replace(config, per_category=cap), n=n, **candidates)
    category = candidates["category"]
    may = allowed(candidates)
    names, counts = np.unique(category[may], return_counts=True)
    within = int(np.where(names < 0, counts, np.minimum(counts, cap)).sum())
    first = category[order[:within]]
    assert all(np.count_nonzero(first == name) <= cap for name in names if name >= 0)


def test_items_over_the_cap_come_behind_in_their_order():
    category = np.array([4, 4, 4, -1, -1, 2])
    order = rerank(RerankConfig(per_category=1), -np.arange(6.0), 6, category=category)
    assert order.tolist() == [0, 3, 4, 5, 1, 2]


def test_a_full_category_is_used_when_nothing_else_is_left():
    config = RerankConfig(per_category=2)
    order = rerank(config, np.array([1.0, 3.0, 2.0]), 3, category=np.array([0, 0, 0]))
    assert order.tolist() == [1, 2, 0]


def test_the_cap_holds_while_items_are_chosen_for_diversity():
    vectors = np.eye(4)
    config = RerankConfig("mmr", per_category=1)
    order = rerank(config, np.array([4.0, 3.0, 2.0, 1.0]), 3, vectors, np.array([0, 0, 0, 1]))
    assert order.tolist() == [0, 3, 1]


def test_freshness_is_added_to_the_logit_and_halves():
    config = RerankConfig(freshness=1.0, half_life_days=10)
    ages = np.array([0.0, 10.0, 20.0, math.nan, -5.0, math.inf])
    assert bonus(config, ages).tolist() == [1.0, 0.5, 0.25, 0.0, 1.0, 0.0]
    # 0.74 + 0.25 lies between 0 + 1 and 0.98 + 0
    order = rerank(config, np.array([0.74, 0.0, 0.98]), 3, age_days=np.array([20.0, 0.0, math.nan]))
    assert order.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"diversity": "rmm"}, "diversity"),
        ({"mmr_lambda": 1.1}, "mmr_lambda: must be in [0, 1], got 1.1"),
        ({"mmr_lambda": math.nan}, "mmr_lambda"),
        ({"dpp_alpha": -1.0}, "dpp_alpha"),
        ({"freshness": math.inf}, "freshness"),
        ({"half_life_days": 0.0}, "half_life_days: must be above 0"),
        ({"per_category": 0}, "per_category: must be 1 or more"),
        ({"per_categories": 1}, "did you mean 'per_category'"),
    ],
)
def test_a_wrong_setting_is_told(values, said):
    with pytest.raises(ConfigError) as raised:
        build(RerankConfig, values, "recipe.yaml: rerank")
    assert str(raised.value).startswith("recipe.yaml: rerank") and said in str(raised.value)


def test_a_request_overrides_single_settings():
    config = RerankConfig("mmr", freshness=1.0)
    assert config.overridden({"diversity": None}) == RerankConfig(freshness=1.0)
    with pytest.raises(ConfigError, match="mmr_lambda"):
        config.overridden({"mmr_lambda": 2})


@pytest.mark.parametrize(
    ("config", "needs"),
    [
        (RerankConfig("mmr"), "vectors"),
        (RerankConfig("dpp"), "vectors"),
        (RerankConfig(per_category=1), "category"),
        (RerankConfig(freshness=1), "age_days"),
    ],
)
def test_an_option_without_its_data_is_told(config, needs):
    with pytest.raises(ConfigError, match=f"needs {needs} of the items"):
        rerank(config, np.zeros(2), 1)


def test_numbers_that_are_none_are_told():
    with pytest.raises(LlmrecError, match="candidate 1 has the score nan"):
        rerank(RerankConfig(), np.array([0.0, math.nan]), 1)
    assert rerank(
        RerankConfig(), np.array([0.0, math.nan]), 2, available=np.array([True, False])
    ).tolist() == [0]
    with pytest.raises(LlmrecError, match="vector"):
        rerank(RerankConfig("dpp"), np.zeros(1), 1, np.full((1, 2), math.inf))


def test_lengths_that_differ_are_told():
    with pytest.raises(ConfigError, match="category: 3 for 2 candidates"):
        rerank(RerankConfig(), np.zeros(2), 1, category=np.zeros(3, dtype=int))
    with pytest.raises(ConfigError, match="n: must be 0 or more"):
        rerank(RerankConfig(), np.zeros(2), -1)
