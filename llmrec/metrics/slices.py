"""Which cases belong together: by popularity, history, time, and where names stand in order.

Where a log knows the day alone, files often hold the events of a day in the order of the items'
names. What came last is then the highest name of its day, and a model that learns the alphabet
gains by it. The slice ``name_order`` shows how much: cases whose target's name lies above that of
the last item of the history, and those whose target's lies below.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llmrec.types import Cases

Facts = Mapping[str, np.ndarray]  # what is known of every target, by name

DAY = 86_400.0
NAME_ORDER = "name_order"
DIRECTIONS = {"upwards": 1, "downwards": -1}
# The fact behind a slice, and lower bounds; a bucket ends where the next one starts.
BUCKETED = {
    "item_popularity": ("target_train_count", (0, 1, 5, 10, 20, 50)),
    "basket_size": ("basket_size", (1, 2, 5, 10, 20, 50)),
    "history_length": ("history_length", (0, 1, 5, 10, 20, 50)),
    "days_since_last_event": ("days_since_last_event", (0, 1, 7, 30, 90, 365)),
}


def case_facts(
    cases: Cases, train_counts: np.ndarray, name_ranks: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What slices are made of.

    Args:
        train_counts: int ``[items]``, events of each item in training.
        name_ranks: int ``[items]``, place of each item in the order of names, -1 for one without a
            name; None where the order is not asked about.

    Returns:
        int64 ``[targets]`` each: ``history_length``, ``target_train_count``; where events have
        times ``days_since_last_event``, -1 for unknown; of baskets ``basket_size``; of single
        targets, with ``name_ranks``, ``name_order``, 1 where the target's name lies above that of
        the last item of the history, -1 where below, 0 where it is the same or one is missing.

    >>> from llmrec.types import Histories
    >>> histories = Histories.from_lists([[0, 1], [2]], [[0.0, 86400.0], [0.0]], [2e5, 1e3])
    >>> cases = Cases(np.array([0, 1]), histories, np.array([2, 0]))
    >>> facts = case_facts(cases, np.array([1, 2, 3]), name_ranks=np.array([0, 1, 2]))
    >>> facts["days_since_last_event"].tolist(), facts["name_order"].tolist()
    ([1, 0], [1, -1])
    """
    histories = cases.histories
    lengths = histories.lengths().astype(np.int64)
    known = np.flatnonzero(lengths)
    last = histories.offsets[1:][known] - 1
    facts = {
        "target_train_count": train_counts[cases.targets].astype(np.int64),
        "history_length": lengths,
    }
    if histories.timestamps is not None and histories.now is not None:
        days = np.full(len(cases), -1, dtype=np.int64)
        gaps = (histories.now[known] - histories.timestamps[last]) / DAY
        days[known] = np.nan_to_num(np.floor(gaps), nan=-1)
        facts["days_since_last_event"] = days
    if cases.basket is not None:  # where nothing comes last, so that names are in no order
        facts["basket_size"] = np.bincount(cases.basket)[cases.basket]
    elif name_ranks is not None:
        order = np.zeros(len(cases), dtype=np.int64)
        before, after = name_ranks[histories.items[last]], name_ranks[cases.targets[known]]
        order[known] = np.where((before < 0) | (after < 0), 0, np.sign(after - before))
        facts[NAME_ORDER] = order
    return facts


def slice_rows(
    facts: Facts, basket: np.ndarray | None = None
) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Slice name to its non-empty buckets, each with the rows of its cases.

    Cases of which a fact is not known are in none of its buckets.

    Args:
        basket: int64 ``[targets]``, the case of each target; None: one target a case.
    """
    if basket is not None:  # its targets differ in popularity alone
        first = np.unique(basket, return_index=True)[1]
        facts = {name: facts[name][first] for name in facts if name != "target_train_count"}
    sliced = {
        name: buckets(facts[fact], starts)
        for name, (fact, starts) in BUCKETED.items()
        if fact in facts
    }
    if NAME_ORDER in facts:
        rows = {label: np.flatnonzero(facts[NAME_ORDER] == d) for label, d in DIRECTIONS.items()}
        sliced[NAME_ORDER] = [(label, found) for label, found in rows.items() if len(found)]
    return {name: found for name, found in sliced.items() if found}


def upwards_share(facts: Facts) -> float | None:
    """Of the cases whose target's name is another than the last item's, the share that go upwards.

    It is one half where names say nothing; None where the order was not asked about.

    >>> upwards_share({"name_order": np.array([1, 1, -1, 0, 1])})
    0.75
    """
    moved = facts.get(NAME_ORDER, np.zeros(0))
    moved = moved[moved != 0]
    return float((moved > 0).mean()) if len(moved) else None


def buckets(amounts: np.ndarray, starts: tuple[int, ...]) -> list[tuple[str, np.ndarray]]:
    """Rows of every non-empty bucket.

    Args:
        amounts: int ``[cases]``; one below ``starts[0]`` is in no bucket.
        starts: lower bounds, rising.

    >>> [(name, rows.tolist()) for name, rows in buckets(np.array([0, 3, 9, -1]), (0, 1, 5))]
    [('0', [0]), ('1-4', [1]), ('5+', [2])]
    """
    found = []
    place = np.searchsorted(starts, amounts, side="right") - 1
    for i, start in enumerate(starts):
        rows = np.flatnonzero(place == i)
        if not len(rows):
            continue
        if i + 1 == len(starts):
            label = f"{start}+"
        else:
            label = str(start) if starts[i + 1] == start + 1 else f"{start}-{starts[i + 1] - 1}"
        found.append((label, rows))
    return found
