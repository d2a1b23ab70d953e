"""Which events stay, in which order, and which are held out: plain functions over arrays.

Events are given by int32 ``user`` and ``item``, float64 ``time`` (NaN: unknown) and so on, all
``[n]``. Functions that speak of neighbours expect them sorted by user, then time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmrec.data.dataset import HISTORY_ONLY, SPLIT_CODES
from llmrec.errors import DataError

TRAIN, VALIDATION, TEST = (SPLIT_CODES[name] for name in ("train", "validation", "test"))
_NAMES = {  # of splits, as published data sets have them
    **dict.fromkeys(("train", "training", "base"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
HISTORY, UNKNOWN = "history", -3  # the name of what is in no split; no code
_FEWEST_PAIRS = 20  # that say whether names are sorted


def time_order(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Indices that sort by user, then time; equal ones keep their order.

    >>> time_order(np.array([1, 0, 1]), np.array([5.0, 9.0, 3.0]))
    array([1, 2, 0])
    """
    return np.lexsort((time, user))


def ties(user: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Events that share user and time with a neighbour.

    Returns:
        bool ``[n]``: shares with the event before it; bool ``[n]``: shares with any.
    """
    with_previous = np.zeros(len(user), dtype=bool)
    with_previous[1:] = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    with_any = with_previous.copy()
    with_any[:-1] |= with_previous[1:]
    return with_previous, with_any


def shuffle_ties(user: np.ndarray, time: np.ndarray, seed: int) -> np.ndarray:
    """Indices that shuffle events among those of the same user and time.

    A file's own order within one timestamp often gives away what came last (sorted by item, or the
    way a page listed it), which leaks the test event; a seeded shuffle does not.
    """
    with_previous, with_any = ties(user, time)
    tied = np.flatnonzero(with_any)
    group = np.cumsum(~with_previous[tied])
    order = np.arange(len(user))
    order[tied] = tied[np.lexsort((np.random.default_rng(seed).random(len(tied)), group))]
    return order


def ascending_share(user: np.ndarray, rank: np.ndarray, at: np.ndarray) -> float | None:
    """Of events and the one before of the same user, the share whose item comes later by its name.

    It is 1 or 0 where items were sorted by name, and half where they stand in no such order.

    Args:
        rank: ``[n]``, place of each event's item in the order of names.
        at: bool ``[n]``, the events to look at, each beside the one before it.

    Returns:
        None where there are too few to say.

    >>> ascending_share(np.zeros(30, int), np.arange(30), np.ones(30, bool))
    1.0
    """
    at = np.flatnonzero(at[1:] & (user[1:] == user[:-1]) & (rank[1:] != rank[:-1])) + 1
    return float((rank[at] > rank[at - 1]).mean()) if len(at) >= _FEWEST_PAIRS else None


def name_ranks(names: Sequence[str]) -> np.ndarray:
    """int64 ``[items]``, place of each name in their order: as numbers, if all are numbers.

    Items without a name get -1.

    >>> name_ranks(["9", "10", ""]).tolist(), name_ranks(["b9", "b10"]).tolist()
    ([0, 1, -1], [1, 0])
    """
    array = np.array(names, dtype=str)
    named = np.flatnonzero(array != "")
    keys = array[named]
    if all(map(str.isdecimal, keys.tolist())):
        keys = keys.astype(np.float64)
    ranks = np.full(len(array), -1, dtype=np.int64)
    ranks[named[np.argsort(keys, kind="stable")]] = np.arange(len(named))
    return ranks


def exact_duplicates(
    user: np.ndarray, item: np.ndarray, kind: np.ndarray, time: np.ndarray, rating: np.ndarray
) -> np.ndarray:
    """bool ``[n]``: events equal to an earlier one in user, item, type, time and rating."""
    with_previous, with_any = ties(user, time)
    tied = np.flatnonzero(with_any)
    group = np.cumsum(~with_previous[tied])
    keys = [np.nan_to_num(rating[tied], nan=-np.inf, neginf=-np.inf), kind[tied], item[tied], group]
    order = np.lexsort(keys)
    equal = np.ones(max(len(tied) - 1, 0), dtype=bool)
    for key in keys:
        equal &= key[order][1:] == key[order][:-1]
    duplicate = np.zeros(len(user), dtype=bool)
    duplicate[tied[order[1:][equal]]] = True
    return duplicate


def first_per_item(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """bool ``[n]``: the earliest event of each user with each item.

    >>> first_per_item(np.array([0, 0, 0, 1]), np.array([7, 8, 7, 7]))
    array([ True,  True, False,  True])
    """
    key = user.astype(np.int64) * (int(item.max(initial=0)) + 1) + item
    _, first = np.unique(key, return_index=True)
    keep = np.zeros(len(user), dtype=bool)
    keep[first] = True
    return keep


def k_core(user: np.ndarray, item: np.ndarray, k: int) -> np.ndarray:
    """bool ``[n]``: the largest set of events in which every user and item has at least ``k``.

    >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0]), 2)
    array([ True,  True,  True,  True, False])
    """
    keep = np.ones(len(user), dtype=bool)
    while True:
        of_user = np.bincount(user[keep], minlength=int(user.max(initial=-1)) + 1)
        of_item = np.bincount(item[keep], minlength=int(item.max(initial=-1)) + 1)
        smaller = keep & (of_user[user] >= k) & (of_item[item] >= k)
        if smaller.sum() == keep.sum():
            return keep
        keep = smaller


def leave_out(user: np.ndarray, k: int = 1) -> np.ndarray:
    """int8 ``[n]``: a user's last ``k`` events are test, the ``k`` before them validation.

    Users with fewer than ``2 k + 1`` events stay in training.

    >>> leave_out(np.array([0, 0, 0, 0, 1, 1])), leave_out(np.array([0, 0, 0, 0, 0, 0]), 2)
    (array([0, 0, 1, 2, 0, 0], dtype=int8), array([0, 0, 1, 1, 2, 2], dtype=int8))
    """
    counts = np.bincount(user)
    from_end = np.cumsum(counts)[user] - np.arange(len(user))  # 1 is the last
    split = np.full(len(user), TRAIN, dtype=np.int8)
    split[from_end <= 2 * k] = VALIDATION
    split[from_end <= k] = TEST
    split[counts[user] < 2 * k + 1] = TRAIN
    return split


def baskets(
    user: np.ndarray, when: np.ndarray, session: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Events of a user that are one basket: of one session, or else of one time.

    Args:
        when: float64 ``[n]``, time or place of each event.
        session: int32 ``[n]``, -1 for an event that names none.

    Returns:
        int32 ``[n]``, the basket of each event, by user, then time of its last event, then
        session; and that time.

    >>> user, when = np.array([0, 0, 0, 1]), np.array([1.0, 1.0, 2.0, 2.0])
    >>> baskets(user, when, np.array([-1, -1, -1, -1]))
    (array([0, 0, 1, 2], dtype=int32), array([1., 1., 2., 2.]))
    >>> baskets(user, when, np.array([5, 4, 5, 5]))
    (array([1, 0, 1, 2], dtype=int32), array([2., 1., 2., 2.]))
    """
    keys = (np.where(session < 0, when, 0.0), session, user)
    order = np.lexsort(keys)
    new = np.ones(len(user), dtype=bool)
    new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    starts, group = np.flatnonzero(new), np.cumsum(new) - 1
    last = np.maximum.reduceat(when[order], starts)
    place = np.empty(len(starts), dtype=np.int32)
    place[np.lexsort((last, user[order][starts]))] = np.arange(len(starts), dtype=np.int32)
    basket, ends = np.empty(len(user), np.int32), np.empty(len(user))
    basket[order], ends[order] = place[group], last[group]
    return basket, ends


