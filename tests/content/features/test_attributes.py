"""Attribute vectors on bags whose answer can be worked out by hand."""

import numpy as np
import pytest

from llmrec.content.features.attributes import AttributeEncoder, attribute_tokens
from llmrec.errors import ArtifactError, DataError

# Two kinds of item that share nothing, and a token too rare to count.
BAGS = [["colour=red", "kind=polish"]] * 4 + [["colour=green", "kind=tent"]] * 4 + [["once=only"]]


def test_a_list_of_values_is_one_token_each() -> None:
    row = {"attributes": ["attribute_ids=173,1,162", "size="], "categories": None, "brand": "OPI"}
    assert attribute_tokens(row) == [
        "attribute_ids=173",
        "attribute_ids=1",
        "attribute_ids=162",
        "brand=OPI",
    ]


def test_alike_items_get_alike_vectors_and_strangers_orthogonal_ones() -> None:
    vectors = AttributeEncoder.fit(BAGS, dim=2).transform(BAGS)
    assert vectors.shape == (9, 2) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:4], np.repeat(vectors[:1], 4, axis=0), atol=1e-5)
    assert abs(vectors[0] @ vectors[4]) < 1e-4
    assert not vectors[8].any()  # its only token occurs once


def test_rows_with_content_have_a_mean_square_length_of_one() -> None:
    rng = np.random.default_rng(0)
    bags = [[f"a={v}" for v in rng.choice(30, size=5)] for _ in range(200)]
    vectors = AttributeEncoder.fit(bags, dim=8).transform(bags)
    assert vectors.shape == (200, 8)
    assert np.square(vectors).sum(axis=1).mean() == pytest.approx(1, abs=1e-4)


def test_fewer_tokens_than_dimensions_gives_fewer_dimensions() -> None:
    assert AttributeEncoder.fit(BAGS, dim=96).transform(BAGS).shape == (9, 4)


def test_a_saved_encoder_gives_the_same_vectors(tmp_path) -> None:
    encoder = AttributeEncoder.fit(BAGS, dim=3, seed=5)
    encoder.save(tmp_path)
    np.testing.assert_array_equal(
        AttributeEncoder.load(tmp_path).transform(BAGS), encoder.transform(BAGS)
    )


def test_the_seed_decides() -> None:
    first, second = (AttributeEncoder.fit(BAGS, dim=3, seed=5).components for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_nothing_frequent_enough_names_the_setting() -> None:
    with pytest.raises(DataError, match="attribute_min_items"):
        AttributeEncoder.fit([["a=1"], ["b=1"]], dim=4)


def test_a_missing_encoder_names_the_stage(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="llmrec embed"):
        AttributeEncoder.load(tmp_path)
