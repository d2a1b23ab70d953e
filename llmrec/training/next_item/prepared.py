"""What the training loop needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.next_item import NextItemModel


@dataclass
class Prepared:
    """What the loop needs, and how to save the result."""

    model: NextItemModel
    batches: TrainingBatches
    validate: Callable[[NextItemModel], dict[str, float]]
    save: Callable[[Path], None]
    further_loss: Callable[[NextItemModel, int], torch.Tensor] | None = None
