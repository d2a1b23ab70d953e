"""The trie holds exactly the catalogue's IDs, whatever they are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import CatalogError
from llmrec.generation.trie import ItemTrie


@st.composite
def catalogues(draw: st.DrawFn) -> np.ndarray:
    """Different codes int32 [items, levels]; some too long to be packed into 63 bits."""
    levels = draw(st.integers(1, 5))
    largest = draw(st.sampled_from([1, 3, 9, 2**16 - 1]))
    row = st.tuples(*[st.integers(0, largest) | st.integers(0, 1)] * levels)
    rows = draw(st.lists(row, min_size=1, max_size=40, unique=True))
    return np.array(rows, dtype=np.int32)


def walk(trie: ItemTrie) -> dict[tuple[int, ...], int]:
    """Every path from the root to a leaf, and its item."""
    paths: dict[int, tuple[int, ...]] = {0: ()}
    for depth, level in enumerate(trie.levels):
        nodes = torch.tensor(list(paths))
        child, exists = trie.children(depth, nodes)
        assert int(exists.sum()) == len(level.codes), "a node without a parent"
        assert bool((exists.sum(1) > 0).all()), "a prefix that leads nowhere"
        paths = {
            int(c): (*path, int(level.codes[c]))
            for path, row, there in zip(paths.values(), child, exists, strict=True)
            for c in row[there]
        }
    return {path: int(trie.items[leaf]) for leaf, path in paths.items()}


@given(catalogues())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_its_paths_are_the_items(codes: np.ndarray) -> None:
    expected = {tuple(row): item for item, row in enumerate(codes.tolist())}
    assert walk(ItemTrie(codes)) == expected


@given(catalogues(), st.data())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_something_is_left_unless_every_item_below_is_excluded(
    codes: np.ndarray, data: st.DataObject
) -> None:
    trie = ItemTrie(codes)
    some = st.lists(st.integers(0, len(codes) - 1), unique=True)
    rows = [data.draw(some), data.draw(some)]
    width = max(map(len, rows))
    padded = [row + [-1] * (width - len(row)) for row in rows]
    excluded = torch.tensor(padded, dtype=torch.int64)
    leaves = trie.leaves(excluded)
    for depth, level in enumerate(trie.levels):
        nodes = torch.arange(len(level.codes)).expand(2, 1, -1)
        found = trie.something_left(depth, nodes, leaves)
        firsts = trie.items[level.first_leaf[:-1].long()].numpy()
        prefixes = codes[firsts, : depth + 1]
        below = (codes[None, :, : depth + 1] == prefixes[:, None]).all(-1)  # [nodes, items]
        for user, row in enumerate(rows):
            left = np.setdiff1d(np.arange(len(codes)), row)
            np.testing.assert_array_equal(found[user, 0].numpy(), below[:, left].any(1))


def test_a_node_that_does_not_exist_has_no_children() -> None:
    _, exists = ItemTrie(np.array([[0, 0], [1, 1]])).children(1, torch.tensor([-1, 1]))
    assert exists.tolist() == [[False], [True]]


def test_an_empty_catalogue_is_an_error() -> None:
    with pytest.raises(CatalogError, match="the catalogue is empty"):
        ItemTrie(np.zeros((0, 3), np.int32))


@pytest.mark.parametrize("large", [1, 2**30])  # packed keys, and column by column
def test_items_that_share_an_id_are_an_error(large: int) -> None:
    with pytest.raises(CatalogError, match="two items share an item ID"):
        ItemTrie(np.array([[1, large, 5], [2, large, 5], [1, large, 5]], np.int32))


def test_ids_of_unequal_length_are_an_error() -> None:
    with pytest.raises(CatalogError, match="shorter than the others"):
        ItemTrie(np.array([[1, 2], [1, -1]], np.int32))
