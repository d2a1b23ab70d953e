"""What an item is worth, and what is served is worth."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_models import write_dataset

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.preference.reward_cases import (
    catalogue_facts,
    check_rules,
    reward_case,
    reward_of_lists,
    reward_per_case,
)
from llmrec.training.preference.rewards import REWARDS, CatalogueFacts, RewardCase
from llmrec.training.preference.settings import PARTS, RewardConfig
from llmrec.types import Histories, Ranking


def shop(folder: Path, columns: dict[str, pa.Array]) -> Dataset:
    """A dataset of six items that have these columns."""
    return Dataset(write_dataset(folder, [[0, 1, 2, 3], [3, 2, 1, 0]], 6, items=columns))


PRICES = pa.array([10.0, 20.0, 40.0, 100.0, None, 0.0])
KINDS = pa.array([["a", "x"], ["a", "x"], ["x"], ["a", "y"], [], None])
STOCK = pa.array([True, False, None, True, True, False])


def test_a_price_counts_against_what_such_things_cost(tmp_path: Path) -> None:
    facts = catalogue_facts(shop(tmp_path / "d", {"price": PRICES, "categories": KINDS}))
    np.testing.assert_allclose(facts.level[:4], np.log([0.5, 1.0, 2.0, 1.0]))
    assert np.isnan(facts.level[4:]).all(), "no price, or none that can be"
    assert facts.in_stock.all()


def test_without_categories_all_items_are_compared(tmp_path: Path) -> None:
    facts = catalogue_facts(shop(tmp_path / "d", {"price": PRICES, "in_stock": STOCK}))
    np.testing.assert_allclose(np.exp(facts.level[:4] - facts.level[0]), [1, 2, 4, 10])
    assert facts.level[:4].sum() == pytest.approx(np.log(10 * 20 * 40 * 100 / (20 * 40) ** 2))
    assert facts.in_stock.tolist() == [True, False, True, True, True, False]


def test_the_usual_price_is_the_middle_of_the_history_and_a_margin() -> None:
    level = np.log(np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    facts = CatalogueFacts(np.append(level, np.nan), np.ones(6, bool))
    config = RewardConfig(price_share=0.5, price_margin=1.25)
    case = reward_case(0, np.array([0, 1, 2, 3, 4, 5]), facts, config)
    assert (np.exp(case.low), np.exp(case.high)) == pytest.approx((2 / 1.25, 8 * 1.25))
    assert REWARDS["price"](np.arange(6), case).tolist() == [0, 1, 1, 1, 0, 0]
    unknown = reward_case(0, np.array([5]), facts, config)
    assert REWARDS["price"](np.arange(6), unknown).tolist() == [1, 1, 1, 1, 1, 0]


def test_a_list_is_worth_the_mean_of_its_places() -> None:
    facts = CatalogueFacts(np.array([0.0, 0.0, 9.0]), np.array([True, False, True]))
    cases = [RewardCase(2, -1.0, 1.0, facts), RewardCase(0, -1.0, 1.0, facts)]
    config = RewardConfig(hit=1.0, rank=2.0, stock=0.5, price=0.0, valid=0.25)
    found = reward_of_lists(np.array([[1, 2], [2, -1]]), cases, config)
    assert found["hit"].tolist() == [0.5, 0.0]
    assert found["rank"].tolist() == pytest.approx([0.5 / np.log2(3), 0.0])
    assert found["stock"].tolist() == [0.5, 0.5] and found["price"].tolist() == [0.5, 0.0]
    assert found["valid"].tolist() == [1.0, 0.5]
    expected = [0.5 + 1 / np.log2(3) + 0.25 + 0.25, 0.25 + 0.125]
    assert found["total"].tolist() == pytest.approx(expected)


class Fixed:
    """Serves the same list to everybody."""

    n_items = 40

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        assert exclude_history
        items = np.tile(np.arange(n), (len(histories), 1))
        return Ranking(items, -items.astype(np.float32))


class Scores:
    """The same as scores."""

    n_items = 40

    def score(self, histories: Histories) -> np.ndarray:
        return np.tile(-np.arange(40, dtype=np.float32), (len(histories), 1))


def test_what_is_served_is_measured_case_by_case(home: Path) -> None:
    dataset = Dataset(home / "dataset")
    cases, config = dataset.cases("validation"), RewardConfig(stock=1.0)
    found = reward_per_case(Fixed(), cases, dataset, config, n=6)
    assert found.keys() == {"total", *PARTS}
    assert all(v.shape == (len(cases),) and v.dtype == np.float64 for v in found.values())
    np.testing.assert_array_equal(found["hit"] * 6, cases.targets < 6)
    np.testing.assert_allclose(found["stock"], 4 / 6)
    scored = reward_per_case(Scores(), cases, dataset, config, n=6)
    seen = np.array([(history < 6).sum() for history in cases.histories])
    assert (seen > 0).any() and scored["valid"].min() == 1, "the history is left out and replaced"


def test_hit_and_rank_are_recall_and_ndcg(home: Path) -> None:
    dataset = Dataset(home / "dataset")
    cases = validation_cases(dataset, 0, 0)
    found = reward_per_case(Scores(), cases, dataset, RewardConfig())
    metrics = validation_metrics(Scores(), cases)
    assert found["hit"].mean() * 10 == pytest.approx(metrics["recall@10"])
    assert found["rank"].mean() * 10 == pytest.approx(metrics["ndcg@10"])


def test_a_rule_that_nothing_can_keep_or_break_is_an_error(tmp_path: Path) -> None:
    dataset = shop(tmp_path / "bare", {})
    facts = catalogue_facts(dataset)
    with pytest.raises(ConfigError, match=r"rewards.stock: no item of .*bare is out of stock"):
        check_rules(facts, RewardConfig(stock=1.0), dataset)
    with pytest.raises(ConfigError, match=r"rewards.price: no item of .*bare has a price"):
        check_rules(facts, RewardConfig(price=1.0), dataset)
    check_rules(facts, RewardConfig(), dataset)
