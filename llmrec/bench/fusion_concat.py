"""The encoder that fusion is compared with: all blocks side by side, zeros for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrec.content.fusion.settings import FusionShape


class ConcatEncoder(nn.Module):
    """An MLP over the concatenation.

    Args:
        config: ``modalities``, ``dim``, ``width`` (hidden units are four times that), ``layers``
            (hidden layers), ``dropout`` and ``input_dropout`` are used.
    """

    def __init__(self, config: FusionShape) -> None:
        super().__init__()
        self.config = config
        hidden = 4 * config.width
        sizes = [sum(config.modalities.values()), *[hidden] * config.layers]
        layers: list[nn.Module] = [nn.Dropout(config.input_dropout)]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after)]
            layers += [nn.GELU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], config.dim))

    def forward(self, blocks: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Unit rows ``[items, dim]``; arguments as of :class:`FusionEncoder`."""
        filled = [
            blocks[name].masked_fill(~present[:, [column]], 0.0)
            for column, name in enumerate(self.config.modalities)
        ]
        return F.normalize(self.layers(torch.cat(filled, dim=1)), dim=-1)
