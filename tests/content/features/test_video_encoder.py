"""Videos as vectors in the space of pictures."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="needs the media extra")

import torch
from PIL import Image
from tiny_media import clip, tiny_clip

from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.features.temporal import TemporalEncoder, TemporalShape
from llmrec.content.features.video_encoder import VideoEncoder
from llmrec.content.media.video import Clip, sample_frames
from llmrec.errors import ConfigError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return ImageEncoder(str(tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")), device="cpu")


def clips() -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(rng.integers(0, 255, (n, 40, 50, 3), np.uint8), np.arange(n, dtype=np.float32))
        for n in (3, 1, 5)
    ]


def test_a_video_is_the_mean_of_its_frames(images: ImageEncoder) -> None:
    vectors = VideoEncoder(images).encode(clips())
    assert vectors.shape == (3, 24) and vectors.dtype == np.float32
    for vector, one in zip(vectors, clips(), strict=True):
        mean = images.encode([Image.fromarray(frame) for frame in one.frames]).mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_an_untrained_temporal_encoder_changes_nothing_and_a_trained_one_does(
    images: ImageEncoder, tmp_path: Path
) -> None:
    temporal = TemporalEncoder(TemporalShape(24, width=16))
    baseline = VideoEncoder(images).encode(clips())
    np.testing.assert_allclose(VideoEncoder(images, temporal).encode(clips()), baseline, atol=1e-5)
    torch.nn.init.normal_(temporal.out.weight)
    temporal.save(tmp_path / "temporal.safetensors")
    moved = VideoEncoder(images, tmp_path / "temporal.safetensors")
    together = moved.encode(clips())
    assert np.abs(together - baseline).max() > 0.05
    alone = np.concatenate([moved.encode([one]) for one in clips()])
    np.testing.assert_allclose(together, alone, atol=1e-5)  # padding is not seen


def test_a_temporal_encoder_of_another_length_is_refused(images: ImageEncoder) -> None:
    with pytest.raises(ConfigError, match="made for vectors of 8, the image model gives 24"):
        VideoEncoder(images, TemporalEncoder(TemporalShape(8, width=16)))


def test_a_file_goes_all_the_way_to_a_vector(images: ImageEncoder, tmp_path: Path) -> None:
    red, blue, again = (
        sample_frames(clip(tmp_path / f"{n}.mp4", colours), 4)
        for n, colours in enumerate([["red", "maroon"], ["blue", "navy"], ["red", "maroon"]])
    )
    vectors = VideoEncoder(images).encode([red, blue, again])
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert vectors[0] @ vectors[1] < 0.999
