"""Candidates of several sources, and that training and serving say the same of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_shop import (
    N_ITEMS,
    SETTINGS,
    first_seen,
    make_histories,
    make_log,
    make_sources,
    make_vectors,
    padded,
)
from tiny_models import random_semantic_ids, tiny_llm

from llmrec.errors import CatalogError, ConfigError, DataError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.ranking.retrieval.candidates import candidates, fuse
from llmrec.ranking.retrieval.describe import describe, describe_as_of
from llmrec.ranking.retrieval.log import Log
from llmrec.ranking.retrieval.snapshot import DAY, Snapshot, fit_snapshots
from llmrec.ranking.retrieval.standard import StandardSources
from llmrec.types import Histories

SOURCES = make_sources(first_seen=first_seen())


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 45),
    limit=st.integers(1, 60),
    filtered=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_describing_candidates_says_what_candidates_said(
    seed: int, k: int, limit: int, filtered: bool
) -> None:
    histories = make_histories(seed, users=9)
    passing = np.random.default_rng(seed).random(N_ITEMS) < 0.4 if filtered else None
    found = candidates(SOURCES, histories, k, limit, passing)
    described = describe(SOURCES, histories, padded([one.items for one in found]), k)
    for user, one in enumerate(found):
        np.testing.assert_array_equal(described.rank[user, : len(one)], one.described.rank)
        np.testing.assert_array_equal(described.score[user, : len(one)], one.described.score)
        alone = candidates(SOURCES, histories.select([user]), k, limit, passing)[0]
        np.testing.assert_array_equal(alone.items, one.items)
        np.testing.assert_array_equal(alone.described.rank, one.described.rank)
        np.testing.assert_allclose(alone.described.score, one.described.score, rtol=1e-6)
        assert len(np.unique(one.items)) == len(one) <= limit
        assert not np.isin(one.items, histories[user]).any()
        assert passing is None or passing[one.items].all()


@given(seed=st.integers(0, 10_000), k=st.integers(1, 15))
@settings(max_examples=15, deadline=None)
def test_without_a_filter_those_with_a_rank_were_proposed(seed: int, k: int) -> None:
    histories = make_histories(seed, users=6)
    for user, one in enumerate(candidates(SOURCES, histories, k)):
        np.testing.assert_array_equal(one.proposed, one.described.rank >= 0)
        for place, source in enumerate(SOURCES):
            list_of = source.propose(histories.select([user]), k).items[0]
            ranks = one.described.rank[:, place]
            np.testing.assert_array_equal(one.items[ranks >= 0], list_of[ranks[ranks >= 0]])
            assert (ranks >= 0).sum() == (list_of >= 0).sum()


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_the_language_model_is_read_as_the_others(kind: str) -> None:
    ids = ItemIds.atomic(N_ITEMS) if kind == "atomic" else random_semantic_ids(N_ITEMS, (5, 4, 4))
    sources = make_sources(model=tiny_llm(ids))
    assert sources[0].name == "generated"
    histories = make_histories()
    found = candidates(sources, histories, 5)
    described = describe(sources, histories, padded([one.items for one in found]), 5)
    for user, one in enumerate(found):
        np.testing.assert_array_equal(described.rank[user, : len(one)], one.described.rank)
        np.testing.assert_array_equal(described.score[user, : len(one)], one.described.score)
        assert (one.described.rank[:, 0] >= 0).sum() == 5
        assert np.isfinite(one.described.score[:, 0]).all()


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
    for one in candidates(SOURCES, histories, 4, passing=passing):
        assert len(one)
        further = one.proposed & (one.described.rank < 0)
        beyond += int(further.sum())
        assert np.isfinite(one.described.score[further]).all()
        for row in range(len(one)):
            names = [s.name for s, own in zip(SOURCES, one.proposed[row], strict=True) if own]
            assert one.sources_of(row) == names != []
        assert (one.proposed.sum(axis=0) <= 4).all()
    assert beyond > 10


def test_what_a_user_excludes_is_left_out_for_that_user_alone() -> None:
    histories = make_histories(users=3)
    free = candidates(SOURCES, histories, 6)
    own = [np.array([], int), free[1].items[:3], np.array([], int)]
    kept = candidates(SOURCES, histories, 6, exclude=own)
    assert not np.isin(kept[1].items, own[1]).any()
    assert len(kept[1]) >= len(free[1]) - 3
    for user in (0, 2):
        np.testing.assert_array_equal(kept[user].items, free[user].items)


def test_requests_that_do_not_fit_are_errors() -> None:
    histories = make_histories(users=2)
    with pytest.raises(CatalogError, match="yes or no for each of 40"):
        candidates(SOURCES, histories, passing=np.ones(3, bool))
    with pytest.raises(CatalogError, match="1 lists for 2 users"):
        candidates(SOURCES, histories, exclude=[np.array([1])])
    with pytest.raises(CatalogError, match="exclude: an item is not among"):
        candidates(SOURCES, histories, exclude=[np.array([1]), np.array([N_ITEMS])])
    with pytest.raises(ConfigError, match="there is none"):
        candidates([], histories)
    with pytest.raises(ConfigError, match="same name"):
        candidates([SOURCES[0], SOURCES[0]], histories)
    with pytest.raises(ConfigError, match="catalogues differ"):
        candidates(
            [SOURCES[0], StandardSources(make_vectors(n=41))(Snapshot.empty())[1]], histories
        )
    with pytest.raises(CatalogError, match="not among"):
        describe(SOURCES, histories, np.array([[1], [N_ITEMS]]))


def test_nothing_is_said_of_padding() -> None:
    described = describe(SOURCES, make_histories(users=2), np.array([[1, -1], [-1, 2]]), 40)
    assert (described.rank[[0, 1], [1, 0]] == -1).all()
    assert np.isnan(described.score[[0, 1], [1, 0]]).all()
    assert described.rank.dtype == np.int32
    assert described.score.dtype == np.float32


def test_an_empty_shop_has_no_candidates() -> None:
    sources = StandardSources(np.zeros((0, 4)))(Snapshot.empty())
    found = candidates(sources, Histories.from_lists([[], []]))
    assert [len(one) for one in found] == [0, 0]
    assert describe(sources, Histories.from_lists([[]]), np.array([[-1]])).rank.tolist() == [
        [[-1] * 4]
    ]
    assert candidates(SOURCES, Histories.from_lists([])) == []


@pytest.mark.parametrize("moment", [12.5, 15.0])
def test_a_moment_is_described_by_what_was_known_of_it(moment: float) -> None:
    log, times = make_log(), [5 * DAY, 10 * DAY, 15 * DAY, 20 * DAY]
    now = moment * DAY
    histories = make_histories()
    histories = Histories(histories.items, histories.offsets, None, np.full(20, now))
    items = np.tile(np.arange(8), (20, 1))
    make = StandardSources(make_vectors(), SETTINGS)
    described = describe_as_of(fit_snapshots(log, times, N_ITEMS), make, histories, items, 9)
    later = log.time >= now
    changed = Log(log.user, np.where(later, 0, log.item), log.time, log.weight)
    again = describe_as_of(fit_snapshots(changed, times, N_ITEMS), make, histories, items, 9)
    np.testing.assert_array_equal(again.rank, described.rank)
    np.testing.assert_array_equal(again.score, described.score)
    earlier = Log(log.user, np.where(later, log.item, 0), log.time, log.weight)
    other = describe_as_of(fit_snapshots(earlier, times, N_ITEMS), make, histories, items, 9)
    assert (other.rank != described.rank).any()


def test_each_moment_has_its_own_snapshot() -> None:
    snapshots = fit_snapshots(make_log(), [8 * DAY, 20 * DAY], N_ITEMS)
    make = StandardSources(make_vectors(), SETTINGS, first_seen=first_seen())
    histories = make_histories(users=30)
    items = np.tile(np.arange(6), (30, 1))
    described = describe_as_of(snapshots, make, histories, items, 10)
    known = [Snapshot.empty(), *snapshots.snapshots]
    assert histories.now is not None
    for user, number in enumerate(snapshots.of(histories.now) + 1):
        one = describe(make(known[number]), histories.select([user]), items[[user]], 10)
        np.testing.assert_array_equal(one.rank[0], described.rank[user])
        np.testing.assert_allclose(one.score[0], described.score[user], rtol=1e-6)
    assert len(np.unique(snapshots.of(histories.now))) == 3


def test_a_moment_without_a_time_cannot_be_described() -> None:
    snapshots = fit_snapshots(make_log(), [8 * DAY], N_ITEMS)
    make = StandardSources(make_vectors())
    for now in (None, [np.nan]):
        with pytest.raises(DataError, match="no time"):
            describe_as_of(snapshots, make, Histories.from_lists([[1]], now=now), np.array([[1]]))
