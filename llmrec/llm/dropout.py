"""Dropout whose mask costs a byte an element.

On a CPU torch draws a number an element, one after the other: in a small model that takes longer
than its matrix products. A byte is enough to decide, and a draw gives eight of them.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

_LEVELS = 256  # values of a byte


def dropout(values: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """Zero a share of the elements and scale the others so that the mean stays.

    Args:
        values: float, of any shape.
        rate: share to drop, in [0, 1); on a CPU rounded to a 256th.
        training: False returns ``values``.
    """
    if not training or rate == 0:
        return values
    kept = _LEVELS - round(rate * _LEVELS)
    if values.device.type != "cpu" or kept in (0, _LEVELS):
        return F.dropout(values, rate)
    draws = torch.empty((values.numel() + 7) // 8, dtype=torch.int64).random_(-(1 << 63), None)
    mask = draws.view(torch.uint8)[: values.numel()].view(values.shape) < kept
    return values * mask.to(values.dtype).mul_(_LEVELS / kept)
