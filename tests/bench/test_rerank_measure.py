"""The table of what re-ranking costs and brings, on lists whose figures can be derived by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from llmrec.bench.rerank import measure
from llmrec.ranking.rerank import RerankConfig

ITEMS = np.array([[0, 1, 2], [1, 0, -1]])
LOGITS = np.array([[3.0, 2.0, 1.0], [2.0, 1.0, np.nan]])
TARGETS = np.array([1, -1])
VECTORS = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
CATEGORY = np.array([5, 5, 6, -1])
AGES = np.array([[1.0, 2.0, 6.0], [np.nan, 4.0, np.nan]])


FEATURES = SimpleNamespace(fused=VECTORS, category=CATEGORY, n_items=4)
USERS = np.arange(2)


def rows(k=2, ways=None):
    ways = {"capped": RerankConfig(per_category=1)} if ways is None else ways
    return measure(ways, ITEMS, LOGITS, TARGETS, FEATURES, AGES, USERS, k=k)


def test_the_figures_of_two_lists_are_those_derived_by_hand():
    off, capped = rows()
    assert [off["name"], capped["name"]] == ["off", "capped"]
    assert capped["options"] == ["per_category"] and off["cases"] == 2
    # off shows 0 1 and 1 0; capped shows 0 2 and 1 0
    assert off["metrics"] == pytest.approx(
        {
            "cosine@2": 1.0,
            "categories@2": 1.0,
            "age_days@2": (1.5 + 4) / 2,
            "ndcg@2": 1 / math.log2(3) / 2,
            "recall@2": 0.5,
            "coverage@2": 0.5,
        }
    )
    assert capped["metrics"] == pytest.approx(
        {
            "cosine@2": 0.5,
            "categories@2": 1.5,
            "age_days@2": (3.5 + 4) / 2,
            "ndcg@2": 0.0,
            "recall@2": 0.0,
            "coverage@2": 0.75,
        }
    )
    for metric, difference in capped["differences"].items():
        assert difference == pytest.approx(capped["metrics"][metric] - off["metrics"][metric])
    low, high = capped["difference_intervals"]["recall@2"]
    assert (low, high) == (-1.0, 0.0)
    assert "coverage@2" not in capped["difference_intervals"]


def test_the_difference_to_itself_is_nothing():
    same = rows(ways={"same": RerankConfig()})[1]
    assert set(same["differences"].values()) == {0.0}
    assert all(span == [0.0, 0.0] for span in same["difference_intervals"].values())


def test_what_is_not_known_is_left_out():
    features = SimpleNamespace(fused=np.zeros((4, 2)), category=np.full(4, -1), n_items=4)
    ages = np.full(AGES.shape, np.nan)
    nothing = measure({}, ITEMS, LOGITS, TARGETS, features, ages, USERS)[0]
    assert set(nothing["metrics"]) == {"ndcg@10", "recall@10", "coverage@10"}


def test_a_list_longer_than_its_candidates_is_measured():
    off = rows(k=10)[0]
    assert off["metrics"]["recall@10"] == 0.5
    assert off["metrics"]["cosine@10"] == pytest.approx((1 / 3 + 1) / 2)


def test_the_same_seed_gives_the_same_intervals_and_people_are_resampled_together():
    rng = np.random.default_rng(0)
    items = np.tile(np.arange(20), (60, 1))
    logits, targets = rng.normal(size=(60, 20)), rng.integers(0, 20, 60)
    ways = {"mmr": RerankConfig("mmr")}
    vectors, category = rng.normal(size=(20, 4)), np.zeros(20, int)
    features = SimpleNamespace(fused=vectors, category=category, n_items=20)

    def spans(users):
        made = measure(ways, items, logits, targets, features, np.zeros((60, 20)), users)[1]
        return made["difference_intervals"]

    assert spans(np.arange(60)) == spans(np.arange(60))
    assert spans(np.arange(60) // 10) != spans(np.arange(60))
