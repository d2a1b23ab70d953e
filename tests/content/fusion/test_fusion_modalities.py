"""What an item has, and the subsets of it that training shows."""

from pathlib import Path

import numpy as np
import pytest
from fusion_world import write_features, write_media
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from llmrec.content.fusion.modalities import Modalities, hide, read_modalities, two_subsets
from llmrec.errors import ConfigError, DataError

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6))
seeds = st.integers(0, 2**32 - 1)


@given(masks, st.floats(0, 1), seeds)
def test_hiding_leaves_one_modality_and_adds_none(
    present: np.ndarray, share: float, seed: int
) -> None:
    kept = hide(present, share, np.random.default_rng(seed))
    assert not (kept & ~present).any()
    assert (kept.any(axis=1) == present.any(axis=1)).all()


def test_hiding_hides_the_share_that_was_asked_for() -> None:
    present = np.ones((4000, 6), dtype=bool)
    for share in (0.0, 0.3, 0.5):
        kept = hide(present, share, np.random.default_rng(0)).mean()
        assert abs(kept - (1 - share)) < 0.02
    assert (hide(present, 1.0, np.random.default_rng(0)).sum(axis=1) == 1).all()


def test_the_one_that_stays_is_any_of_them() -> None:
    present = np.tile([True, False, True, True], (3000, 1))
    counts = hide(present, 1.0, np.random.default_rng(0)).sum(axis=0)
    assert counts[1] == 0
    assert (np.abs(counts[[0, 2, 3]] - 1000) < 150).all()


@given(masks, seeds)
def test_two_subsets_differ_and_neither_is_empty(present: np.ndarray, seed: int) -> None:
    present = present[present.sum(axis=1) > 1]
    for subset in (pair := two_subsets(present, np.random.default_rng(seed))):
        assert not (subset & ~present).any()
        assert subset.any(axis=1).all()
    assert (pair[0] != pair[1]).any(axis=1).all()


def test_side_by_side_what_is_missing_is_zero() -> None:
    blocks = {"text": np.ones((2, 2), np.float32), "image": np.full((2, 1), np.nan, np.float32)}
    both = Modalities(blocks, np.array([[True, False], [False, False]]))
    assert both.concatenated().tolist() == [[1, 1, 0], [0, 0, 0]]
    assert both.only(["image"]).dims == {"image": 1}


def test_text_and_media_are_read_with_what_each_item_has(tmp_path: Path) -> None:
    text, image = np.eye(3, 4, dtype=np.float32), np.eye(3, 2, dtype=np.float32)
    features = write_features(tmp_path / "features", text)
    media = write_media(
        tmp_path / "media", {"video": image, "image": image}, np.array([True, False, True])
    )
    both = read_modalities(features, media, 3)
    assert both.dims == {"text": 4, "image": 2, "video": 2}
    assert both.present.tolist() == [[True] * 3, [True, False, False], [True] * 3]
    assert read_modalities(None, media, 3).names == ["image", "video"]


def test_features_of_another_catalogue_are_told_so(tmp_path: Path) -> None:
    features = write_features(tmp_path / "features", np.eye(3, dtype=np.float32))
    with pytest.raises(DataError, match=r"holds vectors of 3 items \(text\), the dataset has 5"):
        read_modalities(features, None, 5)
    media = write_media(tmp_path / "media", {"image": np.eye(3, dtype=np.float32)}, np.ones(3))
    with pytest.raises(DataError, match=r"--media: .*run llmrec embed media again on this dataset"):
        read_modalities(None, media, 5)


def test_a_vector_that_is_not_finite_is_told_so(tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    vectors[1] = np.nan
    features = write_features(tmp_path / "features", vectors)
    with pytest.raises(DataError, match="block 'text': item row 1 is not finite"):
        read_modalities(features, None, 3)
    there = np.array([True, False, True])
    media = write_media(tmp_path / "media", {"image": vectors}, there)
    assert read_modalities(None, media, 3).present[:, 0].tolist() == there.tolist()


def test_neither_text_nor_media_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"give --features .* --media .* or both"):
        read_modalities(None, None, 3)
