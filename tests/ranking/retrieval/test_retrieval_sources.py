"""What every source does, the language model's two kinds among them."""

from collections.abc import Callable

import numpy as np
import pytest
from retrieval_shop import (
    N_ITEMS,
    N_KNOWN,
    SETTINGS,
    make_catalogue,
    make_histories,
    make_snapshot,
    make_vectors,
    propose,
    score_items,
)
from tiny_models import random_semantic_ids, tiny_llm

from llmrec.errors import CatalogError, ConfigError, DataError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.cold_start import ColdStart
from llmrec.ranking.retrieval.content import ContentNeighbours
from llmrec.ranking.retrieval.generated import Generated
from llmrec.ranking.retrieval.interactions import Interactions
from llmrec.ranking.retrieval.item_to_item import ItemToItem
from llmrec.ranking.retrieval.popular import Popular
from llmrec.ranking.retrieval.snapshot import Snapshot, fit_snapshot
from llmrec.ranking.retrieval.source import Source
from llmrec.ranking.retrieval.sources import make_sources
from llmrec.types import Histories


def generated(model: object) -> Generated:
    return Generated(make_catalogue(model=model), make_snapshot())


MAKERS: dict[str, Callable[[], Source]] = {
    "atomic": lambda: generated(tiny_llm(ItemIds.atomic(N_ITEMS), batch_size=4)),
    "semantic": lambda: generated(tiny_llm(random_semantic_ids(N_ITEMS, (5, 4, 4)), batch_size=4)),
    "model-of-fewer": lambda: generated(tiny_llm(ItemIds.atomic(N_ITEMS - 6))),
    "content": lambda: ContentNeighbours(make_catalogue(), make_snapshot()),
    "content-in-time": lambda: ContentNeighbours(make_catalogue(timed=True), make_snapshot()),
    "item-to-item": lambda: ItemToItem(make_catalogue(), make_snapshot()),
    "popular": lambda: Popular(make_catalogue(), make_snapshot()),
    "popular-in-time": lambda: Popular(make_catalogue(timed=True), make_snapshot()),
    "cold-start": lambda: ColdStart(make_catalogue(), make_snapshot()),
    "cold-start-in-time": lambda: ColdStart(make_catalogue(timed=True), make_snapshot()),
}


@pytest.fixture(scope="module", params=MAKERS)
def source(request: pytest.FixtureRequest) -> Source:
    return MAKERS[request.param]()


def test_a_batch_is_as_its_users_alone(source: Source) -> None:
    histories = make_histories()
    items = np.array([np.random.default_rng(u).permutation(N_ITEMS)[:7] for u in range(20)])
    together, scores = propose(source, histories, 6), score_items(source, histories, items)
    for user in range(len(histories)):
        one = histories.select([user])
        np.testing.assert_array_equal(propose(source, one, 6).items[0], together.items[user])
        np.testing.assert_allclose(
            score_items(source, one, items[[user]])[0], scores[user], rtol=1e-4
        )


@pytest.mark.parametrize("k", [1, 6, N_ITEMS + 5])
def test_lists_hold_no_item_twice_nor_of_the_history(source: Source, k: int) -> None:
    histories = make_histories()
    found = propose(source, histories, k)
    assert found.items.shape == found.scores.shape == (20, k)
    for row, history in zip(found.items, histories, strict=True):
        filled = row[row >= 0]
        assert len(np.unique(filled)) == len(filled)
        assert not np.isin(filled, history).any()
        assert (row[len(filled) :] == -1).all()


def test_what_is_in_the_history_may_be_asked_for(source: Source) -> None:
    histories = make_histories()
    found = propose(source, histories, N_ITEMS, exclude_history=False).items
    again = [np.isin(h, row).any() for row, h in zip(found, histories, strict=True)]
    assert any(again)


def test_scores_fall_and_are_those_of_given_items(source: Source) -> None:
    histories = make_histories()
    found = propose(source, histories, 8)
    assert (np.diff(np.nan_to_num(found.scores, neginf=-1e9), axis=1) <= 0).all()
    np.testing.assert_array_equal(np.isneginf(found.scores), found.items < 0)
    given = score_items(source, histories, found.items)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, found.scores, rtol=1e-4, atol=1e-6)


def test_a_short_list_is_the_beginning_of_a_long_one(source: Source) -> None:
    histories = make_histories(1)
    if source.name == "generated" and not hasattr(source.catalogue.model, "score"):
        pytest.skip("a beam search as wide as the list finds more when it is wider")
    long = propose(source, histories, 20).items
    np.testing.assert_array_equal(propose(source, histories, 5).items, long[:, :5])


def test_only_what_passes_is_proposed(source: Source) -> None:
    histories = make_histories()
    passing = np.arange(N_ITEMS) % 3 == 1
    found = propose(source, histories, N_ITEMS, passing=passing).items
    every = propose(source, histories, N_ITEMS).items
    for row, all_of in zip(found, every, strict=True):
        wanted = all_of[(all_of >= 0) & passing[all_of]]
        np.testing.assert_array_equal(np.sort(row[row >= 0]), np.sort(wanted))
    assert (propose(source, histories, 3, passing=np.zeros(N_ITEMS, bool)).items == -1).all()


