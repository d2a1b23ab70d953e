"""Item IDs: one item an ID and one ID an item, whatever the vectors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import ArtifactError, CatalogError, ConfigError, DataError
from llmrec.item_ids.index import IndexConfig, build_ids
from llmrec.item_ids.item_ids import ItemIds
from llmrec.item_ids.rq_vae_settings import RqVaeConfig


def vectors_with_duplicates(n: int, distinct: int, seed: int, dim: int = 6) -> np.ndarray:
    """float32 [n, dim] with only ``distinct`` different rows."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(distinct, dim)).astype(np.float32)[rng.integers(0, distinct, n)]


def semantic(vectors: np.ndarray, seed: int = 0, **options: object) -> ItemIds:
    return build_ids(IndexConfig(kind="semantic", **options), len(vectors), vectors, seed)[0]


def assert_one_to_one(ids: ItemIds) -> None:
    everything = np.arange(ids.n_items)
    assert len(np.unique(ids.codes, axis=0)) == ids.n_items
    np.testing.assert_array_equal(ids.decode(ids.encode(everything)), everything)


catalogues = st.fixed_dictionaries(
    {
        "n": st.integers(1, 60),
        "distinct": st.integers(1, 8),
        "seed": st.integers(0, 1000),
        "codebook_size": st.integers(4, 6),
        "collisions": st.sampled_from(["last-level", "extra-level"]),
        "balanced": st.booleans(),
    }
)


@given(catalogues, st.integers(0, 12))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_ids_are_unique_stay_and_survive_saving(tmp_path_factory, catalogue, n_new) -> None:
    n, distinct, seed = (catalogue.pop(name) for name in ("n", "distinct", "seed"))
    vectors = vectors_with_duplicates(n + n_new, distinct, seed)
    ids = semantic(vectors[:n], seed, **catalogue)
    assert_one_to_one(ids)
    folder = tmp_path_factory.mktemp("ids")
    ids.save(folder)
    loaded = ItemIds.load(folder)
    np.testing.assert_array_equal(loaded.codes, ids.codes)
    np.testing.assert_array_equal(loaded.token_vectors, ids.token_vectors)
    assert loaded.token_strings() == ids.token_strings()
    if loaded.collisions == "last-level" and n + n_new > loaded.capacity:
        with pytest.raises(CatalogError, match="do not fit"):
            loaded.assign_new(vectors[n:])
        return
    if loaded.collisions == "extra-level":
        largest = np.unique(loaded.codes[:, :-1], axis=0, return_counts=True)[1].max()
        if largest + n_new > loaded.level_sizes[-1]:
            return  # may or may not fit; the error has a test of its own
    grown = loaded.assign_new(vectors[n:])
    assert_one_to_one(grown)
    np.testing.assert_array_equal(grown.codes[:n], ids.codes)
    np.testing.assert_array_equal(grown.codes, ids.assign_new(vectors[n:]).codes)


