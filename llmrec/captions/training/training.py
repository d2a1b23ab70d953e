"""The training loop of a multimodal LLaMA: warm-up and cosine, checkpoints, exact resume.

Each of the two steps is one :class:`Stretch`. A checkpoint holds the weights that learn, not the
frozen ones, which are read from the base again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmrec.captions.training.batches import Batch
from llmrec.captions.training.feed import Feed
from llmrec.captions.training.parts import in_full_precision, learning, learns_language
from llmrec.captions.training.settings import MultimodalConfig
from llmrec.captions.training.validation import answer_loss, validate
from llmrec.errors import LlmrecError
from llmrec.loop.checkpoint import load_checkpoint, save_checkpoint
from llmrec.loop.optimizer import Together, make_optimizer
from llmrec.loop.progress import Line, Progress
from llmrec.loop.stopping import Stopped, asked

LEAST_RATE = 0.02  # of the highest, where the cosine ends
BEST = "best.safetensors"


@dataclass(frozen=True)
class Stretch:
    """One of the two steps.

    Attributes:
        name: ``projector`` or ``second``.
        epochs: passes over the items.
        lr: highest learning rate.
        first_epoch: epochs of the run before it, so that no two draw alike.
    """

    name: str
    epochs: int
    lr: float
    first_epoch: int = 0


@dataclass
class State:
    """What a stretch knows of itself; saved with every checkpoint."""

    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    too_long: int = 0
    log: list[Line] = field(default_factory=list)
    skipped: list[tuple[int, str, str]] = field(default_factory=list)


class Trainer:
    """Trains what of a model may learn through one stretch.

    Args:
        model: with ``requires_grad`` set where it learns; on its device.
        feed: deals the examples.
        stretch: how long and fast.
        folder: of the stretch's checkpoints.
        progress: of the whole run.
    """

    def __init__(
        self, model: Any, feed: Feed, stretch: Stretch, folder: Path, progress: Progress
    ) -> None:
        self.model, self.feed, self.stretch = model, feed, stretch
        self.folder, self.progress = folder, progress
        self.config: MultimodalConfig = feed.corpus.config
        self.device = next(model.parameters()).device
        self.weights = learning(model)
        in_full_precision(self.weights)
        self.optimizer: Any = optimizer_of(model, self.config, stretch.lr)
        self.state = State()
        # where only what is behind a picture learns, words alone teach nothing
        self.only_pictured = not learns_language(model)

    @property
    def steps(self) -> int:
        """Updates of the stretch."""
        return self.stretch.epochs * self.feed.steps

    def run(self, offset: int, earlier: Sequence[Line]) -> State:
        """Train to the end; afterwards the model holds the weights to keep.

        Args:
            offset: updates of the run before this stretch.
            earlier: the log of these.

        Raises:
            LlmrecError: if the loss stops being a number; the last checkpoint stays.
            Stopped: if the run was asked to stop.
        """
        saved = load_checkpoint(self.folder, self.weights, {}, self.optimizer)
        if saved is not None:
            known = {k: v for k, v in saved.items() if k in State.__dataclass_fields__}
            self.state = State(**known)
            for row, name, reason in self.state.skipped:
                self.feed.opener.skipped[row, name] = reason
        self.progress.so_far(earlier)
        self.progress.begin(self.stretch.name, offset, self.state.step, self.state.log)
        while self.state.step < self.steps:
            self._epoch()
        self.progress.close()
        self._keep_best()
        return self.state

    def _epoch(self) -> None:
        done, start = divmod(self.state.step, self.feed.steps)
        groups = self.feed.groups(self.stretch.first_epoch + done)[start:]
        self.model.train()
        for batches in self.feed.opened(groups):
            rate = self._rate()
            loss = self._step(batches, rate)
            self.state.step += 1
            self.progress.advance(self.state.step)
            if self.state.step % self.config.logging_steps == 0 and loss is not None:
                self._log({"loss": loss, "learning_rate": rate})
            if self.state.step % self.feed.steps == 0:
                self._validate()
                self._save()
            elif self.state.step % self.config.checkpoint_steps == 0:
                self._save()
            self._stop_if_asked()

    def _step(self, batches: Sequence[Batch], rate: float) -> float | None:
        """Learn from a batch; its loss a token, None if there was nothing to learn from."""
        self.state.too_long += sum(batch.too_long for batch in batches)
        batches = [batch for batch in batches if batch.pictured or not self.only_pictured]
        learned = sum(batch.learned for batch in batches)
        if not learned:
            return None
        self.optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            total += self._learn(batch.to(self.device), learned)
        if not math.isfinite(total):
            raise LlmrecError(
                f"train-multimodal: the loss became {total} in step {self.state.step + 1} of "
                f"{self.stretch.name}; the last checkpoint stays; lower {self.stretch.name}.lr"
            )
        nn.utils.clip_grad_norm_(self.weights.parameters(), self.config.gradient_clip)
        self.optimizer.scale_rates(rate / self.stretch.lr)
        self.optimizer.step()
        return total

    def _learn(self, batch: Batch, learned: int) -> float:
        with self.precision():
            logits = self.model(**batch.inputs, use_cache=False).logits
        loss = answer_loss(logits, batch.labels) / learned
        loss.backward()
        return loss.item()

    def precision(self) -> AbstractContextManager[Any]:
        """Of a forward pass: bfloat16 where it is asked for, or there is a GPU."""
        wanted = self.config.precision
        if wanted == "bf16" or (wanted == "auto" and self.device.type == "cuda"):
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _rate(self) -> float:
        step, steps = self.state.step + 1, self.steps
        warm = max(1, round(self.config.warmup * steps))
        if step <= warm:
            return self.stretch.lr * step / warm
        done = (step - warm) / max(1, steps - warm)
        return self.stretch.lr * (
            LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * done)) / 2
        )

    def _validate(self) -> None:
        epoch = self.state.step // self.feed.steps
        found = validate(self.model, self.feed, self.precision())
        self.model.train()
        self.progress.resume()
        if not found:
            return
        score = found.get("validation_accuracy", -found["validation_loss"])
        if score > self.state.best:
            self.state.best, self.state.best_epoch = score, epoch
            if self.config.keep == "best":
                self._save_best()
        self._log({"epoch": epoch, **found})

    def _log(self, values: Line) -> None:
        line = {"stage": self.stretch.name, "step": self.state.step, **values}
        self.state.log.append(line)
        self.progress.log(line)

    def _save(self) -> None:
        opener = self.feed.opener
        # threads ahead of the model may be noting more
        self.state.skipped = [(*key, why) for key, why in sorted(opener.skipped.copy().items())]
        save_checkpoint(self.folder, self.weights, {}, self.optimizer, vars(self.state))

    def _stop_if_asked(self) -> None:
        if not asked():
            return
        self._save()
        self.progress.stopped()
        raise Stopped(
            f"train-multimodal: stopped at step {self.state.step} of {self.stretch.name}; the same "
            "command goes on from there"
        )

    def _save_best(self) -> None:
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{BEST}.part"
        save_file({k: v.detach().cpu() for k, v in self.weights.state_dict().items()}, partial)
        partial.replace(self.folder / BEST)

    def _keep_best(self) -> None:
        from safetensors.torch import load_file

        path = self.folder / BEST
        if self.config.keep == "best" and path.is_file():
            self.weights.load_state_dict(load_file(path))
        self.model.eval()


def optimizer_of(model: nn.Module, config: MultimodalConfig, rate: float) -> Together:
    """An optimizer of all that learns."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return make_optimizer(
        named, lambda name: not _is_table(name), config.optimizer or "adamw", rate,
        config.weight_decay,
    )  # fmt: skip


def _is_table(name: str) -> bool:
    """Whether a matrix has a row a token or place, which Muon is not for."""
    return "embed" in name or "lm_head" in name
