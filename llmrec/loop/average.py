"""Exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model whose weights follow the model's, by ``update_parameters`` after a step.

    At the n-th update the decay is ``min(decay, (1 + n) / (10 + n))``: early on the average
    forgets the start faster. The first update copies. ``average.module`` is the model to
    validate and to save; ``average.state_dict()`` belongs in a checkpoint.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], weights: list[Tensor], updates: Tensor) -> None:
        n = int(updates) + 1
        kept = min(decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(averages, weights, 1 - kept)

    return AveragedModel(model, multi_avg_fn=update)
