"""The item graph: weights by hand, exact under appended, removed and replaced events, saved."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from llmrec.data.item_graph import UNIT, ItemGraph, ItemGraphConfig
from llmrec.errors import ArtifactError, CatalogError, ConfigError, DataError
from llmrec.types import Histories

CONFIG = ItemGraphConfig(window=2, step_decay=0.5, backward=0.25)
N = 6


def dense(graph: ItemGraph) -> np.ndarray:
    return graph.matrix().toarray() / UNIT


def random_histories(seed: int, users: int = 20) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, N, rng.integers(0, 9)).tolist() for _ in range(users)]


def assert_same(graph: ItemGraph, histories: list[list[int]]) -> None:
    fresh = ItemGraph.fit(Histories.from_lists(histories), N, graph.config)
    assert (graph.matrix() != fresh.matrix()).nnz == 0
    np.testing.assert_array_equal(graph.out_weight, fresh.out_weight)
    np.testing.assert_array_equal(graph.in_weight, fresh.in_weight)
    np.testing.assert_array_equal(graph.matrix().indices, fresh.matrix().indices)


def test_weights_derived_by_hand() -> None:
    # 0 -> 1 -> 2 -> 1: one step 0-1, 1-2, 2-1; two steps 0-2, and 1-1, which is no edge
    found = dense(ItemGraph.fit(Histories.from_lists([[0, 1, 2, 1]]), N, CONFIG))
    expected = np.zeros((N, N))
    expected[0, 1], expected[1, 0] = 1, 0.25
    expected[1, 2], expected[2, 1] = 1 + 0.25, 1 + 0.25
    expected[0, 2], expected[2, 0] = 0.5, 0.125
    np.testing.assert_allclose(found, expected)


def test_no_edge_leads_from_one_user_to_the_next() -> None:
    found = dense(ItemGraph.fit(Histories.from_lists([[0], [], [1, 2], [3]]), N, CONFIG))
    assert np.argwhere(found).tolist() == [[1, 2], [2, 1]]


def test_appended_event_by_event_it_is_the_graph_of_whole_histories() -> None:
    histories = random_histories(0)
    graph = ItemGraph(N, CONFIG)
    for history in histories:
        for place, item in enumerate(history):
            graph.append(np.array(history[:place], dtype=int), item)
    assert_same(graph, histories)


def test_a_removed_event_leaves_no_trace() -> None:
    histories = random_histories(1)
    graph = ItemGraph.fit(Histories.from_lists(histories), N, CONFIG)
    rng = np.random.default_rng(2)
    for user, history in enumerate(histories):
        if history:
            gone = int(rng.integers(len(history)))
            histories[user] = history[:gone] + history[gone + 1 :]
            graph.replace(np.array(history), np.array(histories[user], dtype=int))
    assert_same(graph, histories)
    for history in histories:
        graph.replace(np.array(history, dtype=int), np.array([], dtype=int))
    assert graph.matrix().nnz == 0
    assert not graph.out_weight.any()
    assert not graph.in_weight.any()


def test_an_event_that_was_never_added_cannot_be_removed() -> None:
    graph = ItemGraph.fit(Histories.from_lists([[0, 1, 2]]), N, CONFIG)
    with pytest.raises(DataError, match="not in the item graph"):
        graph.replace(np.array([0, 1, 3]), np.array([], dtype=int))
    assert_same(graph, [[0, 1, 2]])


def test_a_step_counts_changes_that_are_not_merged_yet() -> None:
    graph = ItemGraph.fit(Histories.from_lists([[0, 1], [0, 2]]), N, CONFIG)
    graph.append(np.array([0]), 3)
    start = sparse.csr_matrix(np.eye(N)[[0, 3, 5]])
    found = graph.propagate(start).toarray()
    # item 0 leads to 1, 2 and 3 with weight 1 each; back from 3 to 0 with .25
    np.testing.assert_allclose(found[0], np.array([0, 1, 1, 1, 0, 0]) / np.sqrt(3))
    np.testing.assert_allclose(found[1], np.array([0.25, 0, 0, 0, 0, 0]) / np.sqrt(0.25))
    assert not found[2].any()
    np.testing.assert_allclose(graph.dense_step(start), found)
    graph.matrix()  # merges
    np.testing.assert_allclose(graph.propagate(start).toarray(), found)
    np.testing.assert_allclose(graph.dense_step(start), found)


def test_a_step_is_the_same_in_any_batch() -> None:
    items, rng = 40, np.random.default_rng(3)
    histories = Histories.from_lists(rng.integers(0, items, (60, 9)).tolist())
    graph = ItemGraph.fit(histories, items, CONFIG)
    graph.append(np.array([3, 4]), 5)
    few, many = (rng.random((4, items)) * (rng.random((4, items)) < share) for share in (0.1, 0.9))
    start = sparse.csr_matrix(np.concatenate([few, many]))
    start = start @ sparse.eye(items, format="csr")
    assert not start.has_sorted_indices
    alone = np.concatenate([graph.dense_step(start[row]) for row in range(8)])
    np.testing.assert_array_equal(graph.dense_step(start), alone)


def test_new_items_get_room_and_edges() -> None:
    graph = ItemGraph.fit(Histories.from_lists([[0, 1]]), 2, CONFIG)
    before, graph = graph, graph.grown(3)
    graph.append(np.array([0, 1]), 2)
    assert_same_as = ItemGraph.fit(Histories.from_lists([[0, 1, 2]]), 3, CONFIG)
    assert (graph.matrix() != assert_same_as.matrix()).nnz == 0
    with pytest.raises(CatalogError, match="not as few as 2"):
        graph.grown(2)
    assert before.n_items == 2 and before.matrix().nnz == 2, "it stays as it was"


@pytest.mark.parametrize("items", [[0, N], [-1]])
def test_items_outside_the_catalogue_are_refused(items: list[int]) -> None:
    with pytest.raises(CatalogError, match=f"not among the {N}"):
        ItemGraph.fit(Histories.from_lists([items]), N)
    graph = ItemGraph(N)
    with pytest.raises(CatalogError):
        graph.append(np.array(items[:-1], dtype=int), items[-1])
    assert graph.matrix().nnz == 0


def test_a_catalogue_of_one_item_has_no_edge() -> None:
    assert ItemGraph.fit(Histories.from_lists([[0, 0, 0]]), 1).matrix().nnz == 0
    with pytest.raises(CatalogError, match="empty"):
        ItemGraph(0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"window": 0}, "window"),
        ({"step_decay": 1.5}, "step_decay"),
        ({"backward": -1}, "backward"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=f"graph.{named}"):
        ItemGraphConfig(**settings)  # type: ignore[arg-type]


def test_saved_and_loaded_it_goes_on_where_it_was(tmp_path) -> None:
    histories = random_histories(3)
    graph = ItemGraph.fit(Histories.from_lists(histories), N, CONFIG)
    graph.append(np.array(histories[0], dtype=int), 4)
    histories[0].append(4)
    loaded = ItemGraph.load(graph.save(tmp_path / "graph"), N)
    assert loaded.config == CONFIG
    loaded.append(np.array(histories[0]), 5)
    histories[0].append(5)
    assert_same(loaded, histories)


def test_a_graph_of_another_catalogue_or_a_damaged_one_is_refused(tmp_path) -> None:
    folder = ItemGraph.fit(Histories.from_lists([[0, 1]]), N, CONFIG).save(tmp_path / "graph")
    with pytest.raises(ArtifactError, match=f"of {N} items, the catalogue has 7"):
        ItemGraph.load(folder, 7)
    whole = (folder / "edges.npz").read_bytes()
    (folder / "edges.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="run llmrec hybrid again"):
        ItemGraph.load(folder, N)
    (folder / "edges.npz").write_bytes(whole)
    header = json.loads((folder / "graph.json").read_text())
    (folder / "graph.json").write_text(json.dumps(header | {"config": {"window": "x"}}))
    with pytest.raises((ArtifactError, ConfigError), match="window"):
        ItemGraph.load(folder, N)


def test_graphs_are_added_and_taken_away() -> None:
    first, second = [[0, 1, 2], [3, 1]], [[2, 0], [3, 1, 2]]
    both = ItemGraph.fit(Histories.from_lists(first + second), 4)
    graph = ItemGraph.fit(Histories.from_lists(first), 4)
    other = ItemGraph.fit(Histories.from_lists(second), 4)
    graph.merge(other)
    assert (graph.matrix() != both.matrix()).nnz == 0
    assert graph.out_weight.tolist() == both.out_weight.tolist()
    assert graph.in_weight.tolist() == both.in_weight.tolist()
    graph.merge(other, -1)
    assert (graph.matrix() != ItemGraph.fit(Histories.from_lists(first), 4).matrix()).nnz == 0
    with pytest.raises(DataError, match="not in the item graph"):
        graph.merge(both, -1)
    with pytest.raises(CatalogError, match="4 and 5 items"):
        graph.merge(ItemGraph(5))
