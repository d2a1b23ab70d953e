"""The training loop of a multimodal LLaMA: warm-up and cosine, checkpoints, exact resume.

Each of the two phases is one :class:`MultimodalPhase`. A checkpoint holds the weights that are
trained, not the frozen ones, which are read from the base again.

This is no subclass of TRL's or transformers' trainer. A run must resume from any step to the same
weights, bit for bit: here an example is a function of the seed, the epoch and the item, and threads
that decode ahead draw nothing. Those trainers resume by reading earlier batches again, which would
decode every picture twice, keep frozen weights in each checkpoint, and pickle their random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from llmrec.captions.training.batches import Batch
from llmrec.captions.training.loader import BatchLoader
from llmrec.captions.training.settings import MultimodalConfig
from llmrec.captions.training.trainable import trainable_parameters, trains_language
from llmrec.captions.training.validation import response_loss, validate
from llmrec.errors import LlmrecError
from llmrec.loop.checkpoint import load_best, load_checkpoint, save_best, save_checkpoint
from llmrec.loop.graceful_stop import Stopped, stop_requested
from llmrec.loop.optimizer import CombinedOptimizer, make_optimizer
from llmrec.loop.precision import PRECISIONS, mixed_precision
from llmrec.loop.progress import Line, RunProgress
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate
from llmrec.loop.state import TrainingState

LEAST_RATE = 0.02  # of the highest, where the cosine ends


@dataclass(frozen=True)
class MultimodalPhase:
    """One of the two phases.

    Attributes:
        name: ``projector`` or ``finetune``.
        epochs: passes over the items.
        lr: highest learning rate.
        first_epoch: epochs of the run before it, so that no two draw alike.
    """

    name: str
    epochs: int
    lr: float
    first_epoch: int = 0


@dataclass
class MultimodalState(TrainingState):
    """The state of a phase.

    Attributes:
        too_long: examples that are longer than the context.
        skipped: item, field and reason of each file that could not be used.
    """

    too_long: int = 0
    skipped: list[tuple[int, str, str]] = field(default_factory=list)


class MultimodalTrainer:
    """Trains the unfrozen weights of a model through one phase.

    Args:
        model: with ``requires_grad`` set on what is trained; on its device.
        loader: of batches.
        phase: how long and fast.
        folder: of the phase's checkpoints.
        progress: of the whole run.
    """

    def __init__(
        self,
        model: Any,
        loader: BatchLoader,
        phase: MultimodalPhase,
        folder: Path,
        progress: RunProgress,
    ) -> None:
        self.model, self.loader, self.phase = model, loader, phase
        self.folder, self.progress = folder, progress
        self.config: MultimodalConfig = loader.corpus.config
        self.device = next(model.parameters()).device
        self.weights = trainable_parameters(model)
        for parameter in self.weights:  # in float32, whatever the rest of the model is in
            parameter.data = parameter.data.float()
        self.optimizer: Any = optimizer_of(model, self.config, phase.lr)
        self.warmup = max(1, round(self.config.warmup * self.steps))
        self.schedule = learning_rate_schedule("cosine", self.warmup, self.steps, LEAST_RATE)
        self.state = MultimodalState()
        # where only the projector or the tower is trained, text alone teaches nothing
        self.only_pictured = not trains_language(model)

    @property
    def steps(self) -> int:
        """Optimizer steps of the phase."""
        return self.phase.epochs * self.loader.steps

    def run(self, offset: int, earlier: Sequence[Line]) -> MultimodalState:
        """Train to the end; afterwards the model holds the weights to keep.

        Args:
            offset: steps of the run before this phase.
            earlier: the log of these.

        Raises:
            LlmrecError: if the loss stops being a number; the last checkpoint stays.
            Stopped: if a stop was requested.
        """
        load_checkpoint(self.folder, self.weights, self.optimizer, self.state)
        for row, name, reason in self.state.skipped:
            self.loader.examples.skipped[row, name] = reason
        self.progress.set_log(earlier)
        self.progress.begin_phase(self.phase.name, offset, self.state.step, self.state.log)
        while self.state.step < self.steps:
            self._epoch()
        self.progress.close()
        if self.config.keep == "best":
            load_best(self.folder, self.weights)
        self.model.eval()
        return self.state

    def _epoch(self) -> None:
        done, start = divmod(self.state.step, self.loader.steps)
        groups = self.loader.groups(self.phase.first_epoch + done)[start:]
        self.model.train()
        for batches in self.loader.load(groups):
            rate = self._rate()
            loss = self._step(batches, rate)
            self.state.step += 1
            self.progress.advance(self.state.step)
            if self.state.step % self.config.logging_steps == 0 and loss is not None:
                self._log({"loss": loss, "learning_rate": self.phase.lr * rate})
            if self.state.step % self.loader.steps == 0:
                self._validate()
                self._save()
            elif self.state.step % self.config.checkpoint_steps == 0:
                self._save()
            self._stop_if_requested()

    def _step(self, batches: Sequence[Batch], rate: float) -> float | None:
        """One optimizer step; its loss a token, None if there was nothing to learn from.

        Args:
            batches: the micro-batches of one batch.
            rate: share of the highest learning rate.
        """
        self.state.too_long += sum(batch.too_long for batch in batches)
        batches = [batch for batch in batches if batch.pictured or not self.only_pictured]
        learned = sum(batch.learned for batch in batches)
        if not learned:
            return None
        self.optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            total += self._backward(batch.to(self.device), learned)
        if not math.isfinite(total):
            raise LlmrecError(
                f"train-multimodal: the loss became {total} in step {self.state.step + 1} of "
                f"{self.phase.name}; the last checkpoint stays; lower {self.phase.name}.lr"
            )
        nn.utils.clip_grad_norm_(self.weights.parameters(), self.config.gradient_clip)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        return total

    def _backward(self, batch: Batch, learned: int) -> float:
        with self.precision():
            logits = self.model(**batch.inputs, use_cache=False).logits
        loss = response_loss(logits, batch.labels) / learned
        loss.backward()
        return loss.item()

    def precision(self) -> AbstractContextManager[Any]:
        """Of a forward pass."""
        return mixed_precision(self.device.type, PRECISIONS[self.config.precision])

    def _rate(self) -> float:
        """Share of the highest learning rate; the last step is made with the least."""
        step = self.state.step
        return self.schedule(step if step < self.warmup else step + 1)

    def _validate(self) -> None:
        self.state.epoch = self.state.step // self.loader.steps
        found = validate(self.model, self.loader, self.precision())
        self.model.train()
        self.progress.restart_clock()
        if not found:
            return
        score = found.get("validation_accuracy", -found["validation_loss"])
        if self.state.improve(score) and self.config.keep == "best":
            save_best(self.folder, self.weights)
        self._log({"epoch": self.state.epoch, **found})

    def _log(self, values: Line) -> None:
        line = {"stage": self.phase.name, "step": self.state.step, **values}
        self.state.log.append(line)
        self.progress.log(line)

    def _save(self) -> None:
        # threads ahead of the model may be noting more
        skipped = sorted(self.loader.examples.skipped.copy().items())
        self.state.skipped = [(*key, why) for key, why in skipped]
        save_checkpoint(self.folder, self.weights, self.optimizer, self.state)

    def _stop_if_requested(self) -> None:
        if not stop_requested():
            return
        self._save()
        self.progress.note_stopped()
        raise Stopped(
            f"train-multimodal: stopped at step {self.state.step} of {self.phase.name}; the same "
            "command goes on from there"
        )


def optimizer_of(model: nn.Module, config: MultimodalConfig, rate: float) -> CombinedOptimizer:
    """An optimizer of all trained weights."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return make_optimizer(
        named,
        lambda name: not ("embed" in name or "lm_head" in name),  # a row a token or place
        config.optimizer or "adamw",
        rate,
        config.weight_decay,
    )
