"""Supervised fine-tuning with TRL: one call that starts or resumes a training phase.

Examples come in the order of the mixture, and checkpoints hold all random state and the losses
since the last line of the log, so a run that was stopped at any step ends with the log and the
weights of one that was not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import ExportableState, TrainerCallback
from trl import SFTConfig, SFTTrainer

from llmrec.loop.progress import Line, RunProgress
from llmrec.loop.tracking import require_tracker
from llmrec.training.tasks.mixture import IGNORED, Mixture
from llmrec.training.tune.callbacks import (
    FiniteGradients,
    ReportProgress,
    StopOnRequest,
    last_checkpoint,
    log_lines,
    note_processes,
    remove_console_callbacks,
)
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.settings import TuneLoopConfig
from llmrec.training.tune.trainer import products, trainer_arguments

METRIC = "validation_ndcg@10"  # what the best weights are best at
GROUP_COST = 32  # tokens that could be read in the time of one more forward pass
Values = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingPhase:
    """A part of a run with a loop of its own.

    Attributes:
        name: ``align`` or ``tune``.
        steps: of the optimizer.
        learning_rate: peak rate.
        offset: steps of the run before it.
        validate: measures the model every ``loop.validate_every`` steps; called in every process
            with the model's weights where they are sharded, else None.
    """

    name: str
    steps: int
    learning_rate: float
    offset: int = 0
    validate: Callable[[Values | None], dict[str, float]] | None = None


@dataclass(frozen=True)
class PhaseResult:
    """Result of a phase, beside the model it changed.

    Attributes:
        log: step, loss, learning rate every ``logging_steps``, and validations in between.
        step: the step whose weights the model has.
        values: all weights by name in the first process where the model is sharded, else None.
    """

    log: list[Line]
    step: int
    values: Values | None = None


def fine_tune(
    model: Any,
    tokenizer: Any,
    mixture: Mixture,
    phase: TrainingPhase,
    loop: TuneLoopConfig,
    folder: Path,
    seed: int,
    progress: RunProgress,
    processes: Processes,
) -> PhaseResult:
    """Train the trainable weights of a model.

    Args:
        folder: of checkpoints; a killed run is resumed from the last one here.
        progress, processes: of the whole run.

    Raises:
        LlmrecError: if the loss stops being a number; the last checkpoint stays.
        Stopped: after a request to stop; it is resumed from its checkpoint.
    """
    require_tracker(loop.report_to)
    batch = loop.examples_per_step * processes.count
    checkpoint = processes.broadcast(last_checkpoint(folder))
    steps = _ended_early(checkpoint, loop) or phase.steps
    rows = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    stop = StopOnRequest(processes)
    arguments = trainer_arguments(loop, folder, seed, steps) | {
        "learning_rate": phase.learning_rate,
        "warmup_steps": math.ceil(loop.warmup_ratio * phase.steps),
        "max_length": None,  # the mixture keeps to it
        "ddp_find_unused_parameters": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "metric_for_best_model": METRIC,
        "greater_is_better": True,
    }
    settings = SFTConfig(**arguments)
    processes.allow_cpu_sharding()
    trainer = _Trainer(
        model,
        settings,
        train_dataset=mixture.dataset(steps * batch),
        processing_class=tokenizer,
        callbacks=[
            FiniteGradients(folder),
            ReportProgress(progress, phase.name, phase.offset),
            stop,
        ],
    )
    trainer.configure(phase, loop, processes)
    if loop.precision != "bf16-true":
        restore_float32(model, rows)
    del rows
    with products(loop):
        trainer.train(resume_from_checkpoint=checkpoint)
    stop.check(phase.name, trainer.state, progress)
    log = log_lines(trainer.state.log_history, phase.name)
    kept = trainer.keep_best() if loop.keep == "best" else trainer.state.global_step
    values = trainer.gathered()
    model.eval()
    return PhaseResult(log, kept, values)


class _Trainer(SFTTrainer):
    """TRL's trainer, with a loss on a CPU that is computed at completion tokens alone.

    That is what TRL does on a GPU; on a CPU it would score the whole vocabulary at every token of
    prompts and padding as well, which is most of the time a step takes. Short examples are not
    padded to the length of the longest.
    """

    def configure(self, phase: TrainingPhase, loop: TuneLoopConfig, processes: Processes) -> None:
        """Add the callbacks and the validation of this run."""
        remove_console_callbacks(self)
        self.processes, self.validate = processes, phase.validate
        self.unlogged = _UnloggedLoss(self)
        self.add_callback(self.unlogged)
        if phase.validate is not None and loop.validate_every > 0:
            self.add_callback(_ValidateEvery(loop.validate_every, loop.patience))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mean cross-entropy over the completion tokens of the step.

        Several processes leave it to TRL: gradients are reduced only where the wrapped model is
        called.
        """
        alone = self.accelerator.num_processes == 1 and not self.processes.sharded
        if return_outputs or not alone or self.accelerator.device.type != "cpu":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        lengths = inputs["attention_mask"].sum(1)
        total: Any = 0.0
        for rows in alike(lengths):
            width = int(lengths[rows].max())
            total = total + self._summed_loss(
                plain, {name: part[rows, :width] for name, part in inputs.items()}
            )
        learned = (inputs["labels"][:, 1:] != IGNORED).sum()
        return total / (learned if num_items_in_batch is None else num_items_in_batch)

    def _summed_loss(self, plain: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        read = plain.model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        )
        labels = inputs["labels"][:, 1:]
        learned = labels != IGNORED
        logits = plain.get_output_embeddings()(read.last_hidden_state[:, :-1][learned])
        return torch.nn.functional.cross_entropy(logits.float(), labels[learned], reduction="sum")

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate through the serving decoder, instead of a loss on held-out examples."""
        assert self.validate is not None
        found = {f"eval_{name}": value for name, value in self.validate(self.gathered()).items()}
        super(SFTTrainer, self).log(dict(found))
        handler, state = self.callback_handler, self.state
        self.control: Any = handler.on_evaluate(self.args, state, self.control, found)
        return found

    def gathered(self) -> Values | None:
        """All weights in the first process where they are sharded, else None."""
        if not self.processes.sharded:
            return None
        values: Values = self.accelerator.get_state_dict(self.model_wrapped)
        return values

    def keep_best(self) -> int:
        """Load the weights that validated best; returns their step."""
        step: int = self.state.best_global_step or self.state.global_step
        if step != self.state.global_step:
            self.state.best_model_checkpoint = str(self._checkpoint(step))
            self._load_best_model()
        return step

    def _checkpoint(self, step: int) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.unlogged.gather()
        if self.processes.first:
            note_processes(self._checkpoint(self.state.global_step), self.processes.count)
        super()._save_checkpoint(model, trial)


def alike(lengths: torch.Tensor) -> list[torch.Tensor]:
    """Rows of a batch in groups of like length, where that saves more padding than it costs.

    A batch of several tasks has short histories and long texts. Padding stands on the right.

    Args:
        lengths: int64 ``[rows]``.

    >>> [rows.tolist() for rows in alike(torch.tensor([90, 2, 2, 88]))]
    [[1, 2], [3, 0]]
    >>> [rows.tolist() for rows in alike(torch.tensor([9, 7, 8]))]
    [[1, 2, 0]]
    """
    order = lengths.argsort(stable=True)
    rising = lengths[order].tolist()
    cost, start = [0], [0]  # of the first rows, in tokens; where their last group begins
    for end in range(1, len(rising) + 1):
        costs = [cost[at] + (end - at) * rising[end - 1] + GROUP_COST for at in range(end)]
        cost.append(min(costs))
        start.append(costs.index(min(costs)))
    groups, end = [], len(rising)
    while end > 0:
        groups.append(order[start[end] : end])
        end = start[end]
    return groups[::-1]


class _UnloggedLoss(TrainerCallback, ExportableState):
    """Keeps the loss since the last line of the log in every checkpoint.

    The trainer drops it when it is stopped, and the next line would be a mean over fewer steps
    than in a run that was not.
    """

    def __init__(self, trainer: _Trainer) -> None:
        self.trainer, self.total, self.logged = trainer, 0.0, 0

    def gather(self) -> None:
        """Read it in all processes, before a checkpoint."""
        own = self.trainer._tr_loss.detach().reshape(1)
        self.total = float(self.trainer.accelerator.gather(own).mean())
        self.logged = self.trainer._globalstep_last_logged

    def state(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"args": {}, "attributes": {"total": self.total, "logged": self.logged}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restore it."""
        saved = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if state.global_step > 0:
            self.trainer._tr_loss += saved["attributes"]["total"]
            self.trainer._globalstep_last_logged = saved["attributes"]["logged"]


