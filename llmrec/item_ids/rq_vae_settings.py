"""Settings of the RQ-VAE, apart from it so that reading a recipe does not load torch."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.config import check_ranges


@dataclass(frozen=True)
class RqVaeConfig:
    """How an RQ-VAE is built and trained.

    Attributes:
        hidden: widths between content vector and latent; the decoder mirrors them.
        latent_dim: length of the quantized vector.
        steps: optimizer steps.
        warmup: share of the steps trained without quantization.
        batch_size: items a step.
        learning_rate: of AdamW, falling to zero along a half cosine.
        commitment: weight of the commitment term.
        restart_every: steps between restarts of unused codes.
        device: auto, cpu, cuda, ...
    """

    hidden: tuple[int, ...] = (512, 256)
    latent_dim: int = 64
    steps: int = 2000
    warmup: float = 0.15
    batch_size: int = 1024
    learning_rate: float = 1e-3
    commitment: float = 0.25
    restart_every: int = 50
    device: str = "auto"

    def __post_init__(self) -> None:
        check_ranges(
            self, "[1, inf)", "latent_dim", "steps", "batch_size", "restart_every", prefix="rq_vae."
        )
        check_ranges(self, "[0, 1)", "warmup", prefix="rq_vae.")
