"""EASE and STAR, the rankings of closed form that the strongest baseline is chosen among."""

from __future__ import annotations

import numpy as np
import pytest
from recommender_contract import RecommenderContract

from llmrec.errors import CatalogError, ConfigError
from llmrec.ranking.retrieval import ease
from llmrec.ranking.retrieval.ease import Ease
from llmrec.ranking.retrieval.personal_frequency import PersonalFrequency
from llmrec.ranking.retrieval.star import Star
from llmrec.recommender import recommend_from_scores
from llmrec.types import Histories

TRAIN = Histories.from_lists([[0, 1], [1, 0], [0, 2], [3, 4, 5], [5, 5]])
VECTORS = np.array([[1, 0], [0.6, 0.8], [0, 1], [1, 0], [0, 0], [0, -1]])


class TestEaseContract(RecommenderContract):
    @pytest.fixture
    def recommender(self) -> Ease:
        return Ease(regularization=1.0).fit(TRAIN, 6)


class TestStarContract(RecommenderContract):
    @pytest.fixture
    def recommender(self) -> Star:
        return Star(VECTORS).fit(TRAIN, 6)


def test_the_weights_of_ease_are_those_of_ridge_regressions() -> None:
    taken = np.zeros((5, 6))
    for user, history in enumerate(TRAIN):
        taken[user, history] = 1
    found = Ease(regularization=2.0, decay=1.0).fit(TRAIN, 6).score(Histories.from_lists([[1]]))
    for item in (0, 2, 5):
        others = [i for i in range(6) if i != item]
        x = taken[:, others]
        ridge = np.linalg.solve(x.T @ x + 2 * np.eye(5), x.T @ taken[:, item])
        assert found[0, item] == pytest.approx(ridge[others.index(1)], abs=1e-5)


def test_ease_refuses_a_catalogue_too_large_for_its_matrix(monkeypatch) -> None:
    monkeypatch.setattr(ease, "MAX_ITEMS", 5)
    with pytest.raises(ConfigError, match="6 items are more than 5"):
        Ease().fit(TRAIN, 6)


def test_the_sum_of_star_derived_by_hand() -> None:
    scores = (
        Star(VECTORS, share=0.25, decay=0.5, events=2)
        .fit(TRAIN, 6)
        .score(Histories.from_lists([[5, 2, 1]]))
    )
    # item 0 from 1: cosine .6, two users of both, 3 and 2 users; from 2, half: cosine 0, 1 user
    expected = 0.25 * 0.6 + 0.75 * 2 / np.sqrt(6) + 0.5 * 0.75 * 1 / np.sqrt(3)
    assert scores[0, 0] == pytest.approx(expected, rel=1e-5)


def test_star_refuses_content_of_another_catalogue() -> None:
    with pytest.raises(CatalogError, match="content of 6 items for a catalogue of 7"):
        Star(VECTORS).fit(TRAIN, 7)


class TestPersonalFrequencyContract(RecommenderContract):
    @pytest.fixture
    def recommender(self) -> PersonalFrequency:
        return PersonalFrequency().fit(TRAIN, 6)


def test_personal_frequency_ranks_what_was_taken_often_then_what_is_popular() -> None:
    history = Histories.from_lists([[3, 4, 4, 5, 3, 3]])
    # taken in training: 5 three times, 0 three times, 1 twice, 2, 3 and 4 once each
    found = recommend_from_scores(
        PersonalFrequency().fit(TRAIN, 6), history, 6, exclude_history=False
    )
    assert found.items.tolist() == [[3, 4, 5, 0, 1, 2]]
    equal = Histories.from_lists([[4, 5, 2]])
    found = recommend_from_scores(
        PersonalFrequency().fit(TRAIN, 6), equal, 6, exclude_history=False
    )
    assert found.items.tolist() == [[5, 2, 4, 0, 1, 3]]
    newest = PersonalFrequency(decay=0.5).fit(TRAIN, 6)
    history = Histories.from_lists([[4, 4, 5, 2]])  # 0.375, 0.5 and 1
    found = recommend_from_scores(newest, history, 3, exclude_history=False)
    assert found.items.tolist() == [[2, 5, 4]]
    with pytest.raises(ConfigError, match="decay"):
        PersonalFrequency(decay=0)
