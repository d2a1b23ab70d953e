"""CLIP by open_clip: pictures and words as unit vectors, from every form of a model's name."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="needs the media extra")

import open_clip
import torch
from PIL import Image
from tiny_media import tiny_clip

from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.features.models import weights_hash
from llmrec.errors import ConfigError

PICTURES = [Image.new("RGB", (50, 40), colour) for colour in ("red", "green", "blue", "white")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ImageEncoder:
    return ImageEncoder(str(folder), device="cpu")


def test_vectors_are_unit_rows_and_batches_do_not_matter(encoder: ImageEncoder) -> None:
    vectors = encoder.encode(PICTURES, batch_size=3)
    assert vectors.shape == (4, encoder.dim) == (4, 24) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode([image]) for image in PICTURES])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    assert encoder.encode([]).shape == (0, 24)


def test_the_encoder_matches_the_library_used_directly(encoder: ImageEncoder, folder: Path) -> None:
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    words = open_clip.get_tokenizer(f"local-dir:{folder}")(["a red dress", "shoes"])
    with torch.inference_mode():
        pixels = torch.stack([prepare(image) for image in PICTURES])
        seen = torch.nn.functional.normalize(model.eval().encode_image(pixels), dim=-1)
        read = torch.nn.functional.normalize(model.encode_text(words), dim=-1)
    np.testing.assert_allclose(encoder.encode(PICTURES), seen.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_text(["a red dress", "shoes"]), read.numpy(), atol=1e-5
    )
    assert encoder.side == 32


def test_a_checkpoint_file_goes_with_a_name_of_open_clip(
    folder: Path, encoder: ImageEncoder, tmp_path: Path
) -> None:
    (tmp_path / "tiny-for-tests.json").write_text(
        (folder / "open_clip_config.json").read_text().split('"model_cfg": ')[1].split(', "pre')[0]
    )
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    weights = folder / "open_clip_model.safetensors"
    named = ImageEncoder(f"tiny-for-tests:{weights}", device="cpu")
    np.testing.assert_allclose(
        named.encode_text(["shoes"]), encoder.encode_text(["shoes"]), atol=1e-5
    )


def test_half_precision_is_close_and_still_unit_rows(
    folder: Path, encoder: ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # emulated is well
    half = ImageEncoder(str(folder), device="cpu", precision="bfloat16").encode(PICTURES)
    assert half.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)
    full = encoder.encode(PICTURES)
    assert (half != full).any()
    np.testing.assert_allclose((half * full).sum(1), 1, atol=1e-2)


@pytest.mark.parametrize("model", ["ViT-B-32", "no-such:model", "ViT-B-32:no-such-tag", "./gone"])
def test_a_model_that_is_not_there_is_one_clear_line(model: str) -> None:
    with pytest.raises(ConfigError, match="image_model: ") as caught:
        ImageEncoder(model, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_never_a_random_model(folder: Path, tmp_path: Path) -> None:
    config = (folder / "open_clip_config.json").read_text()
    (tmp_path / "open_clip_config.json").write_text(config)
    with pytest.raises(ConfigError, match="holds no weights"):
        ImageEncoder(str(tmp_path), device="cpu")


def test_a_hash_stands_for_the_weights_or_the_name(folder: Path, tmp_path: Path) -> None:
    other = tiny_clip(tmp_path / "other")
    assert weights_hash(str(other)) == weights_hash(str(folder))
    (other / "open_clip_model.safetensors").write_bytes(b"other weights")
    assert weights_hash(str(other)) != weights_hash(str(folder))
    assert weights_hash("ViT-B-32:openai") == "ViT-B-32:openai"
    file = other / "open_clip_model.safetensors"
    first = weights_hash(f"ViT-B-32:{file}")
    file.write_bytes(b"again other weights")
    assert weights_hash(f"ViT-B-32:{file}") != first


def test_real_photos_differ_more_than_their_copies(
    encoder: ImageEncoder, shared_data: Path
) -> None:
    photos = sorted((shared_data / "clothing").rglob("*.jpg"))[:600:100]
    if not photos:
        pytest.skip("no clothing photos in the real data")
    images = [Image.open(photo).convert("RGB") for photo in photos]
    smaller = [image.resize((image.width * 3 // 4, image.height * 3 // 4)) for image in images]
    similar = encoder.encode(images) @ encoder.encode(smaller).T
    assert (similar.argmax(1) == np.arange(len(images))).all()
