"""Settings of ``llmrec train clip`` and ``train temporal``, and the shapes of CLIPs.

Light: nothing here loads torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from llmrec.config import check_ranges
from llmrec.content.media.container import MAX_PIXELS
from llmrec.errors import ConfigError
from llmrec.loop.precision import Precision


def _size(vision: dict[str, Any], embed_dim: int, text_width: int, text_layers: int) -> Any:
    return {
        "embed_dim": embed_dim,
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": 24,
            "vocab_size": 49408,  # of open_clip's own tokenizer
            "width": text_width,
            "heads": max(text_width // 32, 1),
            "layers": text_layers,
        },
    }


def _vit(pixels: int, patch: int, width: int, layers: int) -> dict[str, Any]:
    shape = {"image_size": pixels, "patch_size": patch, "width": width, "layers": layers}
    return {**shape, "head_width": 32}


LIT = "lit"  # pretrained towers, of which the projections learn
# From scratch. The ViTs are towers a LLaVA can take over; the ResNet learns more from few photos.
SIZES: dict[str, dict[str, Any]] = {
    "vit-nano": _size(_vit(32, 8, 32, 2), 32, 32, 1),
    "vit-micro": _size(_vit(64, 8, 128, 4), 128, 64, 2),
    "vit-mini": _size(_vit(64, 8, 192, 6), 128, 64, 2),
    "resnet-micro": _size(
        {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "head_width": 32}, 128, 64, 2
    ),
}


@dataclass(frozen=True)
class Augmentation:
    """How a picture is changed in each epoch. No change alters the name of a colour.

    Attributes:
        smallest: share of the picture's side that a view shows at least.
        shift: the view's middle moves by so much of the side, at most.
        degrees: turned by so much, at most.
        flip: mirrored half of the time.
        light: brightness and contrast change by this share, at most.
        erase: chance that a rectangle of the view is grey.
    """

    smallest: float = 0.8
    shift: float = 0.08
    degrees: float = 8.0
    flip: bool = True
    light: float = 0.1
    erase: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, "(0, 1]", "smallest")
        check_ranges(self, "[0, inf)", "shift", "degrees", "light", "erase")


@dataclass(frozen=True)
class LitConfig:
    """Pretrained towers that are locked, with projections that learn (LiT, Zhai et al. 2022).

    Attributes:
        image_tower: a short name (``llmrec models list``) or a folder of timm.
        text_tower: a short name or a folder of a BERT, as sentence-transformers keeps it; its
            tokens are averaged.
        dim: length of a vector.
        side: pixels of a picture's square; fewer are faster and see less.
        cached: views of each picture that the towers are asked about, once: the first is the
            whole picture, the others are changed as ``augmentation`` says.
        unfrozen: last stages of the image tower that learn too.
        tower_rate: their share of the learning rate.
    """

    image_tower: str = "efficientnet-lite0"
    text_tower: str = "minilm"
    dim: int = 256
    side: int = 224
    cached: int = 2
    unfrozen: int = 0
    tower_rate: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "dim", "cached")
        check_ranges(self, "[32, inf)", "side")
        check_ranges(self, "[0, inf)", "unfrozen")
        check_ranges(self, "(0, inf)", "tower_rate")


@dataclass(frozen=True)
class ClipConfig:
    """Settings of ``llmrec train clip``.

    Attributes:
        size: ``lit`` for pretrained towers, or one of ``SIZES`` from nothing.
        lit: the pretrained towers.
        schema: the fields of items, by name or path, as ``llmrec caption`` uses them.
        fields: those of the schema that pictures show; a text names some, in this order.
        title_share: share of the texts that are titles; all where items have no such field.
        views: of each item, learn from so many pictures: its own, and those named like it with -2,
            -3 and so on behind (``mug.jpg``, ``mug-2.jpg``), as far as there are any.
        field_weight: weight, beside contrast, of the loss of a linear classifier of each field's
            value; the classifier is thrown away.
        optimizer: ``muon`` (with AdamW for what is no matrix) or ``adamw``.
        epochs, batch_size, learning_rate, weight_decay: cosine down after a warm-up.
        dropout: share of the patches that are left out in training, which halves its cost; with
            pretrained towers, of what the image tower says.
        augmentation: how pictures change.
        validation_share: items held back to validate on.
        max_minutes: stop after so many minutes of training; 0 is no limit.
        max_pixels: pictures with more are skipped.
        workers: threads that decode.
        precision: of the towers' forward passes; ``auto`` is bfloat16 on a GPU, float32 on a CPU.
        device: auto, cpu, cuda, cuda:1, ...
    """

    size: str = LIT
    lit: LitConfig = field(default_factory=LitConfig)
    schema: str = "shop"
    fields: tuple[str, ...] = ("colour", "pattern", "category")
    title_share: float = 0.1
    views: int = 16
    field_weight: float = 1.0
    optimizer: Literal["muon", "adamw"] = "muon"
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation_share: float = 0.05
    max_minutes: float = 0.0
    max_pixels: int = MAX_PIXELS
    workers: int = 2
    precision: Precision = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.size not in (LIT, *SIZES):
            raise ConfigError(f"size: {self.size!r} is not one of {', '.join((LIT, *SIZES))}")
        check_ranges(self, "[1, inf)", "epochs", "views", "max_pixels", "workers")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size: contrast needs 2 or more, got {self.batch_size}")
        check_ranges(self, "(0, inf)", "learning_rate")
        check_ranges(self, "[0, 1]", "title_share", "validation_share")
        check_ranges(self, "[0, inf)", "field_weight")
        check_ranges(self, "[0, 1)", "dropout")


@dataclass(frozen=True)
class TemporalConfig:
    """Settings of ``llmrec train temporal``.

    Attributes:
        image_model: the CLIP of the frames, as ``llmrec embed media`` takes it.
        field: the attribute of items to classify.
        frames: of a video.
        width, layers, heads: of the temporal encoder.
        epochs, batch_size, learning_rate, weight_decay: of AdamW, cosine down.
        noise: standard deviation of noise on frame vectors in training.
        workers: threads that decode.
        device: auto, cpu, cuda, ...
    """

    image_model: str = ""
    field: str = "motion"
    frames: int = 8
    width: int = 128
    layers: int = 2
    heads: int = 4
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    noise: float = 0.02
    workers: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.image_model:
            raise ConfigError(
                "image_model: which CLIP encodes the frames? llmrec train clip makes one"
            )
        check_ranges(self, "[1, inf)", "frames", "epochs", "batch_size", "workers")
