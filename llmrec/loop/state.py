"""What a training loop knows of itself, and early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainingState:
    """Counters and history of a run; saved with every checkpoint.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        train_seconds: spent on them, validation not counted.
        best_score: of the best validation, higher is better.
        best_epoch: the epoch after which that was, from 1.
        log: a line per epoch or per some steps.
    """

    epoch: int = 0
    step: int = 0
    train_seconds: float = 0.0
    best_score: float = -math.inf
    best_epoch: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)

    def improve(self, score: float) -> bool:
        """Note a validation's score; True where it is the best so far, whose weights to keep."""
        if not score > self.best_score:
            return False
        self.best_score, self.best_epoch = score, self.epoch
        return True

    def out_of_patience(self, patience: int, every: int = 1) -> bool:
        """Whether ``patience`` validations in a row were no better; one each ``every`` epochs.

        >>> state = TrainingState(epoch=2)
        >>> state.improve(0.5), state.out_of_patience(2)
        (True, False)
        >>> state.epoch = 4
        >>> state.improve(0.4), state.out_of_patience(2)
        (False, True)
        """
        return self.epoch > 0 and (self.epoch - self.best_epoch) // every >= patience
