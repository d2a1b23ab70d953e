"""Pairs, cases and figures, against answers found by hand or by brute force."""

from pathlib import Path

import numpy as np
import pytest
from fusion_world import write_dataset
from hypothesis import given
from hypothesis import strategies as st

from llmrec.content.fusion.behaviour import liked_histories, split_users, windowed_pairs
from llmrec.content.fusion.retrieval import measure, nearest, retrieval_cases
from llmrec.data.dataset import Dataset
from llmrec.types import Histories


def test_pairs_reach_as_far_as_the_window_and_not_into_the_next_person() -> None:
    pairs = windowed_pairs(Histories.from_lists([[0, 1, 2, 3], [4], [5, 5, 6]]), 2, 8)
    found = sorted(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert found == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (5, 6), (5, 6)]


def test_the_chance_of_an_item_is_how_often_it_is_drawn() -> None:
    pairs = windowed_pairs(Histories.from_lists([[0, 1, 2], [1, 3], [1, 3]]), 2, 5)
    left, right = pairs.draw(200_000, np.random.default_rng(0))
    assert (left != right).all()
    for drawn in (left, right):
        shares = np.bincount(drawn, minlength=5) / len(drawn)
        np.testing.assert_allclose(shares, np.exp(pairs.log_q), atol=0.005)
    assert pairs.log_q[4] == -np.inf


def test_no_pairs_where_nobody_liked_two_things() -> None:
    assert len(windowed_pairs(Histories.from_lists([[0], [], [1]]), 5, 3)) == 0
    assert len(windowed_pairs(Histories.from_lists([]), 5, 3)) == 0


def test_low_ratings_and_later_splits_are_no_likings(tmp_path: Path) -> None:
    histories = Histories.from_lists([[0, 1, 2], [2, 3]])
    ratings, splits = [5.0, 2.0, None, 4.0, 3.9], [0, 0, 0, 0, 2]
    folder = tmp_path / "dataset"
    dataset = Dataset(write_dataset(folder, histories, 4, ratings=ratings, splits=splits))

    def liked(*arguments, **options) -> list[list[int]]:
        return [row.tolist() for row in liked_histories(dataset, *arguments, **options)]

    assert liked(train_only=False) == [[0, 1, 2], [2, 3]]
    assert liked(4.0, train_only=False) == [[0, 2], [2]]
    assert liked(train_only=True) == [[0, 1, 2], [2]]
    assert liked(train_only=True, share=0.5) == [[0, 1], []]  # the two earliest of four


@given(st.integers(3, 60), st.integers(0, 99))
def test_people_are_parted_without_overlap(n_users: int, seed: int) -> None:
    parts = split_users(n_users, (0.1, 0.2), np.random.default_rng(seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(n_users))


def test_recall_and_ndcg_by_hand() -> None:
    # from item 0 the order is 1, 2, 3; person 0 liked 0, 2 and 3
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.5], [1, 1]], np.float32)
    cases = retrieval_cases(Histories.from_lists([[3, 0, 2]]), 4)
    found = measure(vectors, cases, 2)
    at = cases.queries.tolist().index(0)
    assert found.values["recall@2"][at] == pytest.approx(1 / 2)
    ideal = 1 + 1 / np.log2(3)
    assert found.values["ndcg@2"][at] == pytest.approx((1 / np.log2(3)) / ideal)


def test_recall_is_of_at_most_k_so_a_perfect_list_has_one() -> None:
    vectors = np.ones((6, 1), np.float32)
    cases = retrieval_cases(Histories.from_lists([[0, 1, 2, 3, 4, 5]]), 6)
    assert set(measure(vectors, cases, 2).values["recall@2"]) == {1.0}


def test_a_query_has_the_mean_of_its_people() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    cases = retrieval_cases(Histories.from_lists([[0, 1], [0, 2]]), 3)
    found = measure(vectors, cases, 1)
    assert found.by_query()["recall@1"].tolist() == [0.5, 1.0, 0.0]
    cold = np.array([False, False, True])
    assert found.where(cold).by_query()["recall@1"].tolist() == [0.0]


@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 9))
def test_the_nearest_are_those_of_a_full_sort(n_items: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (n_items, 2)).astype(np.float32)  # many ties, some zero rows
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, n_items - 1)]
    assert nearest(vectors, np.arange(n_items), k).tolist() == expected.tolist()
