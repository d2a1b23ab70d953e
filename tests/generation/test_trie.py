"""The trie holds exactly the catalogue's IDs, whatever they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmrec.errors import ArtifactError, CatalogError
from llmrec.generation import trie_levels
from llmrec.generation.trie import ItemTrie

# How a level is stored: tables wherever they can be, nowhere, or as it comes.
STORED = {"dense": (2**40, 0.0), "compressed": (0, 0.0), "mixed": (2**22, 0.25)}


@st.composite
def catalogues(draw: st.DrawFn) -> np.ndarray:
    """Different IDs int32 [items, levels]; some too long for 63 bits, some end early."""
    levels = draw(st.integers(1, 5))
    largest = draw(st.sampled_from([1, 3, 9, 2**16 - 1]))
    row = st.tuples(*[st.integers(0, largest) | st.integers(0, 1)] * levels)
    rows = draw(st.lists(row, min_size=1, max_size=40, unique=True))
    if draw(st.booleans()):
        return np.array(rows, dtype=np.int32)
    kept: dict[tuple[int, ...], None] = {}
    for full in rows:
        cut = full[: draw(st.integers(1, levels))]
        if not any(cut[: len(other)] == other[: len(cut)] for other in kept):
            kept[cut] = None
    return np.array([cut + (-1,) * (levels - len(cut)) for cut in kept], dtype=np.int32)


def make_trie(codes: np.ndarray, stored: str, items: np.ndarray | None = None) -> ItemTrie:
    entries, fill = STORED[stored]
    # A table of 2**16 codes for each of 40 parents is what the test shall not wait for.
    if stored == "dense" and codes.max() > 100:
        entries = 2**16
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trie_levels, "DENSE_ENTRIES", entries)
        patch.setattr(trie_levels, "DENSE_FILL", fill)
        return ItemTrie(codes, items)


def walk(trie: ItemTrie) -> dict[tuple[int, ...], int]:
    """Every path from the root to a leaf, and its item."""
    paths: dict[int, tuple[int, ...]] = {0: ()}
    for depth, level in enumerate(trie.levels):
        children = trie.children(depth, torch.tensor(list(paths)))
        assert int(children.exists.sum()) == len(level), "a node without a parent"
        assert bool((children.exists.sum(1) > 0).all()), "a prefix that leads nowhere"
        codes = children.codes
        if codes is None:
            codes = torch.arange(children.nodes.shape[1]).expand_as(children.nodes)
        assert torch.equal(
            level.codes[children.nodes].long()[children.exists], codes[children.exists]
        )
        paths = {
            int(node): (*path, int(code))
            for path, nodes, row, there in zip(
                paths.values(), children.nodes, codes, children.exists, strict=True
            )
            for node, code in zip(nodes[there], row[there], strict=True)
        }
    return {path: int(trie.items[leaf]) for leaf, path in paths.items()}


def same(one: ItemTrie, other: ItemTrie) -> bool:
    ours, theirs = one._arrays(), other._arrays()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("stored", STORED)
@given(codes=catalogues(), data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_its_paths_are_the_items(stored: str, codes: np.ndarray, data: st.DataObject) -> None:
    trie = make_trie(codes, stored)
    assert walk(trie) == {tuple(row): item for item, row in enumerate(codes.tolist())}
    assert torch.equal(trie.items[trie.leaf_of_item.long()].long(), torch.arange(len(codes)))
    some = st.lists(st.integers(0, len(codes) - 1), min_size=1, unique=True)
    kept = np.array(data.draw(some))
    part = make_trie(codes[kept], stored, kept)
    assert walk(part) == {tuple(codes[item].tolist()): int(item) for item in kept}
    gone = np.setdiff1d(np.arange(len(part.leaf_of_item)), kept)
    assert (part.leaf_of_item[gone] == -1).all()


@pytest.mark.parametrize("stored", STORED)
@given(codes=catalogues())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_leaves_and_their_places_agree_with_the_ids(stored: str, codes: np.ndarray) -> None:
    trie = make_trie(codes, stored)
    ordered = codes[trie.items.numpy()]  # in the order of the leaves
    every_leaf = torch.arange(len(trie) + 1)
    for depth in range(len(trie.levels)):
        node, parent, place = trie.locate(depth, every_leaf)
        first, end = trie.leaves(depth, node)
        children = trie.children(depth, parent)
        rows = torch.arange(len(trie) + 1)
        assert torch.equal(children.nodes[rows, place], node)
        assert bool(children.exists[rows, place].all())
        for leaf in range(len(trie)):
            beneath = (ordered[:, : depth + 1] == ordered[leaf, : depth + 1]).all(1)
            assert range(int(first[leaf]), int(end[leaf])) == range(
                beneath.argmax(), len(ordered) - beneath[::-1].argmax()
            )
            assert beneath.sum() == end[leaf] - first[leaf], "an ID out of order"


def test_levels_are_stored_as_fits_them() -> None:
    every = np.stack(np.unravel_index(np.arange(64), (8, 8)), axis=1)
    full = ItemTrie(every)
    assert all(level.table is not None for level in full.levels)
    sparse = ItemTrie(every * 100)
    assert all(level.table is None for level in sparse.levels)
    assert [level.codes.dtype for level in ItemTrie(every * 9000).levels] == [torch.int32] * 2
    assert [level.codes.dtype for level in full.levels] == [torch.int16] * 2
    assert full.levels[-1].first_leaf is None, "where nodes are leaves nothing is stored"


@pytest.mark.parametrize("stored", STORED)
def test_a_node_that_does_not_exist_has_no_children(stored: str) -> None:
    trie = make_trie(np.array([[0, 0], [1, 1]]), stored)
    exists = trie.children(1, torch.tensor([[-1, 1]])).exists
    assert exists.sum(-1).tolist() == [[0, 1]]


@pytest.mark.parametrize("stored", STORED)
@given(codes=catalogues())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_saved_trie_is_the_same_when_mapped(
    tmp_path_factory: pytest.TempPathFactory, stored: str, codes: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("trie") / "trie.safetensors"
    names = np.arange(len(codes)) * 2
    trie = make_trie(codes, stored, names)
    trie.save(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name], "something left beside it"
    mapped = ItemTrie.load(path)
    assert same(mapped, trie)
    assert [level.widest for level in mapped.levels] == [level.widest for level in trie.levels]
    assert walk(mapped) == walk(trie)
    assert mapped.nbytes == trie.nbytes


def test_saving_replaces_and_leaves_the_mapped_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "trie"
    old, new = ItemTrie(np.array([[1, 2], [3, 4]])), ItemTrie(np.array([[5, 6]]))
    old.save(path)
    mapped = ItemTrie.load(path)
    new.save(path)
    assert walk(mapped) == walk(old)
    assert walk(ItemTrie.load(path)) == walk(new)


def test_a_file_that_is_no_trie_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trie.safetensors"
    with pytest.raises(ArtifactError, match=r"trie\.safetensors: the item trie cannot be read"):
        ItemTrie.load(path)
    ItemTrie(np.array([[1, 2], [3, 4]])).save(path)
    arrays = load_file(path)
    for cut in (0, 5, path.stat().st_size - 3):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:cut])
        with pytest.raises(ArtifactError, match="the item trie cannot be read"):
            ItemTrie.load(tmp_path / "cut")
    save_file(arrays, tmp_path / "other")
    with pytest.raises(ArtifactError, match="holds no item trie"):
        ItemTrie.load(tmp_path / "other")
    ours = {"format": "llmrec-item-trie", "schema_version": "1"}
    save_file(arrays, tmp_path / "newer", ours | {"schema_version": "2"})
    with pytest.raises(ArtifactError, match="written by a newer llmrec; upgrade llmrec"):
        ItemTrie.load(tmp_path / "newer")
    del arrays["1.first_child"]
    save_file(arrays, tmp_path / "part", ours)
    with pytest.raises(ArtifactError, match=r"cannot be read .*1\.first_child"):
        ItemTrie.load(tmp_path / "part")


def test_an_empty_catalogue_is_an_error() -> None:
    with pytest.raises(CatalogError, match="the catalogue is empty"):
        ItemTrie(np.zeros((0, 3), np.int32))


@pytest.mark.parametrize("large", [1, 2**30])  # packed keys, and column by column
@pytest.mark.parametrize("last", [5, -1])
def test_items_that_share_an_id_are_an_error(large: int, last: int) -> None:
    with pytest.raises(CatalogError, match="two items share an item ID"):
        ItemTrie(np.array([[1, large, last], [2, large, last], [1, large, last]], np.int32))


@pytest.mark.parametrize("large", [2, 2**30])
def test_an_id_that_begins_another_is_an_error(large: int) -> None:
    for longer in ([1, large, -1], [1, large, 7]):
        with pytest.raises(CatalogError, match="the beginning of another"):
            ItemTrie(np.array([[0, large, 3], longer, [1, -1, -1]], np.int32))


@pytest.mark.parametrize("row", [[-1, -1], [-1, 2], [1, -2]])
def test_what_is_no_id_is_an_error(row: list[int]) -> None:
    with pytest.raises(CatalogError, match="not a row of codes"):
        ItemTrie(np.array([[1, 2], row], np.int32))


def test_the_largest_code_there_can_be_is_sorted_like_any_other() -> None:
    codes = np.array([[2**31 - 1, 3], [0, 2**31 - 1], [5, 1]], np.int32)
    assert walk(ItemTrie(codes)) == {tuple(row): item for item, row in enumerate(codes.tolist())}


@settings(max_examples=60, deadline=None)
@given(catalogues(), st.sampled_from(list(STORED)))
def test_a_node_is_found_by_its_codes(codes: np.ndarray, stored: str) -> None:
    """What is found has beneath it exactly the items whose IDs begin so."""
    trie = make_trie(codes, stored)
    assert trie.find(torch.zeros(3, 0, dtype=torch.int64)).tolist() == [0, 0, 0]
    for depth in range(1, codes.shape[1] + 1):
        prefixes = codes[:, :depth].astype(np.int64)
        nodes = trie.find(torch.from_numpy(prefixes))
        first, end = trie.leaves(depth - 1, nodes)
        for row, start, stop in zip(prefixes, first.tolist(), end.tolist(), strict=True):
            beneath = set(trie.items[start:stop].tolist())
            assert beneath == set(np.flatnonzero((codes[:, :depth] == row).all(1)).tolist())


def test_codes_that_begin_no_item_lead_nowhere() -> None:
    codes = np.array([[0, 1], [0, 2], [3, 1]])
    for stored in STORED:
        trie = make_trie(codes, stored)
        prefixes = torch.tensor([[[3, 1], [3, 2]], [[1, 1], [9, 0]]])
        found = trie.find(prefixes)
        assert (found >= 0).tolist() == [[True, False], [False, False]]
        assert trie.items[found[0, 0]] == 2
