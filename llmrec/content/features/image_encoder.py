"""Pictures and words to vectors of one space, with any CLIP that open_clip loads.

    encoder = ImageEncoder("ViT-B-32:laion2b_s34b_b79k")
    vectors = encoder.encode([decode_image(path)])       # float32 [1, 512], unit length
    encoder.encode_text(["a red dress"]) @ vectors.T      # cosines

A model is ``NAME:PRETRAINED`` (a tag of open_clip, or a checkpoint file), ``hf-hub:OWNER/NAME``, or
a folder with ``open_clip_config.json`` and weights, or a short name (:mod:`llmrec.weights`):
``demo-clip`` is such a folder. ``efficientnet-lite0`` is a picture model that reads no words: its
vectors are for fusion, and words cannot be compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.content.features.modalities import BatchEncoder, EmbedMediaConfig
from llmrec.content.features.models import (
    CLIP,
    check_layers,
    normalized,
    pick_device,
    weights_hash,
)
from llmrec.content.features.picture_tower import PictureTower
from llmrec.content.media.images import decode_image
from llmrec.errors import ArtifactError, ConfigError, LlmrecError, one_line, require
from llmrec.jsonl import read_json
from llmrec.loop.precision import Precision, mixed_precision
from llmrec.weights.known import WEIGHTS
from llmrec.weights.locate import locate

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


class ImageEncoder:
    """Embeds pictures and words as unit vectors.

    Args:
        model: see the module docstring.
        device: ``auto`` or a torch device.
        precision: of the forward pass; the vectors are float32 in any case.

    Raises:
        ConfigError: if the model cannot be loaded or the device does not exist.
        MissingExtraError: if open_clip is not installed.
    """

    def __init__(
        self, model: str = CLIP, *, device: str = "auto", precision: Precision = "auto"
    ) -> None:
        self.device = pick_device(device)
        self.precision = precision
        self.model = model
        self.clip: Any
        located = locate(model, "CLIP" if _reads_words(model) else "image model", "image_model")
        if not _reads_words(model):
            self.clip = PictureTower(located, self.device)
            self._prepare, self._tokenize = self.clip.prepare, None
            return
        model = located
        open_clip = require("open_clip", "media")
        name, pretrained = _parsed(model)
        check_layers(model, "open_clip_config.json")
        try:
            clip, _, self._prepare = open_clip.create_model_and_transforms(
                name,
                pretrained=pretrained,
                device=self.device,
                require_pretrained=True,
                **_own_text_tower(name),
            )
            self._tokenize = open_clip.get_tokenizer(name)
        except LlmrecError:
            raise
        # open_clip and what it loads with raise many kinds for a wrong name, file or network
        except Exception as error:
            raise ConfigError(
                f"image_model: {model!r} cannot be loaded ({one_line(error)[:200]}); give "
                "NAME:PRETRAINED as open_clip lists them, NAME:FILE, or a folder with "
                "open_clip_config.json"
            ) from error
        self.clip = clip.eval().requires_grad_(False)

    @cached_property
    def dim(self) -> int:
        """Length of a vector."""
        if self._tokenize is None:
            return int(self.clip.dim)
        return int(self.encode_text(["a"]).shape[1])

    @property
    def side(self) -> int:
        """Pixels of the model's input, the shorter side."""
        size = self.clip.visual.image_size
        return int(size if isinstance(size, int) else min(size))

    def prepare(self, image: Image) -> torch.Tensor:
        """Scaled, cropped and normalised as the model was trained: float32 ``[3, side, side]``."""
        return self._prepare(image)

    def encode_prepared(self, pixels: torch.Tensor) -> np.ndarray:
        """Unit rows float32 ``[n, dim]`` from what :meth:`prepare` gave, ``[n, 3, side, side]``."""
        return normalized(self.embed(pixels))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """The image tower's output on its device, not normalised: ``[n, dim]``."""
        torch = require("torch", "media")
        with torch.inference_mode(), mixed_precision(self.device.type, self.precision):
            return self.clip.encode_image(pixels.to(self.device))

    def encode(self, images: Sequence[Image], batch_size: int = 64) -> np.ndarray:
        """Embed pictures.

        Returns:
            float32 ``[len(images), dim]``, rows of length 1.
        """
        torch = require("torch", "media")
        rows = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(images), batch_size):
            pixels = [self.prepare(image) for image in images[start : start + batch_size]]
            rows.append(self.encode_prepared(torch.stack(pixels)))
        return np.concatenate(rows)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed words in the same space: float32 ``[len(texts), dim]``, rows of length 1.

        Raises:
            ConfigError: if the model reads no words.
        """
        if self._tokenize is None:
            raise ConfigError(
                f"image_model: {self.model!r} is no CLIP, so words cannot be compared with its "
                f"pictures; embed them with a CLIP, such as {CLIP}"
            )
        torch = require("torch", "media")
        tokens = self._tokenize(list(texts)).to(self.device)
        with torch.inference_mode(), mixed_precision(self.device.type, self.precision):
            return normalized(self.clip.encode_text(tokens))

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of texts as the model reads them, without padding.

        Raises:
            ConfigError: if the model reads no words.
        """
        if self._tokenize is None:
            raise ConfigError(f"image_model: {self.model!r} is no CLIP and reads no words")
        return int((self._tokenize(list(texts)) != 0).sum())


