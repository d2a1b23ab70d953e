"""Filters, order and splits, against answers derived by hand or by a plain loop."""

from pathlib import Path

import numpy as np
import pytest

from llmrec.data import splitting
from llmrec.errors import DataError


def test_time_order_is_stable_at_equal_times() -> None:
    user = np.array([1, 0, 1, 0])
    assert splitting.time_order(user, np.zeros(len(user))).tolist() == [1, 3, 0, 2]


def test_ties_marks_neighbours_of_one_user_only() -> None:
    user = np.array([0, 0, 0, 1, 1])
    time = np.array([1.0, 5, 5, 5, 6])
    with_previous, with_any = splitting.ties(user, time)
    assert with_previous.tolist() == [False, False, True, False, False]
    assert with_any.tolist() == [False, True, True, False, False]


def test_shuffle_moves_only_tied_events_and_follows_the_seed() -> None:
    user = np.repeat([0, 1], 40)
    time = np.concatenate([np.arange(20), np.full(20, 99), np.full(40, 7)]).astype(float)
    first = splitting.shuffle_ties(user, time, seed=1)
    assert first[:20].tolist() == list(range(20))
    assert sorted(first[20:40]) == list(range(20, 40)) != first[20:40].tolist()
    assert sorted(first[40:]) == list(range(40, 80)) != first[40:].tolist()
    assert (first == splitting.shuffle_ties(user, time, seed=1)).all()
    assert (first != splitting.shuffle_ties(user, time, seed=2)).any()


def test_shuffled_ties_have_no_preferred_place() -> None:
    user, time = np.zeros(2, int), np.zeros(2)
    swapped = sum(splitting.shuffle_ties(user, time, seed)[0] for seed in range(400))
    assert 150 < swapped < 250


def test_exact_duplicates_needs_every_key_equal() -> None:
    rows = np.array(
        # user, item, kind, time, rating
        [
            (0, 1, 0, 5, np.nan),
            (0, 2, 0, 5, np.nan),
            (0, 1, 0, 5, np.nan),  # again
            (0, 1, 1, 5, np.nan),  # another type
            (0, 1, 0, 5, 3.0),  # another rating
            (0, 1, 0, 6, np.nan),  # another time
            (1, 1, 0, 6, np.nan),  # another user
        ]
    )
    found = splitting.exact_duplicates(*rows.T)
    assert np.flatnonzero(found).tolist() == [2]


@pytest.mark.parametrize("k", [2, 3, 5])
def test_k_core_equals_a_plain_loop(k: int) -> None:
    rng = np.random.default_rng(k)
    pairs = [(int(u), int(i)) for u, i in zip(*rng.integers(0, 40, (2, 150)), strict=True)]
    left = list(range(len(pairs)))
    while True:
        users = [pairs[e][0] for e in left]
        items = [pairs[e][1] for e in left]
        smaller = [
            e for e in left if users.count(pairs[e][0]) >= k and items.count(pairs[e][1]) >= k
        ]
        if smaller == left:
            break
        left = smaller
    keep = splitting.k_core(*np.array(pairs).T, k)
    assert np.flatnonzero(keep).tolist() == left
    assert len(left) < len(pairs)


def test_leave_one_out_keeps_short_users_in_training() -> None:
    user = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    assert splitting.leave_out(user).tolist() == [0, 0, 0, 0, 1, 2, 0, 0, 1, 2]


def test_leave_k_out_holds_so_many_out_for_each_split() -> None:
    user = np.repeat([0, 1], [5, 4])
    assert splitting.leave_out(user, 2).tolist() == [0, 1, 1, 2, 2, 0, 0, 0, 0]


def test_random_split_has_the_shares_and_follows_the_seed() -> None:
    first = splitting.at_random(10_000, 0.2, 0.1, seed=1)
    counts = np.bincount(first)
    assert abs(counts[1] - 2000) < 150 and abs(counts[2] - 1000) < 120
    assert (first == splitting.at_random(10_000, 0.2, 0.1, seed=1)).all()
    assert (first != splitting.at_random(10_000, 0.2, 0.1, seed=2)).any()


@pytest.mark.parametrize(
    "name, code",
    [("a.train.inter", 0), ("u1.base", 0), ("valid.csv", 1), ("dev-0.csv", 1), ("x_test.csv", 2)],
)
def test_a_file_s_name_says_its_split(name: str, code: int) -> None:
    assert splitting.code_of_file(Path("data") / name) == code


@pytest.mark.parametrize("name", ["log.csv", "train-test.csv", "latest.csv"])
def test_a_name_that_says_no_split_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="says none of train"):
        splitting.code_of_file(Path("data") / name)


def test_items_in_the_order_of_their_names_are_noticed() -> None:
    user = np.repeat(np.arange(10), 5)
    everywhere = np.ones(50, dtype=bool)
    rank = np.tile(np.arange(5), 10)
    assert splitting.ascending_share(user, rank, everywhere) == 1.0
    assert splitting.ascending_share(user, 4 - rank, everywhere) == 0.0
    shuffled = np.random.default_rng(0).permutation(50)
    assert 0.2 < (splitting.ascending_share(user, shuffled, everywhere) or 0) < 0.8
    assert splitting.ascending_share(user[:10], rank[:10], everywhere[:10]) is None


def test_global_time_never_parts_one_timestamp() -> None:
    time = np.array([1.0, 2, 3, 4, 5, 5, 5, 5, 5, 9])
    split = splitting.global_time(time, validation=0.2, test=0.1)
    assert split.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


def test_global_time_without_a_test_share() -> None:
    assert splitting.global_time(np.arange(10.0), 0.1, 0.0).tolist() == [0] * 9 + [1]


def test_compact_keeps_order_and_chosen_codes() -> None:
    codes, kept = splitting.compact(np.array([7, 2]), 9, first=np.arange(3))
    assert kept.tolist() == [0, 1, 2, 7]
    assert codes.tolist() == [3, 2]


def test_baskets_are_in_the_order_of_their_last_events() -> None:
    user = np.array([0, 0, 0, 0, 1, 1])
    when = np.array([1.0, 2, 3, 4, 0, 0])
    # session 7 begins first and ends last; -1 stands for itself
    basket, ends = splitting.baskets(user, when, np.array([7, 3, -1, 7, 3, -1]))
    assert basket.tolist() == [2, 0, 1, 2, 4, 3]
    assert ends.tolist() == [4, 2, 3, 4, 0, 0]
    none = np.empty(0, int)
    assert splitting.baskets(none, none.astype(float), none)[0].tolist() == []


def test_whole_baskets_are_held_out_of_users_with_three() -> None:
    user = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    basket = np.array([0, 0, 1, 2, 2, 3, 4, 4])
    assert splitting.leave_out_baskets(user, basket).tolist() == [0, 0, 1, 2, 2, 0, 0, 0]
