"""The item graph after any changes is that of the events that are there."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.item_graph import ItemGraph, ItemGraphConfig
from llmrec.serving.live_graph import LiveGraph
from llmrec.types import Histories

N = 6
CONFIG = ItemGraphConfig(window=3)
ITEMS = st.lists(st.integers(0, N - 1), max_size=9)
BUNDLE = [[0, 1, 2], [3, 4]]


def fitted(histories: list[list[int]]) -> np.ndarray:
    return ItemGraph.fit(Histories.from_lists(histories), N, CONFIG).matrix().toarray()


@settings(deadline=None)
@given(
    st.lists(ITEMS, min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), ITEMS), max_size=8),
)
def test_any_changes(known: list[list[int]], changes: list[tuple[int, list[int]]]) -> None:
    graph = ItemGraph.fit(Histories.from_lists(BUNDLE), N, CONFIG)
    live = LiveGraph(graph)
    stored: list[list[int]] = [[], [], []]
    for user, items in changes:
        stored[user] = items
        live.count(f"user {user}", known[user], items)
    both = [k + s for k, s in zip(known, stored, strict=True)]
    expected = fitted(BUNDLE) + fitted(both) - fitted(known)
    assert (graph.matrix().toarray() == expected).all()
    assert (graph.out_weight == expected.sum(axis=1)).all()
    started = ItemGraph.fit(Histories.from_lists(BUNDLE), N, CONFIG)
    again = LiveGraph(started)
    again.count_all((f"user {user}", known[user], stored[user]) for user in range(3))
    assert (started.matrix().toarray() == expected).all()
    assert (started.out_weight == expected.sum(axis=1)).all()
    again.count("user 0", known[0], [])
    for user in range(3):
        live.count(f"user {user}", known[user], [])
    assert (graph.matrix().toarray() == fitted(BUNDLE)).all()
    without = fitted(both[1:]) - fitted(known[1:])
    assert (started.matrix().toarray() == fitted(BUNDLE) + without).all()


def test_someone_whose_known_history_is_forgotten_meanwhile() -> None:
    graph = ItemGraph.fit(Histories.from_lists(BUNDLE), N, CONFIG)
    live = LiveGraph(graph)
    live.count("anna", [0, 1], [2, 3])
    live.count("anna", [], [2, 3, 4])
    assert (graph.matrix().toarray() == fitted([*BUNDLE, [2, 3, 4]])).all()
