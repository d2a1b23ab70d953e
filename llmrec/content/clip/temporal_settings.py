"""Settings of ``llmrec train temporal``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TemporalConfig:
    """Settings of ``llmrec train temporal``.

    Attributes:
        image_model: the CLIP that sees the frames, as ``llmrec embed media`` takes it.
        field: the attribute of items that is to be told.
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
            raise ValueError("image_model: which CLIP sees the frames? llmrec train clip makes one")
        for name in ("frames", "epochs", "batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")