@pytest.mark.parametrize("item", [-1, N_ITEMS, N_ITEMS + 3])
def test_an_unknown_item_in_a_history_is_an_error(source: Source, item: int) -> None:
    with pytest.raises(CatalogError, match=f"not among the {N_ITEMS} of the catalogue"):
        propose(source, Histories.from_lists([[1], [2, item]]), 3)


def test_an_unknown_item_cannot_be_scored(source: Source) -> None:
    histories = Histories.from_lists([[1]])
    with pytest.raises(CatalogError, match="not among"):
        score_items(source, histories, np.array([[N_ITEMS]]))
    with pytest.raises(CatalogError, match="a row for each of 1"):
        score_items(source, histories, np.array([[1], [2]]))
    assert score_items(source, histories, np.array([[-1, -1]])).tolist() == [[-np.inf] * 2]


def test_nobody_asks(source: Source) -> None:
    nobody = Histories.from_lists([])
    assert propose(source, nobody, 4).items.shape == (0, 4)
    assert score_items(source, nobody, np.zeros((0, 3), int)).shape == (0, 3)


def test_without_a_history_only_popular_and_new_items_are_proposed() -> None:
    nobody = Histories.from_lists([[]], now=[40 * 86_400.0])
    sources = make_sources(make_catalogue(timed=True), make_snapshot())
    counts = {s.name: int((propose(s, nobody, 5).items >= 0).sum()) for s in sources}
    assert counts == {"content": 0, "item_to_item": 0, "popular": 5, "cold_start": 5}


def test_popular_is_the_same_for_everybody_but_for_the_history() -> None:
    popular = Popular(make_catalogue(), make_snapshot())
    order = np.argsort(-make_snapshot().popularity, kind="stable")[:N_KNOWN]
    histories = make_histories()
    for row, history in zip(propose(popular, histories, 5).items, histories, strict=True):
        np.testing.assert_array_equal(row, order[~np.isin(order, history)][:5])


def test_item_to_item_adds_the_cosines_with_the_newest_items() -> None:
    log = Interactions.from_events([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 2, 3], np.arange(6.0))
    known = fit_snapshot(log, np.inf, 5, SETTINGS)
    item_to_item = ItemToItem(make_catalogue(5), known)
    cosine = 2 / (2 + SETTINGS.shrink)
    scores = score_items(
        item_to_item, Histories.from_lists([[2, 0], [0, 2], []]), np.array([[1, 3, 4]] * 3)
    )
    late, early = 1.0, SETTINGS.item_to_item_decay
    pair = 1 / (1 + SETTINGS.shrink)
    np.testing.assert_allclose(
        scores[:2], [[cosine * late, pair * early, 0], [cosine * early, pair * late, 0]], rtol=1e-6
    )
    assert np.isneginf(scores[2]).all()


def test_new_items_are_known_to_those_who_need_no_events() -> None:
    old = make_catalogue(model=tiny_llm(ItemIds.atomic(N_ITEMS)))
    new = old.with_items(np.tile(make_vectors()[8], (3, 1)))
    assert new.n_items == N_ITEMS + 3 == old.n_items + 3
    histories = Histories.from_lists([[8], [8, N_ITEMS + 1]])
    given = np.tile(np.arange(N_ITEMS, N_ITEMS + 3), (2, 1))
    for source in make_sources(new, make_snapshot()):
        scores, found = score_items(source, histories, given), propose(source, histories, 3).items
        if source.name in ("content", "cold_start"):
            np.testing.assert_allclose(scores, 1, rtol=1e-6)
            assert found.tolist()[0] == [N_ITEMS, N_ITEMS + 1, N_ITEMS + 2]
            assert set(found[1][:2]) == {N_ITEMS, N_ITEMS + 2}
        elif source.name == "generated":
            assert np.isneginf(scores).all()
        else:
            assert (scores == 0).all()


def test_items_that_are_gone_are_not_generated() -> None:
    available = np.arange(N_ITEMS) % 2 == 0
    for ids in (ItemIds.atomic(N_ITEMS), random_semantic_ids(N_ITEMS, (5, 4, 4))):
        source = generated(tiny_llm(ids).with_items(ids, available))
        histories = Histories.from_lists([[1, 2]])
        found = propose(source, histories, N_ITEMS).items
        assert set(found[0][found[0] >= 0]) == set(range(0, N_ITEMS, 2)) - {2}
        scores = score_items(source, histories, np.arange(N_ITEMS)[None])[0]
        np.testing.assert_array_equal(np.isfinite(scores), available)
        half = propose(source, histories, N_ITEMS, passing=np.arange(N_ITEMS) < 5).items[0]
        assert set(half[half >= 0]) == {0, 4}


def test_an_empty_catalogue_has_nothing_to_propose() -> None:
    histories = Histories.from_lists([[], []])
    for source in make_sources(Catalogue(np.zeros((0, 4))), Snapshot.empty()):
        assert (propose(source, histories, 3).items == -1).all()
        nothing = score_items(source, histories, np.full((2, 2), -1))
        assert np.isneginf(nothing).all()


def test_a_catalogue_does_not_shrink() -> None:
    with pytest.raises(DataError, match="knows 40 items, the catalogue has 7"):
        ItemToItem(make_catalogue(7), make_snapshot())
    with pytest.raises(DataError, match="not removed"):
        ColdStart(make_catalogue(7), make_snapshot())
    with pytest.raises(ConfigError, match="the model knows 40 items"):
        make_catalogue(7, model=tiny_llm(ItemIds.atomic(N_ITEMS)))