@given(st.integers(1, 30), st.integers(0, 10), st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_atomic_ids_use_spare_tokens_and_no_more(n_items, spare, data) -> None:
    ids = ItemIds.atomic(n_items, spare, np.ones((n_items, 3), np.float32))
    assert ids.n_tokens == n_items + spare and not ids.token_vectors[n_items:].any()
    assert ids.decode([[n_items], [-1]]).tolist() == [-1, -1]
    n_new = data.draw(st.integers(0, spare))
    grown = ids.assign_new(np.full((n_new, 3), 2, np.float32))
    assert_one_to_one(grown)
    assert grown.decode([n_items + n_new]) == -1
    assert (grown.token_vectors[n_items : n_items + n_new] == 2).all()
    assert not ids.token_vectors[n_items:].any()  # the smaller set is untouched
    with pytest.raises(CatalogError, match="spare item tokens are left"):
        ids.assign_new(np.ones((spare + 1, 3), np.float32))


@pytest.mark.parametrize("method", ["rq-kmeans", "rq-vae"])
def test_the_seed_decides_everything(method: str) -> None:
    vectors = vectors_with_duplicates(80, 50, 0)
    options = {"method": method, "codebook_size": 8, "rq_vae": RqVaeConfig((16,), 4, 60)}
    first, second, other = (semantic(vectors, seed, **options) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(first.token_vectors, second.token_vectors)
    assert (first.codes != other.codes).any()


def test_tokens_are_numbered_level_after_level() -> None:
    codes = np.array([[0, 1], [2, -1], [2, 0]], np.int32)
    ids = ItemIds("semantic", codes, (3, 2), np.zeros((5, 4), np.float32))
    assert [ids.token_offset(level) for level in (0, 1)] == [0, 3]
    assert ids.tokens(np.arange(3)).tolist() == [[0, 4], [2, -1], [2, 3]]
    assert ids.token_strings() == ["<a_0>", "<a_1>", "<a_2>", "<b_0>", "<b_1>"]
    assert ids.encode(1).tolist() == [2, -1]
    assert ids.decode([[2, -1], [2, 0]]).tolist() == [1, 2]
    assert ItemIds.atomic(2).token_strings() == ["<item_0>", "<item_1>"]


@pytest.mark.parametrize("codes", [[1, 1], [3, 0], [0, 2], [-2, 0], [0], [0, 1, 0], [2**40, 0]])
def test_codes_of_no_item_decode_to_nothing(codes: list[int]) -> None:
    ids = ItemIds("semantic", np.array([[0, 1], [2, 0]], np.int32), (3, 2), np.zeros((5, 0)))
    assert ids.decode(codes) == -1


def test_token_vectors_of_an_item_add_up_to_about_its_vector() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(300, 3)) @ rng.normal(size=(3, 8))).astype(np.float32)
    spread = np.square(vectors - vectors.mean(axis=0)).sum()
    for options in (
        {"collisions": "extra-level"},
        {"method": "rq-vae", "rq_vae": RqVaeConfig((32,), 8, 200, learning_rate=0.01)},
    ):
        ids = semantic(vectors, codebook_size=16, **options)
        rebuilt = ids.token_vectors[ids.tokens(np.arange(300))].sum(axis=1)
        assert np.square(vectors - rebuilt).sum() < 0.1 * spread


def test_two_items_with_one_id_are_refused() -> None:
    with pytest.raises(ArtifactError, match="items 0 and 2 have the same ID"):
        ItemIds("semantic", np.array([[1, 1], [0, 1], [1, 1]], np.int32), (2, 2), np.zeros((4, 0)))


def test_an_unknown_item_is_refused() -> None:
    with pytest.raises(CatalogError, match="item index 5"):
        ItemIds.atomic(3).encode(np.array([0, 5]))


def test_new_vectors_are_checked() -> None:
    vectors = vectors_with_duplicates(20, 20, 0)
    ids = semantic(vectors, codebook_size=4)
    with pytest.raises(DataError, match=r"expected \[n, 6\]"):
        ids.assign_new(np.zeros((2, 5)))
    vectors[3, 1] = np.nan
    with pytest.raises(DataError, match="item row 3"):
        ids.assign_new(vectors)


def test_full_ids_say_what_to_change() -> None:
    vectors = vectors_with_duplicates(64, 10, 0)
    ids = semantic(vectors, codebook_size=4)  # 4 ** 3 ids, all taken
    with pytest.raises(CatalogError, match="codebook_size"):
        ids.assign_new(vectors[:1])
    extra = semantic(vectors, codebook_size=4, collisions="extra-level")
    with pytest.raises(CatalogError, match="extra level"):
        extra.assign_new(np.repeat(vectors[:1], 200, axis=0))


def test_too_few_ids_name_the_setting() -> None:
    with pytest.raises(ConfigError, match="codebook_size: 3 codes on 2 levels"):
        semantic(vectors_with_duplicates(10, 10, 0), codebook_size=3, levels=2)


@pytest.mark.parametrize("name", ["item_ids.json", "item_ids.safetensors", "quantizer.safetensors"])
def test_a_damaged_folder_is_named(tmp_path, name: str) -> None:
    semantic(vectors_with_duplicates(20, 20, 0), codebook_size=4).save(tmp_path)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(ArtifactError, match="run llmrec index again"):
        ItemIds.load(tmp_path)


def test_names_say_which_item_has_which_id(tmp_path) -> None:
    ids = replace(ItemIds.atomic(3, spare=2), names=("a", "[b", "ü"))
    ids.save(tmp_path)
    assert ItemIds.load(tmp_path).names == ("a", "[b", "ü")
    grown = ids.assign_new(np.zeros((1, 0), np.float32), ["d"])
    assert grown.names == ("a", "[b", "ü", "d")
    assert ids.assign_new(np.zeros((1, 0), np.float32)).names == ()
    with pytest.raises(ArtifactError, match="5 names for 4 items"):
        ids.assign_new(np.zeros((1, 0), np.float32), ["d", "e"])
    ItemIds.atomic(2).save(tmp_path)
    assert ItemIds.load(tmp_path).names == ()
