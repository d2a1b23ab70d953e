import numpy as np
import pytest
from recommender_contract import RecommenderContract

from llmrec.errors import CatalogError
from llmrec.ranking.retrieval.popularity import Popularity
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


def test_nothing_to_learn_from():
    ranking = recommend_from_scores(
        Popularity().fit(Histories.from_lists([[]]), 3), Histories.from_lists([[1]]), 3
    )
    assert ranking.items.tolist() == [[0, 2, -1]]
    with pytest.raises(CatalogError):
        Popularity().fit(TRAIN, 0)