def leave_out_baskets(user: np.ndarray, basket: np.ndarray) -> np.ndarray:
    """int8 ``[n]``: a user's last basket is test, the one before validation.

    Users with fewer than three baskets stay in training.

    Args:
        basket: int32 ``[n]``, rising from 0 without gaps.

    >>> leave_out_baskets(np.zeros(6, int), np.array([0, 0, 1, 1, 2, 2]))
    array([0, 0, 1, 1, 2, 2], dtype=int8)
    """
    first = np.flatnonzero(np.diff(basket, prepend=-1))
    return leave_out(user[first])[basket]


def at_random(n: int, validation: float, test: float, seed: int) -> np.ndarray:
    """int8 ``[n]``: each event is test or validation with these probabilities."""
    draw = np.random.default_rng(seed).random(n)
    split = np.full(n, TRAIN, dtype=np.int8)
    split[draw < validation + test] = VALIDATION
    split[draw < test] = TEST
    return split


def code_of(name: str) -> int:
    """The code of a split by a name of it, or of ``history``, which is of none; or UNKNOWN.

    >>> code_of("Valid"), code_of("history"), code_of("fold 3") == UNKNOWN
    (1, -1, True)
    """
    name = name.strip().lower()
    return HISTORY_ONLY if name == HISTORY else _NAMES.get(name, UNKNOWN)


def code_of_file(path: Path) -> int:
    """The code of the split that a file's name says, such as ``ml-100k.valid.inter``.

    Raises:
        DataError: if it says none, or several.
    """
    words = re.split("[^a-z]+", path.name.lower())
    found = {_NAMES[word] for word in words if word in _NAMES}
    if len(found) != 1:
        raise DataError(
            f"{path}: its name says none of train, validation and test; name it so, or give the "
            "column that says it: event_columns: {split: ...}"
        )
    return found.pop()


def global_time(time: np.ndarray, validation: float, test: float) -> np.ndarray:
    """int8 ``[n]``: the latest share of all events is test, the share before it validation.

    Events of one timestamp never part, so a share can come out larger than asked for.

    >>> global_time(np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 0.2, 0.2)
    array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2], dtype=int8)
    """
    ordered = np.sort(time)
    split = np.full(len(time), TRAIN, dtype=np.int8)
    for share, code in ((validation + test, VALIDATION), (test, TEST)):
        position = round(len(time) * (1 - share))
        if position < len(time):
            split[time >= ordered[position]] = code
    return split


def compact(
    codes: np.ndarray, size: int, first: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Renumber without gaps: ``first`` as they are given, then the others that occur, ascending.

    Args:
        codes: ``[n]``, each below ``size``.
        first: codes that are kept though they may not occur.

    Returns:
        the new codes ``[n]`` int32, and the old code of every new one.

    >>> compact(np.array([4, 1, 4]), 6)
    (array([1, 0, 1], dtype=int32), array([1, 4]))
    >>> compact(np.array([4, 1, 4]), 6, first=np.array([5, 4]))
    (array([1, 2, 1], dtype=int32), array([5, 4, 1]))
    """
    first = np.empty(0, np.int64) if first is None else first
    occurs = np.zeros(size, dtype=bool)
    occurs[codes] = True
    occurs[first] = False
    kept = np.concatenate([first, np.flatnonzero(occurs)])
    new = np.empty(size, dtype=np.int32)
    new[kept] = np.arange(len(kept), dtype=np.int32)
    return new[codes], kept
