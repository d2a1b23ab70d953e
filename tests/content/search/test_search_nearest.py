"""The kinds of index against exact search by NumPy."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faiss", reason="needs the media extra")


from llmrec.content.features.models import unit_rows
from llmrec.content.search.nearest import (
    FLAT_MAX,
    HNSW_MAX,
    IVFPQ_MIN,
    build_index,
    choose_kind,
    code_bytes,
    load_index,
    measure_recall,
    nearest,
)
from llmrec.content.search.settings import Kind
from llmrec.errors import ConfigError


def in_clusters(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around a few hundred centres, as pictures of a shop lie."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(200, dim))
    return unit_rows(centres[rng.integers(0, 200, n)] + 0.4 * rng.normal(size=(n, dim)))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return in_clusters(IVFPQ_MIN + 100, 24)  # added in two batches


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return in_clusters(50, 24, seed=1)


@pytest.fixture(scope="module")
def built(vectors: np.ndarray) -> Callable[[Kind], Any]:
    """The index of each kind, made once."""
    return cache(lambda kind: build_index(vectors, kind, seed=3))


def test_the_kind_follows_the_number_of_items() -> None:
    sizes = [FLAT_MAX, FLAT_MAX + 1, HNSW_MAX, HNSW_MAX + 1]
    assert [choose_kind("auto", n) for n in sizes] == ["flat", "hnsw", "hnsw", "ivfpq"]
    assert choose_kind("hnsw", 3) == "hnsw"
    with pytest.raises(ConfigError, match="use flat, or auto"):
        choose_kind("ivfpq", IVFPQ_MIN - 1)


def test_flat_is_the_exact_answer(vectors: np.ndarray, queries: np.ndarray) -> None:
    rows, scores = nearest(build_index(vectors, "flat"), queries, 10)
    cosines = queries @ vectors.T
    expected = np.argsort(-cosines, axis=1)[:, :10]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, expected, 1), atol=1e-5)


@pytest.mark.parametrize(("kind", "recall", "error"), [("hnsw", 0.99, 1e-5), ("ivfpq", 0.9, 0.02)])
def test_an_approximate_kind_is_near_the_exact_one(
    built: Callable[[Kind], Any],
    vectors: np.ndarray,
    queries: np.ndarray,
    kind: Kind,
    recall: float,
    error: float,
) -> None:
    index = built(kind)
    rows, scores = nearest(index, queries, 10)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, exact, strict=True)])
    assert found >= recall
    assert measure_recall(index, vectors, queries) == pytest.approx(found, abs=0.005)
    cosines = np.einsum("qd,qkd->qk", queries, vectors[rows])
    np.testing.assert_allclose(scores, cosines, atol=error)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
def test_all_items_can_be_asked_for(
    built: Callable[[Kind], Any], vectors: np.ndarray, queries: np.ndarray, kind: Kind
) -> None:
    index = built(kind)
    rows, _ = nearest(index, queries[:1], len(vectors) + 5)
    assert sorted(rows[0].tolist()) == list(range(len(vectors)))


def test_recall_sees_an_index_of_wrong_vectors(vectors: np.ndarray, queries: np.ndarray) -> None:
    assert measure_recall(build_index(vectors, "flat"), vectors, queries) == 1.0
    wrong = build_index(np.random.default_rng(0).permutation(vectors), "flat")
    assert measure_recall(wrong, vectors, queries) < 0.05


def test_recall_takes_equal_vectors_for_equal() -> None:
    twins = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)
    other_order = build_index(twins[::-1].copy(), "flat")  # the same vectors by other numbers
    assert measure_recall(other_order, twins[::-1], np.eye(4, dtype=np.float32)) == 1.0


def test_training_is_repeatable_and_survives_the_disk(
    built: Callable[[Kind], Any], vectors: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    first = built("ivfpq")
    pytest.importorskip("faiss").write_index(first, str(tmp_path / "one.faiss"))
    read = load_index(tmp_path / "one.faiss", 24, len(vectors))
    for index in (read, build_index(vectors, "ivfpq", seed=3)):
        for one, other in zip(
            nearest(first, queries, 10), nearest(index, queries, 10), strict=True
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dim", [1, 7, 24, 96, 384, 512, 768])
def test_a_code_divides_the_vector(dim: int) -> None:
    assert dim % code_bytes(dim) == 0 and code_bytes(dim) <= max(1, dim // 8)
