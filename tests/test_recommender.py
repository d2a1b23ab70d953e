"""Ranking a score matrix: against a plain sort, and on cases that can be done by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.recommender import Scorer, history_mask, recommend_from_scores, top_n
from llmrec.types import Histories

SCORES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])  # few values: many ties


def sorted_top(row: list[float], n: int) -> list[int]:
    """The obvious way: sort by score, then index, leave out what may not be recommended."""
    order = sorted(range(len(row)), key=lambda item: (-row[item], item))
    best = [item for item in order if row[item] != -np.inf][:n]
    return best + [-1] * (n - len(best))


@given(st.integers(1, 6), st.integers(1, 9), st.data())
def test_top_n_is_a_stable_sort(n_items: int, n: int, data: st.DataObject) -> None:
    row = st.lists(SCORES, min_size=n_items, max_size=n_items)
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    ranking = top_n(np.array(rows, dtype=np.float32), n)
    assert ranking.items.tolist() == [sorted_top(row, n) for row in rows]
    for items, scores, row in zip(ranking.items, ranking.scores, rows, strict=True):
        expected = [row[item] if item >= 0 else -np.inf for item in items]
        assert scores.tolist() == expected
        assert sorted(scores, reverse=True) == expected
    assert (ranking.items.dtype, ranking.scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("step", [1, 16])  # ties in every place, or where they are looked up first
def test_top_n_of_many_items_is_a_stable_sort(step: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 300, (3, 5000)).astype(np.float32)
    rows[1] = -np.inf
    rows[1, ::step] = 1.0
    rows[2, 7::step] = 500.0
    ranking = top_n(rows, 12)
    assert ranking.items.tolist() == [sorted_top(row.tolist(), 12) for row in rows]


@pytest.mark.parametrize(("shape", "n"), [((2, 3), 0), ((0, 3), 2), ((2, 0), 2)])
def test_nothing_to_rank(shape: tuple[int, int], n: int) -> None:
    ranking = top_n(np.zeros(shape, dtype=np.float32), n)
    assert ranking.items.shape == ranking.scores.shape == (shape[0], n)
    assert (ranking.items == -1).all()


class ByIndex:
    """Scores an item by its index: the last item is everybody's favourite."""

    n_items = 4

    def score(self, histories: Histories) -> np.ndarray:
        return np.tile(np.arange(self.n_items, dtype=np.float32), (len(histories), 1))


def test_the_history_is_left_out_unless_asked_for() -> None:
    histories = Histories.from_lists([[3, 1, 3], [], [0, 1, 2, 3]])
    assert isinstance(ByIndex(), Scorer)
    left_out = recommend_from_scores(ByIndex(), histories, 3)
    assert left_out.items.tolist() == [[2, 0, -1], [3, 2, 1], [-1, -1, -1]]
    kept = recommend_from_scores(ByIndex(), histories, 2, exclude_history=False)
    assert kept.items.tolist() == [[3, 2], [3, 2], [3, 2]]


def test_a_scorers_own_array_is_not_written_to() -> None:
    scores = np.ones((1, 2), dtype=np.float32)

    class Constant:
        n_items = 2

        def score(self, histories: Histories) -> np.ndarray:
            return scores

    recommend_from_scores(Constant(), Histories.from_lists([[0]]), 1)
    assert scores.tolist() == [[1.0, 1.0]]


def test_history_mask_names_every_pair() -> None:
    rows, columns = history_mask(Histories.from_lists([[3, 1], [], [2]]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 3), (0, 1), (2, 2)]
