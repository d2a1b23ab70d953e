import numpy as np
import pytest
from recommender_contract import RecommenderContract

from llmrec.errors import CatalogError, ConfigError
from llmrec.ranking.retrieval import item_knn
from llmrec.ranking.retrieval.item_knn import ItemKNN
from llmrec.recommender import recommend_from_scores
from llmrec.types import Histories

# Five users, six items. Together: (0,1) twice, (0,2) once, (3,4) once, 5 alone.
# Taken: 0 three times, 1 twice, 2 once, 3 once, 4 once, 5 twice.
TRAIN = Histories.from_lists([[0, 1], [1, 0], [0, 2], [3, 4, 5], [5]])


def similarity(model: ItemKNN) -> np.ndarray:
    return model._similarity.toarray()


@pytest.mark.parametrize("weighting", ["cosine", "tfidf"])
class TestItemKnnContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, weighting):
        return ItemKNN(weighting=weighting).fit(TRAIN, 6)


def test_cosine_derived_by_hand():
    found = similarity(ItemKNN(weighting="cosine", shrink=0.0).fit(TRAIN, 6))
    assert found[0, 1] == pytest.approx(2 / np.sqrt(3 * 2))
    assert found[0, 2] == pytest.approx(1 / np.sqrt(3 * 1))
    assert found[3, 5] == pytest.approx(1 / np.sqrt(1 * 2))
    assert found[0, 3] == 0
    assert (found.diagonal() == 0).all()
    np.testing.assert_allclose(found, found.T)


def test_shrinkage_is_added_to_the_denominator():
    found = similarity(ItemKNN(weighting="cosine", shrink=2.0).fit(TRAIN, 6))
    assert found[0, 1] == pytest.approx(2 / (np.sqrt(6) + 2))


def test_ranking_derived_by_hand():
    # From item 1: only 0 is a neighbour. The rest by popularity: 5 twice, then 2, 3, 4 once.
    model = ItemKNN(weighting="cosine", shrink=0.0).fit(TRAIN, 6)
    ranking = recommend_from_scores(model, Histories.from_lists([[1], []]), 6)
    assert ranking.items.tolist() == [[0, 5, 2, 3, 4, -1], [0, 1, 5, 2, 3, 4]]


def test_later_items_count_more():
    model = ItemKNN(weighting="cosine", shrink=0.0, decay=0.5).fit(TRAIN, 6)
    scores = model.score(Histories.from_lists([[2, 3], [3, 2]]))
    # item 0 comes from 2, item 4 from 3
    assert scores[0, 0] == pytest.approx(0.5 / np.sqrt(3))
    assert scores[0, 4] == pytest.approx(1.0)
    assert scores[1, 0] == pytest.approx(1 / np.sqrt(3))
    assert scores[1, 4] == pytest.approx(0.5)


def test_only_the_best_neighbours_are_kept_and_ties_go_to_the_smaller_index():
    found = similarity(ItemKNN(neighbours=1, weighting="cosine", shrink=0.0).fit(TRAIN, 6))
    assert (np.count_nonzero(found, axis=1) == [1, 1, 1, 1, 1, 1]).all()
    assert found[0].argmax() == 1
    # 5 is as near to 3 as to 4
    assert found[5].argmax() == 3


def test_taking_an_item_twice_changes_nothing():
    twice = Histories.from_lists([[0, 1, 0, 0], [1, 0], [0, 2], [3, 4, 5], [5]])
    np.testing.assert_allclose(
        similarity(ItemKNN().fit(twice, 6)), similarity(ItemKNN().fit(TRAIN, 6))
    )


def test_fitting_leaves_the_histories_alone():
    twice = Histories.from_lists([[3, 1, 3, 0], [1, 0]])
    ItemKNN().fit(twice, 6).score(twice)
    assert [row.tolist() for row in twice] == [[3, 1, 3, 0], [1, 0]]


def test_tfidf_trusts_people_who_take_little():
    # (0,1) through a person with two items, (0,2) through one with five.
    train = Histories.from_lists([[0, 1], [0, 2, 3, 4, 5]])
    found = similarity(ItemKNN(weighting="tfidf").fit(train, 6))
    assert found[0, 1] > found[0, 2]


@pytest.mark.parametrize("weighting", ["cosine", "tfidf"])
def test_blocks_do_not_change_the_result(monkeypatch, weighting):
    rng = np.random.default_rng(0)
    train = Histories.from_lists([rng.integers(0, 30, 6).tolist() for _ in range(40)])
    whole = similarity(ItemKNN(5, weighting).fit(train, 30))
    monkeypatch.setattr(item_knn, "_BLOCK", 7)
    np.testing.assert_array_equal(similarity(ItemKNN(5, weighting).fit(train, 30)), whole)


def test_no_training_events():
    model = ItemKNN().fit(Histories.from_lists([[], []]), 3)
    ranking = recommend_from_scores(model, Histories.from_lists([[1]]), 3)
    assert ranking.items.tolist() == [[0, 2, -1]]


@pytest.mark.parametrize(
    "settings",
    [{"neighbours": 0}, {"weighting": "jaccard"}, {"shrink": -1.0}, {"decay": 0.0}, {"decay": 2}],
)
def test_wrong_settings_are_named(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ItemKNN(**settings)


def test_empty_catalogue():
    with pytest.raises(CatalogError):
        ItemKNN().fit(TRAIN, 0)
