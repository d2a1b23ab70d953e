import numpy as np
import pytest
from recommender_contract import RecommenderContract

from llmrec.errors import CatalogError, ConfigError
from llmrec.ranking.retrieval.popularity import DAY, Popularity
from llmrec.recommender import recommend_from_scores
from llmrec.types import Histories

# Item 2 is taken three times, item 0 twice, item 3 once, items 1 and 4 never.
TRAIN = Histories.from_lists([[2, 0], [2], [0, 3, 2]])


class TestPopularityContract(RecommenderContract):
    @pytest.fixture
    def recommender(self):
        return Popularity().fit(TRAIN, 5)


def test_most_taken_first_then_by_index():
    ranking = recommend_from_scores(Popularity().fit(TRAIN, 5), Histories.from_lists([[]]), 5)
    assert ranking.items.tolist() == [[2, 0, 3, 1, 4]]


def test_scores_are_logarithms_of_counts():
    scores = Popularity().fit(TRAIN, 5).score(Histories.from_lists([[], [1]]))
    np.testing.assert_allclose(np.exp(scores[0, [2, 0, 3]]), [3, 2, 1], rtol=1e-6)
    np.testing.assert_array_equal(scores[0], scores[1])


def test_half_life_prefers_what_is_recent():
    # Item 0: two events ten half-lives ago, weight 2/1024. Item 1: one event now, weight 1.
    train = Histories.from_lists([[0, 1], [0]], [[0.0, 10 * DAY], [0.0]])
    asked = Histories.from_lists([[]])
    assert recommend_from_scores(Popularity().fit(train, 2), asked, 2).items.tolist() == [[0, 1]]
    decayed = Popularity(half_life_days=1.0).fit(train, 2)
    assert recommend_from_scores(decayed, asked, 2).items.tolist() == [[1, 0]]
    np.testing.assert_allclose(np.exp2(decayed.score(asked)[0] / np.log(2)), [2 / 1024, 1.0])


def test_half_life_keeps_order_after_very_many_half_lives():
    train = Histories.from_lists([[0, 1, 2]], [[0.0, DAY, 500 * DAY]])
    ranking = recommend_from_scores(Popularity(1.0).fit(train, 3), Histories.from_lists([[]]), 3)
    assert ranking.items.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("times", [None, [[0.0, np.nan], [1.0], [1.0, 2.0, 3.0]]])
def test_half_life_needs_timestamps(times):
    train = Histories.from_lists([[2, 0], [2], [0, 3, 2]], times)
    with pytest.raises(ConfigError, match="half_life_days"):
        Popularity(30.0).fit(train, 5)


def test_nothing_to_learn_from():
    ranking = recommend_from_scores(
        Popularity().fit(Histories.from_lists([[]]), 3), Histories.from_lists([[1]]), 3
    )
    assert ranking.items.tolist() == [[0, 2, -1]]
    with pytest.raises(CatalogError):
        Popularity().fit(TRAIN, 0)


def test_half_life_must_be_positive():
    with pytest.raises(ConfigError):
        Popularity(0.0)
