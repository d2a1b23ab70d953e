"""The training loop: one for every next-item model, on accelerate.

Cross-entropy over a level's whole vocabulary at every position, AdamW, warm-up, a moving
average of the weights (which is what is validated and exported), early stopping on
validation NDCG@10, a checkpoint an epoch, exact resume after a kill.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmrec.errors import LlmrecError, require
from llmrec.loop.checkpoint import load_checkpoint, save_checkpoint
from llmrec.training.next_item.batches import Batch, TrainingBatches
from llmrec.training.next_item.loss import table_cross_entropy
from llmrec.training.next_item.next_item import NextItemModel
from llmrec.training.next_item.settings import LoopConfig

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a run knows of itself; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    train_seconds: float = 0.0
    best_ndcg: float = -1.0
    best_epoch: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Trains a :class:`NextItemModel`.

    Args:
        model: on the CPU; moved to accelerate's device.
        batches: deals the training histories.
        validate: gives validation metrics of the model as it is, with key ``ndcg@10``.
        config: settings.
        folder: checkpoints and logs go here.
        further_loss: what else a step learns, given the model and the step's number.
    """

    def __init__(
        self,
        model: NextItemModel,
        batches: TrainingBatches,
        validate: Callable[[NextItemModel], dict[str, float]],
        config: LoopConfig,
        folder: Path,
        further_loss: Callable[[NextItemModel, int], torch.Tensor] | None = None,
    ) -> None:
        from accelerate import Accelerator

        if config.report_to != "none":
            require(config.report_to, "wandb" if config.report_to == "wandb" else "train")
        self.config, self.folder = config, folder
        self.batches, self.validate = batches, validate
        self.further_loss = further_loss
        self.accelerator = Accelerator(
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            log_with=None if config.report_to == "none" else config.report_to,
            project_dir=str(folder.parent),  # trackers' logs stay with the model
        )
        if config.report_to != "none":
            self.accelerator.init_trackers("tracking")
        optimizer = torch.optim.AdamW(
            _parameter_groups(model, config.weight_decay),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.average: dict[str, torch.Tensor] = {}
        self.progress = Progress()

    @property
    def plain_model(self) -> NextItemModel:
        """The model without accelerate's wrapping."""
        model: NextItemModel = self.accelerator.unwrap_model(self.model)
        return model

    def run(self) -> Progress:
        """Train to the end; afterwards the model holds the best validated weights.

        Raises:
            LlmrecError: if the loss stops being a number; the last checkpoint stays.
        """
        state = load_checkpoint(self.folder, self.plain_model, self.average, self.optimizer)
        if state is not None:
            known = {k: v for k, v in state.items() if k in Progress.__dataclass_fields__}
            self.progress = Progress(**known)
            logger.info("going on after epoch %d", self.progress.epoch)
        while not self._finished():
            self._epoch()
        self._load_best()
        self.accelerator.end_training()
        return self.progress

    def _finished(self) -> bool:
        p, c = self.progress, self.config
        waited = (p.epoch - p.best_epoch) // c.validate_every
        out_of_time = c.max_minutes > 0 and p.train_seconds >= c.max_minutes * 60
        return p.epoch >= c.epochs or out_of_time or (p.epoch > 0 and waited >= c.patience)

    def _epoch(self) -> None:
        from tqdm import tqdm

        started, total, targets = time.monotonic(), 0.0, 0
        groups = self.batches.groups(self.progress.epoch)
        sequences = self.batches.said(self.progress.epoch)
        self.model.train()
        bar = tqdm(groups, desc=f"epoch {self.progress.epoch + 1}", leave=False, mininterval=2)
        for group in bar:
            batch = self.batches.batch([sequences[i] for i in group])
            loss, count = self._step(batch.to(self.accelerator.device), len(groups))
            total, targets = total + loss * count, targets + count
            bar.set_postfix(loss=f"{total / targets:.3f}")
        self.progress.epoch += 1
        self.progress.train_seconds += time.monotonic() - started
        entry = {
            "epoch": self.progress.epoch,
            "loss": total / targets,
            "minutes": self.progress.train_seconds / 60,
        }
        due = self.progress.epoch % self.config.validate_every == 0
        if due or self._finished():
            entry |= self._validate_average()
        self._log(entry)
        save_checkpoint(
            self.folder, self.plain_model, self.average, self.optimizer, vars(self.progress)
        )

    def _step(self, batch: Batch, steps_per_epoch: int) -> tuple[float, int]:
        model = self.plain_model
        with self.accelerator.autocast():
            states = self.model(batch.tokens)
        states = states.flatten(0, 1)
        losses = [
            table_cross_entropy(
                states[where].float(), table.float(), codes, self.config.label_smoothing
            )
            for where, codes, table in zip(batch.positions, batch.codes, model.heads(), strict=True)
        ]
        loss = torch.stack(losses).sum()
        if self.further_loss is not None:
            with self.accelerator.autocast():
                loss = loss + self.further_loss(model, self.progress.step)
        value = loss.item()
        if not math.isfinite(value):
            raise LlmrecError(
                f"training: the loss became {value} in epoch {self.progress.epoch + 1}, step "
                f"{self.progress.step + 1}; the last good checkpoint is in {self.folder}; "
                "lower learning_rate or gradient_clip"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(model.parameters(), self.config.gradient_clip)
        self._set_rate(steps_per_epoch)
        self.optimizer.step()
        forget_rows(model)
        self.progress.step += 1
        self._update_average(model)
        return value, len(batch.codes[0])

    def _set_rate(self, steps_per_epoch: int) -> None:
        c, step = self.config, self.progress.step + 1
        factor = min(1.0, step / max(1, c.warmup_steps))
        if c.schedule == "cosine":
            done = min(1.0, step / (c.epochs * steps_per_epoch))
            factor *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = c.learning_rate * factor

    @torch.no_grad()
    def _update_average(self, model: nn.Module) -> None:
        if not self.config.average_decay:
            return
        weights = dict(model.named_parameters())
        if not self.average:
            self.average |= {k: v.detach().clone() for k, v in weights.items()}
            return
        step = self.progress.step  # early on, forget the start faster
        decay = min(self.config.average_decay, (1 + step) / (10 + step))
        names = list(self.average)
        torch._foreach_mul_([self.average[n] for n in names], decay)
        torch._foreach_add_(
            [self.average[n] for n in names],
            [weights[n].detach() for n in names],
            alpha=1 - decay,
        )

    def _validate_average(self) -> dict[str, float]:
        """Validate the averaged weights; keep them if they are the best so far."""
        model = self.plain_model
        current = {k: v.detach().clone() for k, v in model.named_parameters()}
        _copy_into(model, self.average)
        model.eval()
        metrics = self.validate(model)
        if metrics["ndcg@10"] > self.progress.best_ndcg:
            self.progress.best_ndcg = metrics["ndcg@10"]
            self.progress.best_epoch = self.progress.epoch
            self._save_best(model)
        _copy_into(model, current)
        return {f"validation_{k}": v for k, v in metrics.items()}

    def _save_best(self, model: nn.Module) -> None:
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.detach().cpu().contiguous() for k, v in model.named_parameters()}
        partial = self.folder / "best.safetensors.part"
        save_file(weights, partial)
        partial.replace(self.folder / "best.safetensors")

    def _load_best(self) -> None:
        from safetensors.torch import load_file

        _copy_into(self.plain_model, load_file(self.folder / "best.safetensors"))
        self.plain_model.eval()

    def _log(self, entry: dict[str, Any]) -> None:
        self.progress.log.append(entry)
        print("  ".join(f"{k} {_short(v)}" for k, v in entry.items()), flush=True)
        if self.config.report_to != "none":
            values = {k: v for k, v in entry.items() if k != "epoch"}
            self.accelerator.log(values, step=self.progress.step)
        (self.folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "log.json").write_text(json.dumps(self.progress.log, indent=1))


def forget_rows(model: nn.Module) -> None:
    """Tell a model that caches computed rows that its weights have changed."""
    if hasattr(model, "forget_rows"):
        model.forget_rows()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


@torch.no_grad()
def _copy_into(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])
    forget_rows(model)


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
