"""The training loop of every next-item model, on accelerate.

Cross-entropy over a level's whole vocabulary at every position, AdamW, warm-up, a moving
average of the weights (which is what is validated and exported), early stopping on
validation NDCG@10, a checkpoint an epoch, exact resume after a kill.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec.errors import LlmrecError
from llmrec.loop.average import average_weights
from llmrec.loop.checkpoint import load_best, load_checkpoint, save_best, save_checkpoint
from llmrec.loop.optimizer import parameter_groups
from llmrec.loop.precision import PRECISIONS, bfloat16_products, choose_precision
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate
from llmrec.loop.state import TrainingState
from llmrec.loop.tracking import require_tracker, start_accelerate
from llmrec.training.next_item.batches import SequenceBatch, TrainingBatches
from llmrec.training.next_item.children import ChildrenCrossEntropy
from llmrec.training.next_item.loss import table_cross_entropy
from llmrec.training.next_item.next_item import NextItemModel
from llmrec.training.next_item.settings import TrainLoopConfig

logger = logging.getLogger(__name__)
LEAST_RATE = 0.02  # of the peak, where a cosine ends


class NextItemTrainer:
    """Trains a :class:`NextItemModel`.

    Args:
        model: on the CPU; moved to accelerate's device.
        batches: of the training histories.
        validate: validation metrics of a model, with key ``ndcg@10``.
        config: settings.
        folder: checkpoints and logs go here.
        auxiliary_loss: added to a step's loss, given the model and the step's number.
        predicted: the codes of each level that the softmax is over, sorted; None is all of them.
        later_levels: the loss of the levels after the first; None is the softmax over the level.
        described: what trackers are told of the run
            (:func:`~llmrec.loop.tracking.describe_run`).
    """

    def __init__(
        self,
        model: NextItemModel,
        batches: TrainingBatches,
        validate: Callable[[NextItemModel], dict[str, float]],
        config: TrainLoopConfig,
        folder: Path,
        auxiliary_loss: Callable[[NextItemModel, int], torch.Tensor] | None = None,
        predicted: list[torch.Tensor] | None = None,
        later_levels: ChildrenCrossEntropy | None = None,
        described: Mapping[str, Any] | None = None,
    ) -> None:
        from accelerate import Accelerator

        require_tracker(config.report_to)
        self.config, self.folder = config, folder
        self.batches, self.validate = batches, validate
        self.auxiliary_loss, self.predicted = auxiliary_loss, predicted
        self.later_levels = later_levels
        device = "cuda" if torch.cuda.is_available() else "cpu"
        half = choose_precision(device, PRECISIONS[config.precision]) == "bfloat16"
        # a step's context: on a CPU quicker than autocast
        self.products = bfloat16_products if half and device == "cpu" else nullcontext
        self.accelerator = Accelerator(
            mixed_precision="bf16" if half and device == "cuda" else "no",
            log_with=None if config.report_to == "none" else config.report_to,
            project_dir=str(folder.parent),  # trackers' logs stay with the model
        )
        start_accelerate(self.accelerator, config.report_to, folder.parent, described or {})
        optimizer = torch.optim.AdamW(
            parameter_groups(model.named_parameters(), config.weight_decay),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        weights: dict[str, nn.Module] = {"model": self.plain_model}
        if config.average_decay:
            weights["average"] = average_weights(self.plain_model, config.average_decay)
        self.weights = nn.ModuleDict(weights)
        self.state = TrainingState()

    @property
    def plain_model(self) -> NextItemModel:
        """The model without accelerate's wrapping."""
        model: NextItemModel = self.accelerator.unwrap_model(self.model)
        return model

    @property
    def validated_model(self) -> NextItemModel:
        """What is validated and kept: the model with averaged weights, if there are any."""
        if "average" not in self.weights:
            return self.plain_model
        model: NextItemModel = self.weights["average"].module
        return model

    def run(self) -> TrainingState:
        """Train to the end; afterwards the model holds the best validated weights.

        Raises:
            LlmrecError: if the loss stops being a number; the last checkpoint stays.
        """
        if load_checkpoint(self.folder, self.weights, self.optimizer, self.state):
            logger.info("resuming after epoch %d", self.state.epoch)
        while not self._finished():
            self._epoch()
        load_best(self.folder, self.plain_model)
        self.plain_model.eval()
        self.accelerator.end_training()
        return self.state

    def _finished(self) -> bool:
        state, c = self.state, self.config
        out_of_time = 0 < c.max_minutes * 60 <= state.train_seconds
        out_of_patience = state.out_of_patience(c.patience, c.validate_every)
        return state.epoch >= c.epochs or out_of_time or out_of_patience

    def _epoch(self) -> None:
        from llmrec.loop.bars import ProgressBar

        started, total, targets = time.monotonic(), 0.0, 0
        c, epoch = self.config, self.state.epoch
        steps = len(self.batches.groups(epoch))
        total_steps = c.epochs * steps
        self.schedule = learning_rate_schedule(c.schedule, c.warmup_steps, total_steps, LEAST_RATE)
        self.model.train()
        bar = ProgressBar(self.batches.epoch(epoch), f"epoch {epoch + 1}", steps, leave=False)
        for batch in bar:
            with self.products():
                loss, count = self._step(batch.to(self.accelerator.device))
            total, targets = total + loss * count, targets + count
            bar.set_postfix(loss=f"{total / targets:.3f}")
        self.state.epoch += 1
        self.state.train_seconds += time.monotonic() - started
        entry = {
            "epoch": self.state.epoch,
            "loss": total / targets,
            "minutes": self.state.train_seconds / 60,
        }
        due = self.state.epoch % self.config.validate_every == 0
        if due or self._finished():
            entry |= self._validate()
        self._log(entry)
        save_checkpoint(self.folder, self.weights, self.optimizer, self.state)

    def _step(self, batch: SequenceBatch) -> tuple[float, int]:
        model = self.plain_model
        with self.accelerator.autocast():
            states = self.model(batch.tokens)
        states = states.flatten(0, 1)
        sizes = model.head_sizes()
        wanted = [self._softmax_over(level, batch.codes[level], n) for level, n in enumerate(sizes)]
        losses = [
            self._loss(states, table, wanted[level], batch, level)
            for level, table in enumerate(model.heads(wanted))
            if len(batch.codes[level])  # of several domains, some that nobody of the batch was in
        ]
        loss = torch.stack(losses).sum()
        if self.auxiliary_loss is not None:
            with self.accelerator.autocast():
                loss = loss + self.auxiliary_loss(model, self.state.step)
        value = loss.item()
        if not math.isfinite(value):
            raise LlmrecError(
                f"training: the loss became {value} in epoch {self.state.epoch + 1}, step "
                f"{self.state.step + 1}; the last good checkpoint is in {self.folder}; "
                "lower learning_rate or gradient_clip"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(model.parameters(), self.config.gradient_clip)
        set_learning_rate(self.optimizer, self.schedule(self.state.step))
        self.optimizer.step()
        model.forget_rows()
        self.state.step += 1
        if "average" in self.weights:
            self.weights["average"].update_parameters(model)
        return value, max(map(len, batch.codes))

    def _softmax_over(self, level: int, codes: torch.Tensor, size: int) -> torch.Tensor | None:
        """The codes of a level that a step's softmax is over, sorted; None is all of them.

        Args:
            codes: int64, the step's targets.
            size: of the level.
        """
        if level and self.later_levels is not None:  # which chooses among all
            return None
        known, wanted = None, self.config.negatives
        if self.predicted is not None:
            known = self.predicted[level].to(codes.device)
            size = len(known)
        if not 0 < wanted < size:
            return known
        rng = np.random.default_rng([self.batches.seed, self.state.step, level])
        drawn = torch.from_numpy(rng.choice(size, wanted, replace=False)).to(codes.device)
        return torch.cat([drawn if known is None else known[drawn], codes]).unique()

    def _loss(
        self,
        states: torch.Tensor,
        table: torch.Tensor,
        rows: torch.Tensor | None,
        batch: SequenceBatch,
        level: int,
    ) -> torch.Tensor:
        """Cross-entropy of a level's targets, from the states of all positions.

        Args:
            table: of the level, those of its ``rows`` alone where they are given.
        """
        hidden, codes = states[batch.positions[level]].float(), batch.codes[level]
        if level and self.later_levels is not None:
            return self.later_levels(hidden, table.float(), batch.codes, level)
        if rows is not None:
            codes = torch.searchsorted(rows, codes)
        return table_cross_entropy(hidden, table.float(), codes, self.config.label_smoothing)

    def _validate(self) -> dict[str, float]:
        """Validate, and save the weights if they are the best so far."""
        model = self.validated_model
        model.eval()
        metrics = self.validate(model)
        if self.state.improve(metrics["ndcg@10"]):
            save_best(self.folder, model)
        return {f"validation_{k}": v for k, v in metrics.items()}

    def _log(self, entry: dict[str, Any]) -> None:
        self.state.log.append(entry)
        print("  ".join(f"{k} {_short(v)}" for k, v in entry.items()), flush=True)
        if self.config.report_to != "none":
            values = {k: v for k, v in entry.items() if k != "epoch"}
            self.accelerator.log(values, step=self.state.step)


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
