"""Sampled negatives: whose they are, and what the rank among them is."""

import numpy as np

from llmrec.metrics.sampled import draw_negatives, sampled_ranks

POOL = np.arange(100, 160)
KNOWN = [np.array([100, 101, 7]), np.array([159])]
USERS = np.array([4, 9])


def test_negatives_are_distinct_unknown_items_of_the_pool() -> None:
    drawn = draw_negatives(POOL, KNOWN, USERS, 40, seed=1)
    for row, known in zip(drawn, KNOWN, strict=True):
        assert len(set(row.tolist())) == 40
        assert np.isin(row, POOL).all()
        assert not np.isin(row, known).any()


def test_a_draw_is_the_users_own() -> None:
    both = draw_negatives(POOL, KNOWN, USERS, 40, seed=1)
    alone = draw_negatives(POOL, KNOWN[1:], USERS[1:], 40, seed=1)
    np.testing.assert_array_equal(both[1:], alone)
    assert not np.array_equal(both, draw_negatives(POOL, KNOWN, USERS, 40, seed=2))


def test_every_item_is_drawn_equally_often() -> None:
    users = np.arange(3000)
    drawn = draw_negatives(np.arange(10), [np.array([0])] * len(users), users, 3, seed=0)
    counts = np.bincount(drawn.ravel(), minlength=10)
    assert counts[0] == 0
    assert abs(counts[1:] / 1000 - 1).max() < 0.15


def test_a_small_pool_is_taken_whole() -> None:
    drawn = draw_negatives(POOL[:3], [np.array([101])], USERS[:1], 5, seed=0)
    assert sorted(drawn[0].tolist()) == [-1, -1, -1, 100, 102]
    placed = np.where(drawn == -1, 9.0, 0.0)  # scores of padding count for nothing
    assert sampled_ranks(np.array([1.0]), placed, np.array([101]), drawn).tolist() == [0]
