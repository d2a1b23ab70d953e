import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec import recommender
from llmrec.metrics import bootstrap, measure, metrics, plots, slices
from llmrec.recommender import top_n


@pytest.mark.parametrize("module", [metrics, bootstrap, measure, slices, plots, recommender])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_metrics_derived_by_hand():
    # five cases: on top, third, fifth, just outside 5, not found
    ranks = np.array([0, 2, 4, 5, 100])
    values = metrics.per_case(ranks, n_items=100, ks=[5])
    mean = {name: value.mean() for name, value in values.items()}
    assert mean["recall@5"] == mean["hr@5"] == pytest.approx(3 / 5)
    assert mean["precision@5"] == pytest.approx(3 / 25)
    assert mean["f1@5"] == pytest.approx(3 / 5 * 2 * 0.2 / 1.2)
    assert mean["ndcg@5"] == pytest.approx((1 + 1 / 2 + 1 / np.log2(6)) / 5)
    assert mean["map@5"] == mean["mrr@5"] == pytest.approx((1 + 1 / 3 + 1 / 5) / 5)
    assert mean["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 5 + 1 / 6) / 5)


def test_metrics_of_several_targets_derived_by_hand():
    # the first case finds two of three targets among 5, the second none of one, the third both
    ranks = np.array([3, 9, 0, 50, 1, 0])
    case = np.array([0, 0, 0, 1, 2, 2])
    values = metrics.per_case(ranks, n_items=100, ks=[5], case=case)
    assert values["recall@5"].tolist() == pytest.approx([2 / 3, 0, 1])
    assert values["hr@5"].tolist() == [1, 0, 1]
    assert values["precision@5"].tolist() == [2 / 5, 0, 2 / 5]
    assert values["f1@5"].tolist() == pytest.approx([2 * 2 / 8, 0, 2 * 2 / 7])
    gains = 1 / np.log2(np.arange(5) + 2)
    expected = [(gains[0] + gains[3]) / gains[:3].sum(), 0, 1]
    assert values["ndcg@5"].tolist() == pytest.approx(expected)
    assert values["map@5"].tolist() == pytest.approx([(1 + 2 / 4) / 3, 0, 1])
    assert values["mrr@5"].tolist() == [1, 0, 1]
    assert values["mrr"].tolist() == [1, 1 / 51, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=5),
    st.integers(1, 12),
)
def test_several_targets_against_a_plain_loop(baskets, k):
    ranks = np.array([rank for basket in baskets for rank in basket])
    case = np.repeat(np.arange(len(baskets)), [len(basket) for basket in baskets])
    values = metrics.per_case(ranks, n_items=25, ks=[k], case=case)
    for at, basket in enumerate(baskets):
        hits = [place in basket and place < 25 for place in range(k)]
        best = sum(1 / np.log2(place + 2) for place in range(min(k, len(basket))))
        gain = sum(hit / np.log2(place + 2) for place, hit in enumerate(hits))
        average = sum(hit * np.mean(hits[: place + 1]) for place, hit in enumerate(hits))
        assert values[f"recall@{k}"][at] == pytest.approx(sum(hits) / len(basket))
        assert values[f"ndcg@{k}"][at] == pytest.approx(gain / best)
        assert values[f"map@{k}"][at] == pytest.approx(average / min(k, len(basket)))


def test_every_metric_is_nothing_for_a_target_that_was_not_found():
    # also for a k beyond the catalogue's size
    values = metrics.per_case(np.array([7, 8, metrics.NOT_FOUND]), n_items=7, ks=[5, 10])
    assert {name: value.sum() for name, value in values.items()} == dict.fromkeys(values, 0)


def test_gini_matches_its_definition():
    x = np.array([3.0, 0.0, 1.0, 7.0, 1.0])
    pairs = sum(abs(a - b) for a, b in itertools.product(x, x))
    assert metrics.gini(x) == pytest.approx(pairs / (2 * len(x) ** 2 * x.mean()))


def test_coverage_and_bias_leave_out_what_is_no_item():
    lists = np.array([[0, 9, -1], [0, -7, 1]])
    assert metrics.coverage(lists, 4) == 0.5
    assert metrics.exposure(lists, 4).tolist() == [2, 1, 0, 0]
    bias = metrics.popularity_bias(lists, np.array([3, 0, 0, 0]))
    assert bias["popularity_log"] == pytest.approx(2 / 3 * np.log(4))


def test_invalid_rate_counts_both_ends_and_no_padding():
    assert metrics.invalid_rate(np.array([[0, 4, -2, -1]]), 4) == pytest.approx(2 / 3)
    assert metrics.invalid_rate(np.full((2, 3), -1), 4) == 0.0


scores_like = st.integers(1, 6).flatmap(
    lambda items: st.lists(
        st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=items, max_size=items),
        min_size=1,
        max_size=4,
    )
)


def slow_top_n(row: list[float], n: int) -> list[int]:
    order = sorted(range(len(row)), key=lambda item: (-row[item], item))
    kept = [item for item in order if row[item] != -np.inf][:n]
    return kept + [-1] * (n - len(kept))


@settings(max_examples=60, deadline=None)
@given(scores_like, st.integers(0, 8))
def test_top_n_is_the_sorted_row(rows, n):
    ranking = top_n(np.array(rows, dtype=np.float32), n)
    assert ranking.items.tolist() == [slow_top_n(row, n) for row in rows]
    for row, items, scores in zip(rows, ranking.items, ranking.scores, strict=True):
        assert scores.tolist() == [row[i] if i >= 0 else -np.inf for i in items]


@settings(max_examples=60, deadline=None)
@given(scores_like, st.randoms())
def test_target_rank_is_the_place_in_the_full_list(rows, random):
    scores = np.array(rows, dtype=np.float32)
    n_items = scores.shape[1]
    targets = np.array([random.randrange(n_items) for _ in rows])
    full = top_n(scores, n_items).items
    expected = metrics.list_ranks(full, targets)
    np.testing.assert_array_equal(metrics.target_ranks(scores, targets), expected)
