"""One vector of a video from the vectors of its frames and their times.

A small transformer reads the frames of a clip, each with its time, and adds a residual to their
mean. Its last projection starts at zero, so that an untrained one *is* mean pooling and
training can only move away from that baseline. The means know no order; the transformer does, so
it can learn what only motion shows (compare "seqTransf" of CLIP4Clip, Luo et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmrec.config import check_ranges
from llmrec.content.features.shaped import ShapedNetwork
from llmrec.errors import ConfigError

_FREQUENCIES = 16
_SLOWEST = 64.0  # seconds of the longest wave


@dataclass(frozen=True)
class TemporalShape:
    """The shape of a temporal encoder.

    Attributes:
        dim: length of a frame's vector, and of the result.
        width: inside the transformer.
        layers: of the transformer.
        heads: of its attention; divides ``width``.
    """

    dim: int
    width: int = 256
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "dim", "width", "layers", "heads")
        if self.width % self.heads:
            raise ConfigError(f"heads: {self.heads} does not divide width {self.width}")


def mean_pool(frames: Tensor, mask: Tensor) -> Tensor:
    """The baseline: the mean of the frames that are there.

    Args:
        frames: float ``[clips, frames, dim]``.
        mask: bool ``[clips, frames]``, true where there is a frame.

    Returns:
        ``[clips, dim]``; zeros for a clip without frames.
    """
    weights = mask.unsqueeze(-1).to(frames.dtype)
    return (frames * weights).sum(1) / weights.sum(1).clamp(min=1)


class TemporalEncoder(ShapedNetwork):
    """Mean of the frames plus a residual by a transformer over frames and times.

    Args:
        config: its shape.
    """

    kind, shape = "temporal", TemporalShape

    def __init__(self, config: TemporalShape) -> None:
        super().__init__()
        self.config = config
        self.frame_in = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.width))
        self.time_in = nn.Linear(2 * 2 * _FREQUENCIES, config.width)
        self.query = nn.Parameter(torch.randn(config.width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            4 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.out_norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, frames: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """Embed clips.

        Args:
            frames: float ``[clips, frames, dim]``, the frames' vectors in order of time.
            times: float ``[clips, frames]``, seconds from the beginning of the clip.
            mask: bool ``[clips, frames]``, true where there is a frame.

        Returns:
            ``[clips, dim]``.
        """
        read = self.frame_in(frames) + self.time_in(_time_waves(times, mask).to(frames.dtype))
        query = self.query.expand(len(frames), 1, -1)
        there = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        states = self.layers(torch.cat([query, read], dim=1), src_key_padding_mask=~there)
        return mean_pool(frames, mask) + self.out(self.out_norm(states[:, 0]))


def _time_waves(times: Tensor, mask: Tensor) -> Tensor:
    """Sines and cosines of the seconds and of the share of the clip: ``[clips, frames, 64]``."""
    seconds = times.float()
    length = (seconds * mask).amax(1, keepdim=True).clamp(min=1e-3)
    steps = torch.arange(_FREQUENCIES, device=times.device)
    fastest = 2 * torch.pi * 8  # eight waves a second, or a clip
    by_second = fastest * (1 / (8 * _SLOWEST)) ** (steps / (_FREQUENCIES - 1))
    by_share = torch.pi * 2.0 ** (steps / 3)
    angles = torch.cat(
        [seconds.unsqueeze(-1) * by_second, (seconds / length).unsqueeze(-1) * by_share], dim=-1
    )
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