class _ValidateEvery(TrainerCallback):
    """Validates every so many steps, with a checkpoint each time, and stops early."""

    def __init__(self, every: int, patience: int) -> None:
        self.every, self.patience = every, patience

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Request a validation where it is due, and after the last step."""
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop where patience has run out."""
        if out_of_patience(state.log_history, self.patience):
            control.should_training_stop = True
        return control


def out_of_patience(history: list[dict[str, Any]], patience: int) -> bool:
    """Whether the last ``patience`` validations were no better than one before; 0 is never."""
    found = [entry[f"eval_{METRIC}"] for entry in history if f"eval_{METRIC}" in entry]
    return 0 < patience < len(found) and max(found[-patience:]) <= max(found[:-patience])


def _ended_early(checkpoint: str | None, loop: TuneLoopConfig) -> int | None:
    """The step of a checkpoint at which patience had run out, else None."""
    if checkpoint is None:
        return None
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
    step: int = state["global_step"]
    return step if out_of_patience(state["log_history"], loop.patience) else None


@torch.no_grad()
def restore_float32(model: Any, values: dict[str, torch.Tensor]) -> None:
    """Give trained parameters their values back, in float32.

    TRL rounds what is trained beside a base in 4 bits to bf16, in which small steps are lost.
    """
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.data = values[name].float()
