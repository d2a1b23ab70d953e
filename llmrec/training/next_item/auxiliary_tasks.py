"""Auxiliary tasks in words: the same templates and examples that ``llmrec tune`` uses.

A next-item step reads whole histories and learns at every position of them. With ``tasks`` in the
settings it also reads some examples of the mixture (:mod:`llmrec.training.tasks`), and learns their
completions over the whole vocabulary. The examples of step ``n`` depend on the seed and on ``n``
alone, so a killed run is resumed exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from llmrec.generation.engine import right_pad
from llmrec.training.next_item.next_item import LlamaNextItem, NextItemModel
from llmrec.training.tasks.mixture import IGNORED, Mixture
from llmrec.training.tasks.writer import TaskExample


class AuxiliaryTasks:
    """The auxiliary loss of a training step.

    Args:
        mixture: where examples come from.
        examples: how many a step reads.
        weight: of the loss, relative to the histories' own.
    """

    def __init__(self, mixture: Mixture, examples: int, weight: float) -> None:
        self.mixture, self.examples, self.weight = mixture, examples, weight
        self._plan = lru_cache(maxsize=2)(mixture.plan)

    def __call__(self, model: NextItemModel, step: int) -> torch.Tensor:
        """Weighted mean cross-entropy over the completion tokens of a step's examples."""
        assert isinstance(model, LlamaNextItem)
        tokens, labels = (part.to(model.logit_scale.device) for part in self.batch(step))
        learned = labels[:, 1:] != IGNORED
        states = model.hidden(tokens)[:, :-1][learned]
        return self.weight * F.cross_entropy(model.logits(states).float(), labels[:, 1:][learned])

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and labels, int64 ``[examples, length]``, padded on the right."""
        examples = [self._example(step * self.examples + n) for n in range(self.examples)]
        tokens, present = right_pad([np.append(e.prompt_ids, e.completion_ids) for e in examples])
        labels = tokens.masked_fill(~present, IGNORED)
        for row, example in enumerate(examples):
            labels[row, : len(example.prompt_ids)] = IGNORED
        return tokens, labels

    def _example(self, number: int) -> TaskExample:
        epoch, index = divmod(number, len(self.mixture))
        tasks, rows = self._plan(epoch)
        return self.mixture.example(int(tasks[index]), int(rows[index]), number)
