"""Sources that compare vectors."""

import numpy as np
import pytest
from retrieval_shop import (
    N_ITEMS,
    SETTINGS,
    first_seen,
    make_histories,
    make_snapshot,
    make_vectors,
)

from llmrec.content.search.vectors import unit
from llmrec.errors import DataError
from llmrec.ranking.retrieval.content import Cold, Nearest
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import DAY
from llmrec.ranking.retrieval.vectors import VectorIndex, user_vectors
from llmrec.types import Histories


def test_the_newest_events_make_the_most_of_a_user() -> None:
    vectors = np.eye(3, dtype=np.float32)
    histories = Histories.from_lists([[2, 0, 1], [], [0, 0]])
    users = user_vectors(histories, vectors, 0.5, 2)
    expected = [[0.5, 1, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(users, unit(np.array(expected)), rtol=1e-6)


def test_the_nearest_are_those_of_brute_force() -> None:
    vectors, histories = unit(make_vectors()), make_histories(2)
    users = user_vectors(histories, vectors, SETTINGS.decay, SETTINGS.events).astype(np.float64)
    found = Nearest(make_vectors(), SETTINGS).propose(histories, 9)
    assert (found.items[0] == -1).all()  # no history
    for row, scores, user, history in zip(found.items, found.scores, users, histories, strict=True):
        if not user.any():
            assert (row == -1).all()
            continue
        cosine = vectors @ user
        cosine[[3, *history]] = -np.inf  # item 3 has no vector
        np.testing.assert_allclose(scores, np.sort(cosine)[::-1][:9], rtol=1e-5)
        np.testing.assert_allclose(cosine[row], scores, rtol=1e-5)


def test_items_with_equal_vectors_are_in_the_order_of_their_index() -> None:
    vectors = np.ones((30, 4), dtype=np.float32)
    found = Nearest(vectors).propose(Histories.from_lists([[2]] * 25), 12).items
    assert (found == [0, 1, *range(3, 13)]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_of_numbers_is_an_error(bad: float) -> None:
    vectors = make_vectors()
    vectors[6, 2] = bad
    with pytest.raises(DataError, match="row 6"):
        Nearest(vectors)
    with pytest.raises(DataError, match="row 6"):
        Nearest(make_vectors()).with_items(vectors)
    with pytest.raises(DataError, match="of 3 numbers"):
        Nearest(make_vectors()).with_items(np.ones((2, 3)))
    with pytest.raises(DataError, match="first_seen: has"):
        Nearest(make_vectors(), first_seen=np.zeros(3))


@pytest.mark.parametrize("times", [None, first_seen()])
@pytest.mark.parametrize("name", ["nearest", "cold"])
def test_items_added_are_as_if_they_had_been_there(name: str, times: np.ndarray | None) -> None:
    def make(n: int) -> Nearest:
        some = None if times is None else times[:n]
        if name == "nearest":
            return Nearest(make_vectors()[:n], SETTINGS, first_seen=some)
        known = make_snapshot()
        fewer = type(known)(
            known.until, known.counts[:30], known.popularity[:30], known.starts[:31],
            known.neighbours, known.cosines,
        )  # fmt: skip
        return Cold(fewer, make_vectors()[:n], SETTINGS, first_seen=some)

    whole, grown = make(N_ITEMS), make(30)
    grown = grown.with_items(make_vectors()[30:35], None if times is None else times[30:35])
    grown = grown.with_items(make_vectors()[35:], None if times is None else times[35:])
    histories = make_histories(3)
    wanted, found = whole.propose(histories, 12), grown.propose(histories, 12)
    np.testing.assert_array_equal(found.items, wanted.items)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_a_graph_finds_what_passes(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.ranking.retrieval.content.FLAT_MAX", 50)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1500, 8)).astype(np.float32)
    exact = Nearest(vectors, RetrievalConfig(index="flat"))
    graph = Nearest(vectors, RetrievalConfig(index="hnsw"))
    histories = Histories.from_lists([rng.integers(0, 1500, 4).tolist() for _ in range(20)])
    passing = rng.random(1500) < share
    wanted = exact.propose(histories, 20, passing=passing)
    found = graph.propose(histories, 20, passing=passing)
    same = [len(np.intersect1d(a, b)) for a, b in zip(found.items, wanted.items, strict=True)]
    assert np.mean(same) >= 0.95 * len(np.unique(wanted.items[0]))
    assert ((found.items >= 0) == (wanted.items >= 0)).all()
    assert passing[found.items[found.items >= 0]].all()


def test_an_index_of_nothing_finds_nothing() -> None:
    index = VectorIndex(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert len(index) == 0
    assert (Nearest(np.zeros((5, 4))).propose(Histories.from_lists([[1]]), 3).items == -1).all()


def test_only_items_with_few_events_are_cold() -> None:
    cold, known = Cold(make_snapshot(), make_vectors(), SETTINGS), make_snapshot()
    histories = make_histories()
    few = known.counts < SETTINGS.min_events
    found = cold.propose(histories, N_ITEMS).items
    assert few[found[found >= 0]].all()
    assert (found >= 0).any(axis=1).sum() > 10
    scores = cold.score_items(histories, np.tile(np.arange(N_ITEMS), (20, 1)))
    said = np.isfinite(scores)
    with_vector = [unit(make_vectors())[history].any() for history in histories]
    expected = few & (np.arange(N_ITEMS) != 3)
    assert (said == np.array(with_vector)[:, None] & expected).all()


def test_without_a_history_the_newest_that_are_there_come_first() -> None:
    cold = Cold(make_snapshot(), make_vectors(), SETTINGS, first_seen=first_seen())
    histories = Histories.from_lists([[], [], []], now=[31 * DAY, 29 * DAY, np.nan])
    found = cold.propose(histories, 3)
    assert found.items.tolist() == [[39, 38, 37], [38, 37, 36], [39, 38, 37]]
    ages = np.array([[31], [29], [30]]) - first_seen()[found.items] / DAY
    np.testing.assert_allclose(found.scores, np.exp2(-ages / SETTINGS.half_life_days), rtol=1e-5)


@pytest.mark.parametrize("name", ["nearest", "cold"])
def test_items_that_come_later_are_not_there_yet(name: str) -> None:
    if name == "nearest":
        source = Nearest(make_vectors(), SETTINGS, first_seen=first_seen())
    else:
        source = Cold(make_snapshot(), make_vectors(), SETTINGS, first_seen=first_seen())
    histories = make_histories(4)
    assert histories.now is not None
    later = first_seen()[None] > histories.now[:, None]
    found = source.propose(histories, N_ITEMS).items
    assert not np.take_along_axis(later, np.maximum(found, 0), axis=1)[found >= 0].any()
    scores = source.score_items(histories, np.tile(np.arange(N_ITEMS), (20, 1)))
    assert np.isneginf(scores[later]).all()
    np.testing.assert_array_equal(np.isfinite(scores).sum(axis=1) > 0, (found >= 0).any(axis=1))