def _reads_words(model: str) -> bool:
    """Whether it is a CLIP, as far as its name says: some short names are of picture models."""
    return model not in WEIGHTS or WEIGHTS[model].kind == "CLIP"


def _parsed(model: str) -> tuple[str, str | None]:
    """What open_clip calls ``model_name`` and ``pretrained``.

    Raises:
        ConfigError: if no weights are named.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not any(file.suffix in (".safetensors", ".bin", ".pth") for file in folder.iterdir()):
            raise ConfigError(f"image_model: {folder} holds no weights (.safetensors, .bin, .pth)")
        return f"local-dir:{folder}", None
    if model.startswith("hf-hub:"):
        return model, None
    name, _, pretrained = model.partition(":")
    if not pretrained:
        raise ConfigError(
            f"image_model: {model!r} names no weights and is no folder; write NAME:PRETRAINED, "
            f"for example {CLIP}"
        )
    return name, str(Path(pretrained).expanduser()) if pretrained.startswith("~") else pretrained


def _own_text_tower(name: str) -> dict[str, Any]:
    """Where a folder's text tower is of transformers: its settings are in the folder itself.

    open_clip looks for them where the folder was made (:mod:`llmrec.content.clip.lit`).
    """
    folder = Path(name.removeprefix("local-dir:"))
    if not (name.startswith("local-dir:") and (folder / "config.json").is_file()):
        return {}
    text = read_json(folder / "open_clip_config.json")["model_cfg"].get("text_cfg", {})
    if "hf_model_name" not in text:
        return {}
    own = {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return {"text_cfg": text | own}


def open_same_model(model: str, expected: str, folder: Path, device: str) -> ImageEncoder:
    """Load ``model`` if its weights are those that ``folder`` was made with.

    Args:
        model: name, file or folder, as for :class:`ImageEncoder`.
        expected: what :func:`weights_hash` gave then.

    Raises:
        ArtifactError: if the weights are gone or others.
        ConfigError: if they cannot be loaded.
    """
    found = weights_hash(model)
    if found != expected:
        state = "is not here" if found == model else "holds other weights now"
        raise ArtifactError(
            f"{folder}: the image model {model!r} that it was made with {state}; "
            "say with --image-model where it is, or make the folder again"
        )
    return ImageEncoder(model, device=device)


class ImageModality(BatchEncoder):
    """Pictures by CLIP, or by a picture model with a short name."""

    @classmethod
    def input_hashes(cls, config: EmbedMediaConfig) -> dict[str, str]:
        """The image model's weights."""
        return {"image_model": weights_hash(config.image_model)}

    @classmethod
    def is_in_clip_space(cls, config: Mapping[str, Any]) -> bool:
        """Those of a CLIP are; a picture model alone has no words to compare with."""
        return _reads_words(config["image_model"])

    @cached_property
    def clip(self) -> ImageEncoder:
        """The image model, which frames of videos go through too."""
        c = self.config
        return ImageEncoder(c.image_model, device=c.device, precision=c.precision)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.clip.dim

    def prepare(self, value: Any) -> torch.Tensor:
        """A decoded picture as the model takes it."""
        image = decode_image(self.source.read(value), max_pixels=self.config.max_pixels)
        return self.clip.prepare(image)

    def encode(self, prepared: list[Any]) -> np.ndarray:
        """Unit rows of pictures."""
        return self.clip.encode_prepared(require("torch", "media").stack(prepared))
