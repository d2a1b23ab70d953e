"""What every recommender must do, baseline or LLM.

    class TestMine(RecommenderContract):
        @pytest.fixture
        def recommender(self): ...

``histories`` may be overridden; it must hold an empty history, and items in ``range(n_items)``.
"""

import numpy as np
import pytest

from llmrec.recommender import ListRecommender, Scorer, recommend_from_scores
from llmrec.types import Histories, Ranking


class RecommenderContract:
    """Subclass it, name the subclass ``Test...`` and give a ``recommender`` fixture."""

    @pytest.fixture
    def histories(self, recommender) -> Histories:
        n = recommender.n_items
        rows = [[0], [1 % n, 2 % n], [], [n - 1, 0, n - 1], list(range(min(n, 4)))]
        return Histories.from_lists(rows)

    @pytest.fixture
    def ask(self, recommender):
        def ask(histories: Histories, n: int, exclude_history: bool = True) -> Ranking:
            if isinstance(recommender, ListRecommender):
                return recommender.recommend(histories, n, exclude_history=exclude_history)
            return recommend_from_scores(recommender, histories, n, exclude_history=exclude_history)

        return ask

    def test_batch_equals_single(self, ask, histories):
        together = ask(histories, 5)
        for user in range(len(histories)):
            alone = ask(histories.select([user]), 5)
            np.testing.assert_array_equal(alone.items[0], together.items[user])
            np.testing.assert_allclose(alone.scores[0], together.scores[user], rtol=1e-4)

    @pytest.mark.parametrize("exclude_history", [True, False])
    def test_lists_hold_each_item_of_the_catalogue_at_most_once(
        self, ask, recommender, histories, exclude_history
    ):
        ranking = ask(histories, recommender.n_items, exclude_history)
        for row in ranking.items:
            filled = row[row != -1]
            assert len(filled), "an empty list although there are items left"
            assert filled.min() >= 0
            assert filled.max() < recommender.n_items
            assert len(np.unique(filled)) == len(filled)

    def test_seen_items_are_filtered(self, ask, recommender, histories):
        ranking = ask(histories, recommender.n_items, True)
        for row, history in zip(ranking.items, histories, strict=True):
            assert not np.isin(row, history).any()

    def test_seen_items_stay_when_asked_for(self, ask, recommender, histories):
        ranking = ask(histories, recommender.n_items, False)
        shown = [np.isin(h, row).all() for row, h in zip(ranking.items, histories, strict=True)]
        assert all(shown)

    @pytest.mark.parametrize("exclude_history", [True, False])
    def test_scores_never_increase(self, ask, histories, exclude_history):
        ranking = ask(histories, 5, exclude_history)
        assert ranking.scores.dtype == np.float32
        for items, scores in zip(ranking.items, ranking.scores, strict=True):
            filled = scores[items != -1]
            assert np.isfinite(filled).all()
            assert (np.diff(filled) <= 0).all()

    def test_more_than_the_catalogue_gives_a_short_list(self, ask, recommender, histories):
        n = recommender.n_items + 3
        ranking = ask(histories, n)
        assert ranking.items.shape == ranking.scores.shape == (len(histories), n)
        for items, scores, history in zip(ranking.items, ranking.scores, histories, strict=True):
            left = recommender.n_items - len(np.unique(history))
            assert (items[:left] >= 0).all()
            assert (items[left:] == -1).all()
            assert np.isneginf(scores[left:]).all()

    def test_a_longer_list_starts_with_the_shorter_one(self, ask, histories):
        np.testing.assert_array_equal(ask(histories, 4).items[:, :2], ask(histories, 2).items)

    def test_empty_history_gets_a_full_list(self, ask):
        ranking = ask(Histories.from_lists([[]]), 3)
        assert (ranking.items >= 0).all()

    def test_deterministic(self, ask, histories):
        first, second = ask(histories, 5), ask(histories, 5)
        np.testing.assert_array_equal(first.items, second.items)
        np.testing.assert_array_equal(first.scores, second.scores)

    def test_no_users(self, ask):
        assert ask(Histories.from_lists([]), 3).items.shape == (0, 3)

    def test_scores_cover_the_catalogue(self, recommender, histories):
        if not isinstance(recommender, Scorer):
            pytest.skip("gives lists, not scores")
        scores = recommender.score(histories)
        assert scores.shape == (len(histories), recommender.n_items)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
