"""Collisions, on examples whose right answer can be seen, and on the real Beauty titles."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec.content.features.attributes import AttributeEncoder
from llmrec.item_ids.collisions import (
    count_collisions,
    resolve_extra_level,
    resolve_last_level,
    row_keys,
)
from llmrec.item_ids.index import IndexConfig, build_ids
from llmrec.item_ids.quantizer import ResidualQuantizer

# One dimension: prefixes at 0 and 100, last codes 0, 1, 2 above them.
LINE = ResidualQuantizer(
    (np.array([[0.0], [100.0]], np.float32), np.array([[0.0], [1.0], [2.0]], np.float32))
)


def resolve(points: list[float], taken: list[list[int]] | None = None):
    latents = np.array(points, np.float32)[:, None]
    old = None if taken is None else np.array(taken, np.int32)
    return resolve_last_level(LINE, latents, LINE.codes(latents), old)


def test_the_nearest_item_keeps_its_code() -> None:
    resolved = resolve([0.2, 0.0, 0.1])
    # 0.0 stays; 0.2 to code 2 and 0.1 to code 1 costs 4.05, the other way round 4.25.
    assert resolved.codes.tolist() == [[0, 2], [0, 0], [0, 1]]
    assert (resolved.moved, resolved.left_prefix) == (2, 0)


def test_movers_are_assigned_at_the_least_total_cost() -> None:
    # 0.0 keeps code 0. The others to 2 and 1: (0.44 - 2)^2 + (-0.4 - 1)^2 = 4.39, to 1 and 2:
    # (0.44 - 1)^2 + (-0.4 - 2)^2 = 6.07, though 0.44 alone is nearer to 1.
    assert resolve([0.44, -0.4, 0.0]).codes.tolist() == [[0, 2], [0, 1], [0, 0]]


def test_an_item_without_collision_is_never_moved() -> None:
    assert resolve([1.0, 0.0, 0.0]).codes.tolist() == [[0, 1], [0, 0], [0, 2]]


def test_a_full_prefix_overflows_to_the_next_one() -> None:
    resolved = resolve([0.0, 0.0, 0.0, 0.0, 101.0])
    assert resolved.codes[4].tolist() == [1, 1]
    assert sorted(map(tuple, resolved.codes.tolist())) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert resolved.left_prefix == 1


def test_taken_codes_are_left_alone() -> None:
    # Only code 1 is free under prefix 0; 0.1 is nearer to it, 2.0 goes to the other prefix.
    assert resolve([0.1, 2.0], taken=[[0, 0], [0, 2]]).codes.tolist() == [[0, 1], [1, 0]]


def test_the_extra_level_counts_from_the_nearest() -> None:
    codes = np.array([[5, 1], [5, 1], [0, 0], [5, 1]], np.int32)
    distances = np.array([0.3, 0.1, 0.0, 0.2])
    first = resolve_extra_level(distances, codes, None, np.empty((0, 3), np.int32))
    assert first.codes[:, 2].tolist() == [2, 0, 0, 1]
    later = resolve_extra_level(distances[:2], codes[1:3], 8, first.codes)
    assert later.codes.tolist() == [[5, 1, 3], [0, 0, 1]]


def test_many_items_without_content_all_get_ids() -> None:
    rng = np.random.default_rng(0)
    vectors = np.zeros((1500, 16), np.float32)
    vectors[:300] = rng.normal(size=(300, 16))
    ids, report = build_ids(IndexConfig(kind="semantic", codebook_size=16), 1500, vectors)
    assert report["without_content"] == 1200 and report["left_prefix"] > 1000
    assert len(np.unique(ids.codes, axis=0)) == 1500


def test_row_keys_order_rows_as_numbers_do() -> None:
    codes = np.random.default_rng(0).integers(-1, 70_000, (500, 9))
    np.testing.assert_array_equal(np.argsort(row_keys(codes)), np.lexsort(codes.T[::-1]))


@pytest.mark.parametrize("collisions", ["last-level", "extra-level"])
def test_ids_of_all_real_titles_are_one_to_one(title_vectors: np.ndarray, collisions: str) -> None:
    n = len(title_vectors)
    config = IndexConfig(kind="semantic", collisions=collisions, kmeans_iterations=5)
    ids, report = build_ids(config, n, title_vectors)
    assert report["collisions_before"] > 100 and report["collisions_after"] == 0
    assert count_collisions(ids.codes) == 0
    np.testing.assert_array_equal(ids.decode(ids.codes), np.arange(n))
    grown = ids.assign_new(title_vectors[:100])  # exact duplicates of items that have IDs
    np.testing.assert_array_equal(grown.codes[:n], ids.codes)
    np.testing.assert_array_equal(grown.decode(grown.codes), np.arange(n + 100))


@pytest.fixture(scope="module")
def title_vectors(shared_data: Path) -> np.ndarray:
    """float32 [12101, 64]: the words of every Beauty title (a minute less than MiniLM takes)."""
    with open(shared_data / "amazon2014-beauty" / "items.jsonl", encoding="utf-8") as lines:
        bags = [(json.loads(line)["title"] or "").lower().split() for line in lines]
    return AttributeEncoder.fit(bags, dim=64).transform(bags)
