"""The LLM with both kinds of ID, and SASRec, do what every recommender must."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from recommender_contract import RecommenderContract
from tiny_models import random_semantic_ids, tiny_llm

from llmrec.errors import CatalogError, LlmrecError
from llmrec.generation.llm import AtomicLlm, Llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.recommender import ListRecommender, Scorer
from llmrec.training.next_item.sasrec import SasRec, SasRecRecommender
from llmrec.types import Histories

N_ITEMS = 17


def make_sasrec(max_items: int = 8) -> SasRecRecommender:
    torch.manual_seed(0)
    model = SasRec(N_ITEMS, layers=2, width=16, heads=2, max_items=max_items, dropout=0.3)
    torch.nn.init.normal_(model.item_embedding.weight)  # so that scores differ
    return SasRecRecommender(model, batch_size=2)


def make_atomic() -> Llm:
    return tiny_llm(ItemIds.atomic(N_ITEMS, spare=5), batch_size=2)


def make_semantic() -> Llm:
    return tiny_llm(random_semantic_ids(N_ITEMS, (4, 3, 4)), batch_size=2)


MAKERS: dict[str, Callable[[], ListRecommender]] = {
    "atomic": make_atomic,
    "semantic": make_semantic,
    "sasrec": make_sasrec,
}


class TestAtomicLlm(RecommenderContract):
    @pytest.fixture
    def recommender(self) -> ListRecommender:
        return make_atomic()


class TestAtomicLlmWithTimes(RecommenderContract):
    @pytest.fixture
    def recommender(self) -> ListRecommender:
        return tiny_llm(ItemIds.atomic(N_ITEMS), time_fields=("gap", "hour"), batch_size=2)

    @pytest.fixture
    def histories(self) -> Histories:
        nan = float("nan")
        return Histories.from_lists(
            [[0, 4], [], [3, 3, 16]], [[1e9, 1.1e9], [], [nan, 1e9, nan]], [1.2e9, 1e9, nan]
        )


class TestSemanticLlm(RecommenderContract):
    @pytest.fixture
    def recommender(self) -> ListRecommender:
        return make_semantic()


class TestSasRec(RecommenderContract):
    @pytest.fixture
    def recommender(self) -> ListRecommender:
        return make_sasrec()


@pytest.fixture(params=MAKERS)
def recommender(request: pytest.FixtureRequest) -> ListRecommender:
    return MAKERS[request.param]()


@pytest.mark.parametrize("item", [-1, N_ITEMS, N_ITEMS + 3])
def test_an_unknown_item_is_an_error(recommender: ListRecommender, item: int) -> None:
    with pytest.raises(CatalogError, match="not among the 17 of the catalogue"):
        recommender.recommend(Histories.from_lists([[1], [2, item]]), 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_an_error(recommender: ListRecommender, value: float) -> None:
    model = recommender.model if isinstance(recommender, SasRecRecommender) else None
    if model is None:
        assert isinstance(recommender, Llm)
        model = recommender.engine.model
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "norm" in name)[0] = value
    with pytest.raises(LlmrecError, match="not finite"):
        recommender.recommend(Histories.from_lists([[1, 2]]), 3)


def test_history_beyond_max_items_is_forgotten(recommender: ListRecommender) -> None:
    newest = list(range(8, 16))
    ranking = recommender.recommend(
        Histories.from_lists([[0, 1, 2, *newest], newest]), 9, exclude_history=False
    )
    np.testing.assert_array_equal(ranking.items[0], ranking.items[1])


def test_history_beyond_max_items_is_still_not_recommended(recommender: ListRecommender) -> None:
    ranking = recommender.recommend(Histories.from_lists([list(range(16))]), 3)
    assert ranking.items.tolist() == [[16, -1, -1]]


def test_order_and_time_matter() -> None:
    llm = tiny_llm(ItemIds.atomic(N_ITEMS), time_fields=("gap",))
    assert isinstance(llm, AtomicLlm)
    rows = Histories.from_lists([[1, 2], [2, 1], [1, 2]], [[0, 60], [0, 60], [0, 1e6]], [1e7] * 3)
    scores = llm.score(rows)
    assert not np.allclose(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


def test_atomic_scores_are_log_probabilities_of_the_catalogue_alone() -> None:
    llm = make_atomic()
    assert isinstance(llm, Scorer)
    scores = llm.score(Histories.from_lists([[1], [2, 3, 4], []]))
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(1), 1, atol=1e-5)
