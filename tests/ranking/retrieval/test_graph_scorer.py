"""Item graph and content as one ranking."""

from __future__ import annotations

import numpy as np
import pytest
from recommender_contract import RecommenderContract

from llmrec.data.item_graph import ItemGraph, ItemGraphConfig
from llmrec.errors import CatalogError, ConfigError
from llmrec.ranking.retrieval.graph_scorer import (
    GraphScorer,
    GraphScorerConfig,
    content_neighbours,
)
from llmrec.recommender import recommend_from_scores
from llmrec.types import Histories

TRAIN = Histories.from_lists([[0, 1], [0, 1], [0, 2], [3, 4]])
GRAPH = ItemGraphConfig(window=1, step_decay=1.0, backward=0.0)
# 5 is like 1 (cosine .6), like nothing else; 4 has no content
VECTORS = np.array(
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0.6, 0, 0.8]]
)


def make(vectors: np.ndarray | None = None, **settings: float) -> GraphScorer:
    graph = ItemGraph.fit(TRAIN, 6, GRAPH)
    config = GraphScorerConfig(**settings)  # type: ignore[arg-type]
    if vectors is None:
        return GraphScorer(graph, None, config)
    return GraphScorer(graph, content_neighbours(vectors), config)


@pytest.mark.parametrize("vectors", [None, VECTORS])
class TestGraphScorerContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, vectors: np.ndarray | None) -> GraphScorer:
        return make(vectors)


def test_scores_of_the_graph_derived_by_hand() -> None:
    scores = make(decay=0.5).score(Histories.from_lists([[3, 0], [0, 0], [5]]))
    # from 0: edges 1 (2) and 2 (1), sum 3; from 3: edge 4 (1), half as much
    np.testing.assert_allclose(
        scores[0, [1, 2, 4]], [2 / np.sqrt(3), 1 / np.sqrt(3), 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(scores[1, 1], 1.5 * 2 / np.sqrt(3), rtol=1e-6)
    assert (scores[2] <= 0).all()  # nothing leads on from 5: the order is that of popularity
    assert scores[2].argmax() == 0


def test_content_finds_items_that_nobody_took() -> None:
    scorer = make(VECTORS, content_weight=0.5, smoothing=0.0)
    scores = scorer.score(Histories.from_lists([[1]]))
    np.testing.assert_allclose(scores[0, 5], 0.5 * 0.6**2, rtol=1e-5)
    assert scores[0].argmax() == 5


# 5 is like 1 (cosine .6) and 3 (.8); from 0 the graph leads to 1 and 2, from 3 to 4
COLD = Histories.from_lists([[0], [2, 0]])


def test_the_graph_leads_to_an_item_without_events_as_to_the_nearest_ones() -> None:
    nearest = np.stack([VECTORS[5], VECTORS[5], VECTORS[5], VECTORS[5], np.ones(4), VECTORS[5]])
    nearest[0] = [1, 0, 0, 0]
    settings = {"content_weight": 0.0, "smoothing": 0.0, "decay": 0.5}
    scores = make(nearest, **settings).score(COLD)
    # 1, 2 and 3 are the same as 5 (weight 1), 4 hardly (.7 ** 2); edges lead to 1, 2 and 4
    of_1, of_2, like_4 = 2 / np.sqrt(3), 1 / np.sqrt(3), (0.6 + 0.8) ** 2 / 4
    np.testing.assert_allclose(scores[0, 5], (of_1 + of_2) / (2 + like_4), rtol=1e-5)
    np.testing.assert_allclose(scores[1], scores[0])  # 2 leads nowhere
    two = make(nearest, cold_neighbours=2, **settings).score(COLD)
    np.testing.assert_allclose(two[0, 5], (of_1 + of_2) / 2, rtol=1e-5)
    assert make(nearest, cold_neighbours=0, **settings).score(COLD)[0, 5] < 0


def test_parts_give_the_scores_that_are_ranked_by() -> None:
    scorer = make(VECTORS, smoothing=0.3)
    for _ in range(2):
        parts = scorer.dense_parts(COLD)
        np.testing.assert_allclose(
            scorer.combined(parts), scorer.sparse_scores(COLD).toarray(), rtol=1e-12
        )
        assert parts[0][0, 5] > 0
        assert parts[3][0, 5] > 0
        scorer.graph.append(np.array([4]), 0)  # what leads to 0 from now on is its own


def test_an_item_without_events_has_edges_of_its_own_from_its_first_event_on() -> None:
    settings = {"content_weight": 0.0, "smoothing": 0.0}
    scorer = make(VECTORS, **settings)
    before = scorer.score(COLD)[0, 5]
    scorer.graph.append(np.array([4]), 5)
    assert before > 0
    assert scorer.score(COLD)[0, 5] < 0
    scorer.graph.replace(np.array([4, 5]), np.array([4]))
    assert scorer.score(COLD)[0, 5] == before


def test_the_graph_is_walked_from_what_is_like_the_history_too() -> None:
    scorer = make(VECTORS, smoothing=0.8, content_weight=0.0)
    # 5 has no edge; of its neighbours 1 (.36) and 3 (.64) only 3 leads on, to 4
    scores = scorer.score(Histories.from_lists([[5]]))
    np.testing.assert_allclose(scores[0, 4], 0.8 * 0.64, rtol=1e-5)
    assert (np.delete(scores[0], 4) <= 0).all()


def test_an_event_counts_at_the_next_request() -> None:
    scorer = make(VECTORS, content_weight=0.0, smoothing=0.0)
    scorer.graph.append(np.array([5]), 4)
    ranking = recommend_from_scores(scorer, Histories.from_lists([[5]]), 1)
    assert ranking.items.tolist() == [[4]]


def test_content_of_another_catalogue_is_refused() -> None:
    with pytest.raises(CatalogError, match="6 items, the content 5"):
        make(VECTORS[:5])


def test_one_item_and_no_content_at_all() -> None:
    one = GraphScorer(ItemGraph(1), content_neighbours(np.ones((1, 3))))
    assert one.score(Histories.from_lists([[0], []])).shape == (2, 1)
    assert (make(np.zeros((6, 2))).score(Histories.from_lists([[3]]))[0, 4]) > 0


@pytest.mark.parametrize(
    "settings", [{"decay": 0.0}, {"events": 0}, {"smoothing": -1.0}, {"cold_neighbours": -1}]
)
def test_settings_out_of_range_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        GraphScorerConfig(**settings)  # type: ignore[arg-type]


def test_content_neighbours_are_the_nearest_and_never_the_item_itself() -> None:
    found = content_neighbours(VECTORS, neighbours=1, power=2.0).toarray()
    expected = np.zeros((6, 6))
    expected[1, 5], expected[3, 5], expected[5, 3] = 0.36, 0.64, 0.64
    np.testing.assert_allclose(found, expected, rtol=1e-5)
