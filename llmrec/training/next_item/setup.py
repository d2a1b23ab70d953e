"""Everything that the training loop needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.children import ChildrenCrossEntropy
from llmrec.training.next_item.next_item import NextItemModel


@dataclass
class TrainingSetup:
    """Model, data, validation and saving of a next-item training run, and counts of it.

    Attributes:
        predicted: the codes of each level that the softmax is over; None is all of them.
        later_levels: the loss of the levels after the first; None is the softmax over the level.
    """

    model: NextItemModel
    batches: TrainingBatches
    validate: Callable[[NextItemModel], dict[str, float]]
    save: Callable[[Path], None]
    auxiliary_loss: Callable[[NextItemModel, int], torch.Tensor] | None = None
    predicted: list[torch.Tensor] | None = None
    later_levels: ChildrenCrossEntropy | None = None
    counts: dict[str, Any] = field(default_factory=dict)
