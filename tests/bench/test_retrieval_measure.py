"""How much the sources find, counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from retrieval_shop import N_ITEMS, make_histories, make_sources, propose

from llmrec.bench.retrieval import flat_metrics, plot_recall, recall, retrieval_table
from llmrec.errors import CatalogError, DataError
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.ranking.retrieval.source import DenseScores, Source, SourceScores
from llmrec.recommender import top_n
from llmrec.types import Cases, Histories


class Always(Source):
    """Proposes the same items to everybody, in this order."""

    def __init__(self, name: str, items: list[int]) -> None:
        super().__init__(Catalogue(np.ones((6, 1))), Snapshot.empty())
        self.name = name  # type: ignore[misc]
        self.scores = np.full(6, -np.inf, dtype=np.float32)
        self.scores[items] = np.arange(len(items), 0, -1)

    def _query(self, histories: Histories) -> SourceScores:
        return DenseScores(np.tile(self.scores, (len(histories), 1)))


def make_cases() -> Cases:
    histories = Histories.from_lists([[0], [], [5], []])
    return Cases(np.array([0, 1, 2, 2]), histories, np.array([1, 2, 3, 4]))


SOURCES = [Always("first", [0, 1, 2]), Always("second", [2, 3])]


def test_a_hit_is_a_target_among_the_best_k() -> None:
    hits, _ = recall(SOURCES, make_cases(), 2)
    assert hits["first"].tolist() == [1, 0, 0, 0]  # 0 is in the history, so 1 and 2 are proposed
    assert hits["second"].tolist() == [0, 1, 1, 0]
    assert hits["union"].tolist() == [1, 1, 1, 0]


def test_the_table_says_what_each_source_adds() -> None:
    first, second, union = retrieval_table(SOURCES, make_cases(), 3, resamples=50)
    assert (first.recall, second.recall, union.recall) == (0.5, 0.5, 0.75)
    assert (first.only, second.only, union.only) == (0.25, 0.25, 0.0)
    assert (first.candidates, second.candidates, union.candidates) == (2.75, 2.0, 3.75)
    for row in (first, second, union):
        assert 0 <= row.interval[0] <= row.recall <= row.interval[1] <= 1
    metrics, spans = flat_metrics([first, second, union], 3)
    assert metrics["recall@3_union"] == 0.75
    assert metrics["only_first"] == 0.25
    assert set(spans) == {"recall@3_first", "recall@3_second", "recall@3_union"}


def test_the_union_is_what_any_real_source_finds() -> None:
    histories = make_histories(users=30)
    cases = Cases(np.arange(30), histories, np.random.default_rng(0).integers(0, N_ITEMS, 30))
    hits, _ = recall(make_sources(), cases, 10)
    np.testing.assert_array_equal(
        hits["union"], np.max([v for name, v in hits.items() if name != "union"], axis=0)
    )
    assert 0 < hits["union"].mean() < 1


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    path = plot_recall(retrieval_table(SOURCES, make_cases(), 3, resamples=10), tmp_path / "r.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_cases_that_cannot_be_measured_are_errors() -> None:
    nothing = Cases(np.zeros(0, int), Histories.from_lists([]), np.zeros(0, int))
    with pytest.raises(DataError, match="there is none"):
        retrieval_table(SOURCES, nothing, 3, 10)
    assert recall(SOURCES, nothing, 3)[0]["union"].shape == (0,)
    wrong = Cases(np.array([0]), Histories.from_lists([[1]]), np.array([6]))
    with pytest.raises(CatalogError, match="a target is not among the 6"):
        recall(SOURCES, wrong, 3)


def test_dense_scores_are_ranked_as_by_top_n() -> None:
    scores = np.array([[0, 2, 0, 1, 2], [0, 0, 3, 0, 0]], dtype=np.float32)
    wanted = top_n(np.where(scores > 0, scores, -np.inf), 4)
    found = propose(SOURCES[0], Histories.from_lists([[], []]), 2)
    assert found.items.tolist() == [[0, 1]] * 2
    from llmrec.ranking.retrieval.source import Limits

    ours = DenseScores(scores, floor=0.0).best(4, Limits())
    np.testing.assert_array_equal(ours.items, wanted.items)
    np.testing.assert_array_equal(ours.scores, wanted.scores)
