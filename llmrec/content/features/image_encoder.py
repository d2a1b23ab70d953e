"""Pictures and words to vectors of one space, with any CLIP that open_clip loads.

    encoder = ImageEncoder("ViT-B-32:laion2b_s34b_b79k")
    vectors = encoder.encode([decode_image(path)])       # float32 [1, 512], unit length
    encoder.encode_text(["a red dress"]) @ vectors.T      # cosines

A model is ``NAME:PRETRAINED`` (a tag of open_clip, or a checkpoint file), ``hf-hub:OWNER/NAME``, or
a folder with ``open_clip_config.json`` and weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmrec.errors import ConfigError, LlmrecError, require
from llmrec.stage import file_hash

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

CLIP = "ViT-B-32:laion2b_s34b_b79k"
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def pick_device(device: str) -> torch.device:
    """``auto`` is a GPU when there is one.

    Raises:
        ConfigError: if the device cannot be used here.
    """
    torch = require("torch", "media")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: {device!r} cannot be used here ({reason}); try auto") from None
    return torch.device(device)


def mixed_precision(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Autocast for a forward pass; ``auto`` is bfloat16 on a GPU that has it, else float16, and
    float32 on a CPU."""
    torch = require("torch", "media")
    if precision == "auto":
        if device.type != "cuda":
            return nullcontext()
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def unit_rows(vectors: torch.Tensor) -> np.ndarray:
    """float32 rows of length 1, normalised in float32 whatever they were computed in."""
    torch = require("torch", "media")
    rows = torch.nn.functional.normalize(vectors.float(), dim=-1)
    return np.asarray(rows.cpu().numpy(), np.float32)


def weights_hash(model: str) -> str:
    """Identifies a model: its name, and the contents of the files when they are local."""
    name, _, tail = model.partition(":")
    for text in (model, tail) if tail else (name,):
        path = Path(text).expanduser()
        if path.is_file():
            return hashlib.sha256(f"{name}={file_hash(path)}".encode()).hexdigest()
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
            lines = "".join(f"{file.name}={file_hash(file)}\n" for file in files)
            return hashlib.sha256(lines.encode()).hexdigest()
    return model


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
        open_clip = require("open_clip", "media")
        self.device = pick_device(device)
        self.precision = precision
        name, pretrained = _parsed(model)
        try:
            clip, _, prepare = open_clip.create_model_and_transforms(
                name, pretrained=pretrained, device=self.device, require_pretrained=True
            )
            self._tokenize = open_clip.get_tokenizer(name)
        except LlmrecError:
            raise
        # open_clip and what it loads with raise many kinds for a wrong name, file or network
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"image_model: {model!r} cannot be loaded ({reason}); give NAME:PRETRAINED as "
                "open_clip lists them, NAME:FILE, or a folder with open_clip_config.json"
            ) from error
        self.clip = clip.eval().requires_grad_(False)
        self._prepare = prepare
        self.model = model

    @cached_property
    def dim(self) -> int:
        """Length of a vector."""
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
        return unit_rows(self.embed(pixels))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """The image tower's output on its device, not normalised: ``[n, dim]``."""
        torch = require("torch", "media")
        with torch.inference_mode(), mixed_precision(self.device, self.precision):
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
        """Embed words in the same space: float32 ``[len(texts), dim]``, rows of length 1."""
        torch = require("torch", "media")
        tokens = self._tokenize(list(texts)).to(self.device)
        with torch.inference_mode(), mixed_precision(self.device, self.precision):
            return unit_rows(self.clip.encode_text(tokens))


def _parsed(model: str) -> tuple[str, str | None]:
    """What open_clip calls ``model_name`` and ``pretrained``.

    Raises:
        ConfigError: if no weights are named.
    """
    if Path(model).expanduser().is_dir():
        folder = Path(model).expanduser()
        if not _has_weights(folder):
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


def _has_weights(folder: Path) -> bool:
    return any(file.suffix in (".safetensors", ".bin", ".pth") for file in folder.iterdir())
