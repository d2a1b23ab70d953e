"""The CLIP that llmrec brings along, on pictures of a shop that it has not seen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmrec.content.features.image_encoder import ImageEncoder, ImageModality
from llmrec.demo_shop.catalogue import make_catalogue
from llmrec.demo_shop.media.pictures import make_picture
from llmrec.errors import ArtifactError, ConfigError, MissingExtraError
from llmrec.types import Item
from llmrec.weights import known
from llmrec.weights.known import OWN, WEIGHTS
from llmrec.weights.locate import get, locate

SHOP = 77  # training/captioner.yaml has 11, training/demo.yaml 0
OURS = [name for name, weights in WEIGHTS.items() if weights.files[0].package == OWN]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return make_catalogue(SHOP, 150).items


@pytest.fixture(scope="module")
def pictures(items: list[Item]) -> list[Image.Image]:
    rngs = (np.random.default_rng([SHOP, row]) for row in range(len(items)))
    return [make_picture(item.attributes, rng) for item, rng in zip(items, rngs, strict=True)]


def test_it_names_what_pictures_show(items: list[Item], pictures: list[Image.Image]) -> None:
    encoder = ImageEncoder("demo-clip", device="cpu")
    seen = encoder.encode(pictures)
    for field, least in (("category", 0.9), ("colour", 0.9), ("pattern", 0.8)):
        names = sorted({item.attributes[field] for item in items})
        nearest = (seen @ encoder.encode_text(names).T).argmax(1)
        right = [
            names[at] == item.attributes[field] for at, item in zip(nearest, items, strict=True)
        ]
        assert np.mean(right) >= least, field


def test_words_are_compared_with_its_pictures() -> None:
    assert ImageModality.is_in_clip_space({"image_model": "demo-clip"})
    assert not ImageModality.is_in_clip_space({"image_model": "efficientnet-lite0"})
    with pytest.raises(ConfigError, match="'demo-clip' is the short name of a CLIP"):
        locate("demo-clip", "multimodal model", "model")


def test_they_are_small() -> None:
    paths = [path for name in OURS for path in WEIGHTS[name].sources(name)]
    assert len(paths) == 2 and sum(path.stat().st_size for path in paths) < 12e6


@pytest.mark.parametrize("name", OURS)
def test_an_altered_file_is_refused(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = WEIGHTS[name].files
    content = (known._ROOT / file.path).read_bytes()
    monkeypatch.setattr(known, "_ROOT", tmp_path)
    with pytest.raises(MissingExtraError, match=f"^{name}: .*install llmrec again"):
        get(name)
    (tmp_path / file.path).parent.mkdir(parents=True)
    (tmp_path / file.path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=f"zip: was altered.* not that of {name}; install llm"):
        get(name)
    assert not list(cache.rglob("*.safetensors"))
