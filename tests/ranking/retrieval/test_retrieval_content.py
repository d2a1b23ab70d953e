"""Sources that compare vectors."""

import numpy as np
import pytest
from retrieval_shop import (
    N_ITEMS,
    SETTINGS,
    available_from,
    make_catalogue,
    make_histories,
    make_snapshot,
    make_vectors,
    propose,
    score_items,
)

from llmrec.content.features.models import unit_rows
from llmrec.errors import DataError
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.cold_start import ColdStart
from llmrec.ranking.retrieval.content import ContentNeighbours
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import DAY, Snapshot
from llmrec.ranking.retrieval.sources import make_sources, source_class
from llmrec.ranking.retrieval.vectors import VectorIndex, user_vectors
from llmrec.types import Histories


def neighbours(vectors: np.ndarray, config: RetrievalConfig | None = None) -> ContentNeighbours:
    return ContentNeighbours(Catalogue(vectors, config), Snapshot.empty())


def test_the_newest_events_make_the_most_of_a_user() -> None:
    vectors = np.eye(3, dtype=np.float32)
    histories = Histories.from_lists([[2, 0, 1], [], [0, 0]])
    users = user_vectors(histories, vectors, 0.5, 2)
    expected = [[0.5, 1, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(users, unit_rows(np.array(expected)), rtol=1e-6)


def test_the_nearest_are_those_of_brute_force() -> None:
    vectors, histories = unit_rows(make_vectors()), make_histories(2)
    users = user_vectors(histories, vectors, SETTINGS.decay, SETTINGS.events).astype(np.float64)
    found = propose(neighbours(make_vectors(), SETTINGS), histories, 9)
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
    found = propose(neighbours(vectors), Histories.from_lists([[2]] * 25), 12).items
    assert (found == [0, 1, *range(3, 13)]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_of_numbers_is_an_error(bad: float) -> None:
    vectors = make_vectors()
    vectors[6, 2] = bad
    with pytest.raises(DataError, match="row 6"):
        Catalogue(vectors)
    with pytest.raises(DataError, match="row 6"):
        make_catalogue().with_items(vectors)
    with pytest.raises(DataError, match="of 3 numbers"):
        make_catalogue().with_items(np.ones((2, 3)))
    with pytest.raises(DataError, match="available_from: has"):
        Catalogue(make_vectors(), available_from=np.zeros(3))


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("name", ["content", "cold_start"])
def test_items_added_are_as_if_they_had_been_there(name: str, timed: bool) -> None:
    known = make_snapshot()
    fewer = Snapshot(
        known.until, known.counts[:30], known.popularity[:30], known.starts[:31],
        known.neighbours, known.cosines,
    )  # fmt: skip
    times = available_from() if timed else None
    grown = make_catalogue(30, timed=timed)
    assert len(grown.index) == 29  # made before the others come
    for rows in (slice(30, 35), slice(35, None)):
        grown = grown.with_items(make_vectors()[rows], None if times is None else times[rows])
    histories = make_histories(3)
    whole = source_class(name)(make_catalogue(timed=timed), fewer)
    wanted = propose(whole, histories, 12)
    found = propose(source_class(name)(grown, fewer), histories, 12)
    np.testing.assert_array_equal(found.items, wanted.items)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_a_graph_finds_what_passes(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.ranking.retrieval.content.FLAT_MAX", 50)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1500, 8)).astype(np.float32)
    exact = neighbours(vectors, RetrievalConfig(index="flat"))
    graph = neighbours(vectors, RetrievalConfig(index="hnsw"))
    histories = Histories.from_lists([rng.integers(0, 1500, 4).tolist() for _ in range(20)])
    passing = rng.random(1500) < share
    wanted = propose(exact, histories, 20, passing=passing)
    found = propose(graph, histories, 20, passing=passing)
    same = [len(np.intersect1d(a, b)) for a, b in zip(found.items, wanted.items, strict=True)]
    assert np.mean(same) >= 0.95 * len(np.unique(wanted.items[0]))
    assert ((found.items >= 0) == (wanted.items >= 0)).all()
    assert passing[found.items[found.items >= 0]].all()


def test_an_index_of_nothing_finds_nothing() -> None:
    index = VectorIndex(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert len(index) == 0
    found = propose(neighbours(np.zeros((5, 4))), Histories.from_lists([[1]]), 3)
    assert (found.items == -1).all()


def test_only_items_with_few_events_are_cold() -> None:
    cold, known = ColdStart(make_catalogue(), make_snapshot()), make_snapshot()
    histories = make_histories()
    few = known.counts < SETTINGS.min_events
    found = propose(cold, histories, N_ITEMS).items
    assert few[found[found >= 0]].all()
    assert (found >= 0).any(axis=1).sum() > 10
    scores = score_items(cold, histories, np.tile(np.arange(N_ITEMS), (20, 1)))
    scored = np.isfinite(scores)
    with_vector = [unit_rows(make_vectors())[history].any() for history in histories]
    expected = few & (np.arange(N_ITEMS) != 3)
    assert (scored == np.array(with_vector)[:, None] & expected).all()


def test_without_a_history_the_newest_that_are_there_come_first() -> None:
    cold = ColdStart(make_catalogue(timed=True), make_snapshot())
    histories = Histories.from_lists([[], [], []], now=[31 * DAY, 29 * DAY, np.nan])
    found = propose(cold, histories, 3)
    assert found.items.tolist() == [[39, 38, 37], [38, 37, 36], [39, 38, 37]]
    ages = np.array([[31], [29], [30]]) - available_from()[found.items] / DAY
    np.testing.assert_allclose(found.scores, np.exp2(-ages / SETTINGS.half_life_days), rtol=1e-5)


@pytest.mark.parametrize("name", ["content", "item_to_item", "popular", "cold_start"])
def test_no_source_proposes_an_item_before_it_comes(name: str) -> None:
    source = source_class(name)(make_catalogue(timed=True), make_snapshot())
    histories = make_histories(4)
    assert histories.now is not None
    later = available_from()[None] > histories.now[:, None]
    found = propose(source, histories, N_ITEMS).items
    assert (found >= 0).any()
    assert not np.take_along_axis(later, np.maximum(found, 0), axis=1)[found >= 0].any()
    if name in ("content", "cold_start"):
        scores = score_items(source, histories, np.tile(np.arange(N_ITEMS), (20, 1)))
        assert np.isneginf(scores[later]).all()


def test_an_item_of_which_it_is_not_known_when_it_came_was_always_there() -> None:
    histories = make_histories(4)
    for untimed, timed in zip(
        make_sources(make_catalogue(), make_snapshot()),
        make_sources(
            Catalogue(make_vectors(), SETTINGS, available_from=np.full(N_ITEMS, np.nan)),
            make_snapshot(),
        ),
        strict=True,
    ):
        found = propose(timed, histories, N_ITEMS)
        np.testing.assert_array_equal(found.items, propose(untimed, histories, N_ITEMS).items)
    users, items = make_catalogue(timed=True).unavailable(np.array([0.0, 31 * DAY, np.nan]))
    assert set(users) == {0} and set(items) == set(range(21, N_ITEMS))
