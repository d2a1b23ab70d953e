"""Candidates of several sources, and that training and serving say the same of them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_shop import (
    N_ITEMS,
    make_catalogue,
    make_histories,
    make_log,
    make_sources,
    make_vectors,
    padded,
    propose,
)
from tiny_models import random_semantic_ids, tiny_llm

from llmrec.errors import CatalogError, ConfigError, DataError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.item_ids.item_ids import ItemIds
from llmrec.ranking.retrieval import sources as standard
from llmrec.ranking.retrieval.candidates import candidates, fuse
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.interactions import Interactions
from llmrec.ranking.retrieval.snapshot import DAY, Snapshot, fit_snapshots
from llmrec.ranking.retrieval.source_features import source_features, source_features_as_of
from llmrec.types import Histories

SOURCES = make_sources(timed=True)


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 45),
    limit=st.integers(1, 60),
    filtered=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_source_features_of_candidates_are_those_they_came_with(
    seed: int, k: int, limit: int, filtered: bool
) -> None:
    histories = make_histories(seed, users=9)
    passing = np.random.default_rng(seed).random(N_ITEMS) < 0.4 if filtered else None
    within = None if passing is None else Constraints(allow=ItemFilter(passing))
    found = candidates(SOURCES, histories, k, limit, within)
    features = source_features(SOURCES, histories, padded([one.items for one in found]), k)
    for user, one in enumerate(found):
        np.testing.assert_array_equal(features.rank[user, : len(one)], one.features.rank)
        np.testing.assert_array_equal(features.score[user, : len(one)], one.features.score)
        alone = candidates(SOURCES, histories.select([user]), k, limit, within)[0]
        np.testing.assert_array_equal(alone.items, one.items)
        np.testing.assert_array_equal(alone.features.rank, one.features.rank)
        np.testing.assert_allclose(alone.features.score, one.features.score, rtol=1e-6)
        assert len(np.unique(one.items)) == len(one) <= limit
        assert not np.isin(one.items, histories[user]).any()
        assert passing is None or passing[one.items].all()


@given(seed=st.integers(0, 10_000), k=st.integers(1, 15))
@settings(max_examples=15, deadline=None)
def test_without_a_filter_those_with_a_rank_were_proposed(seed: int, k: int) -> None:
    histories = make_histories(seed, users=6)
    for user, one in enumerate(candidates(SOURCES, histories, k)):
        np.testing.assert_array_equal(one.proposed, one.features.rank >= 0)
        for place, source in enumerate(SOURCES):
            list_of = propose(source, histories.select([user]), k).items[0]
            ranks = one.features.rank[:, place]
            np.testing.assert_array_equal(one.items[ranks >= 0], list_of[ranks[ranks >= 0]])
            assert (ranks >= 0).sum() == (list_of >= 0).sum()


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_the_language_model_is_read_as_the_others(kind: str) -> None:
    ids = ItemIds.atomic(N_ITEMS) if kind == "atomic" else random_semantic_ids(N_ITEMS, (5, 4, 4))
    sources = make_sources(model=tiny_llm(ids))
    assert sources[0].name == "generated"
    histories = make_histories()
    found = candidates(sources, histories, 5)
    features = source_features(sources, histories, padded([one.items for one in found]), 5)
    for user, one in enumerate(found):
        np.testing.assert_array_equal(features.rank[user, : len(one)], one.features.rank)
        np.testing.assert_array_equal(features.score[user, : len(one)], one.features.score)
        assert (one.features.rank[:, 0] >= 0).sum() == 5
        assert np.isfinite(one.features.score[:, 0]).all()


def test_an_atomic_model_runs_once_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llm(ItemIds.atomic(N_ITEMS))
    read, score = [], model.score  # type: ignore[union-attr]
    monkeypatch.setattr(model, "score", lambda h: read.append(len(h)) or score(h))
    candidates(make_sources(model=model), make_histories(), 5)
    assert read == [20]


def test_fusion_adds_reciprocal_ranks_and_cuts_by_them() -> None:
    lists = [np.array([[5, 2, 7], [1, -1, -1]]), np.array([[7, 5, 9], [-1, -1, -1]])]
    items, fused, proposed = fuse(lists, 3, 10)
    assert items.tolist() == [[5, 7, 2], [1, -1, -1]]
    wanted = [1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62]
    np.testing.assert_allclose(fused[0], wanted)
    assert proposed[0].tolist() == [[True, True], [True, True], [True, False]]
    assert fuse([np.full((2, 3), -1)], 3, 10)[0].shape == (2, 0)


def test_a_filter_brings_further_items_and_moves_no_rank() -> None:
    histories = make_histories(users=8)
    free = candidates(SOURCES, histories, 4)
    passing = ~np.isin(np.arange(N_ITEMS), np.concatenate([one.items[:6] for one in free]))
    assert passing.sum() >= 8
    beyond = 0
    for one in candidates(
        SOURCES, histories, 4, constraints=Constraints(allow=ItemFilter(passing))
    ):
        assert len(one)
        further = one.proposed & (one.features.rank < 0)
        beyond += int(further.sum())
        assert np.isfinite(one.features.score[further]).all()
        for row in range(len(one)):
            names = [s.name for s, own in zip(SOURCES, one.proposed[row], strict=True) if own]
            assert one.sources_of(row) == names != []
        assert (one.proposed.sum(axis=0) <= 4).all()
    assert beyond > 10


def test_what_is_excluded_is_left_out() -> None:
    histories = make_histories(users=3)
    free = candidates(SOURCES, histories, 6)
    excluded = free[1].items[:3]
    kept = candidates(SOURCES, histories, 6, constraints=Constraints(exclude=excluded))
    for user in range(3):
        assert not np.isin(kept[user].items, excluded).any()
        assert len(kept[user]) >= len(free[user]) - 3
    alone = histories.select([1])
    np.testing.assert_array_equal(
        candidates(SOURCES, alone, 6, constraints=Constraints(exclude=excluded))[0].items,
        kept[1].items,
    )


def test_the_language_models_search_is_given_the_filter_itself() -> None:
    """What the search keeps of an ItemFilter is made once only if it is the same object."""
    model = tiny_llm(random_semantic_ids(N_ITEMS, (5, 4, 4)))
    given: list[Constraints] = []
    search = model.recommend

    def recommend(*args: Any, constraints: Any, **more: Any) -> Any:
        given.extend(constraints)
        return search(*args, constraints=constraints, **more)

    model.recommend = recommend  # type: ignore[method-assign]
    allow = ItemFilter(np.arange(N_ITEMS) < 9)
    candidates(
        make_sources(model=model), make_histories(users=1), 4, constraints=Constraints([2], allow)
    )
    filtered = [one for one in given if one.allow is not None]
    assert filtered and all(one.allow is allow and 2 in one.exclude for one in filtered)


def test_the_history_may_come_again_and_moves_no_rank() -> None:
    histories = make_histories(users=6)
    again = candidates(SOURCES, histories, N_ITEMS, exclude_history=False)
    usual = candidates(SOURCES, histories, N_ITEMS)
    returned = 0
    for user, (one, other) in enumerate(zip(again, usual, strict=True)):
        in_history = np.isin(one.items, histories[user])
        returned += int(in_history.sum())
        assert (one.features.rank[in_history] == -1).all()
        place = {int(item): row for row, item in enumerate(other.items)}
        for row in np.flatnonzero(~in_history):
            rank = other.features.rank[place[int(one.items[row])]]
            np.testing.assert_array_equal(one.features.rank[row], rank)
        assert not np.isin(other.items, histories[user]).any()
    assert returned > 5


def test_requests_that_do_not_fit_are_errors() -> None:
    histories = make_histories(users=2)
    with pytest.raises(CatalogError, match="allow: is a filter of 3 items, not of 40"):
        candidates(SOURCES, histories, constraints=Constraints(allow=ItemFilter(np.ones(3, bool))))
    with pytest.raises(CatalogError, match="exclude: an item is not among"):
        candidates(SOURCES, histories, constraints=Constraints(exclude=[1, N_ITEMS]))
    with pytest.raises(ConfigError, match="there is none"):
        candidates([], histories)
    with pytest.raises(ConfigError, match="same name"):
        candidates([SOURCES[0], SOURCES[0]], histories)
    larger = Catalogue(make_vectors(n=41))
    with pytest.raises(ConfigError, match="catalogues differ"):
        candidates([SOURCES[0], standard.make_sources(larger, Snapshot.empty())[1]], histories)
    with pytest.raises(CatalogError, match="not among"):
        source_features(SOURCES, histories, np.array([[1], [N_ITEMS]]))


def test_padding_has_no_features() -> None:
    features = source_features(SOURCES, make_histories(users=2), np.array([[1, -1], [-1, 2]]), 40)
    assert (features.rank[[0, 1], [1, 0]] == -1).all()
    assert np.isnan(features.score[[0, 1], [1, 0]]).all()
    assert features.rank.dtype == np.int32
    assert features.score.dtype == np.float32


def test_an_empty_shop_has_no_candidates() -> None:
    sources = standard.make_sources(Catalogue(np.zeros((0, 4))), Snapshot.empty())
    found = candidates(sources, Histories.from_lists([[], []]))
    assert [len(one) for one in found] == [0, 0]
    assert source_features(sources, Histories.from_lists([[]]), np.array([[-1]])).rank.tolist() == [
        [[-1] * 4]
    ]
    assert candidates(SOURCES, Histories.from_lists([])) == []


@pytest.mark.parametrize("day", [12.5, 15.0])
def test_the_features_of_a_request_hold_nothing_that_came_later(day: float) -> None:
    log, times = make_log(), [5 * DAY, 10 * DAY, 15 * DAY, 20 * DAY]
    now = day * DAY
    histories = make_histories()
    histories = Histories(histories.items, histories.offsets, None, np.full(20, now))
    items = np.tile(np.arange(8), (20, 1))
    catalogue = make_catalogue()
    features = source_features_as_of(
        fit_snapshots(log, times, N_ITEMS), catalogue, histories, items, 9
    )
    later = log.time >= now
    changed = Interactions(log.user, np.where(later, 0, log.item), log.time)
    again = source_features_as_of(
        fit_snapshots(changed, times, N_ITEMS), catalogue, histories, items, 9
    )
    np.testing.assert_array_equal(again.rank, features.rank)
    np.testing.assert_array_equal(again.score, features.score)
    earlier = Interactions(log.user, np.where(later, log.item, 0), log.time)
    other = source_features_as_of(
        fit_snapshots(earlier, times, N_ITEMS), catalogue, histories, items, 9
    )
    assert (other.rank != features.rank).any()


def test_each_request_has_its_own_snapshot() -> None:
    snapshots = fit_snapshots(make_log(), [8 * DAY, 20 * DAY], N_ITEMS)
    catalogue = make_catalogue(timed=True)
    histories = make_histories(users=30)
    items = np.tile(np.arange(6), (30, 1))
    features = source_features_as_of(snapshots, catalogue, histories, items, 10)
    known = [Snapshot.empty(), *snapshots.snapshots]
    assert histories.now is not None
    for user, number in enumerate(snapshots.of(histories.now) + 1):
        one = source_features(
            standard.make_sources(catalogue, known[number]),
            histories.select([user]),
            items[[user]],
            10,
        )
        np.testing.assert_array_equal(one.rank[0], features.rank[user])
        np.testing.assert_allclose(one.score[0], features.score[user], rtol=1e-6)
    assert len(np.unique(snapshots.of(histories.now))) == 3


def test_a_request_without_a_time_has_no_point_in_time_features() -> None:
    snapshots = fit_snapshots(make_log(), [8 * DAY], N_ITEMS)
    catalogue = make_catalogue()
    for now in (None, [np.nan]):
        with pytest.raises(DataError, match="no time"):
            source_features_as_of(
                snapshots, catalogue, Histories.from_lists([[1]], now=now), np.array([[1]])
            )
