"""Supervised fine-tuning with TRL: one call that starts, or goes on where it was killed.

Examples come in the order of the mixture, and checkpoints hold everything random and the losses
that no line of the log has told yet, so a run that was stopped at any step ends with the log and
the weights of one that was not.
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

from llmrec.errors import require
from llmrec.loop.progress import Line, Progress
from llmrec.training.tasks.mixture import IGNORED, Mixture
from llmrec.training.tune.callbacks import (
    Finite,
    Stop,
    Watch,
    last_checkpoint,
    lines_of,
    note_processes,
    quieten,
)
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.settings import LoopConfig

__all__ = ["SCHEDULES", "Stretch", "Trained", "fine_tune", "last_checkpoint", "restore"]

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
METRIC = "validation_ndcg@10"  # what the best weights are best at
Values = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stretch:
    """A part of a run with its own loop.

    Attributes:
        name: ``align`` or ``tune``.
        steps: how long it is.
        learning_rate: its peak rate.
        offset: steps of the run before it.
        validate: measures the model on the way, every ``loop.validate_every`` steps; called in
            every process with the model's weights where they lie in shards, else None.
    """

    name: str
    steps: int
    learning_rate: float
    offset: int = 0
    validate: Callable[[Values | None], dict[str, float]] | None = None


@dataclass(frozen=True)
class Trained:
    """What a stretch left beside the model it changed.

    Attributes:
        log: step, loss, learning rate every ``logging_steps``, and validations on the way.
        step: the step whose weights the model has.
        values: all weights by name in the first process where the model lies in shards; None
            where the model itself is whole.
    """

    log: list[Line]
    step: int
    values: Values | None = None


def fine_tune(
    model: Any,
    tokenizer: Any,
    mixture: Mixture,
    stretch: Stretch,
    loop: LoopConfig,
    folder: Path,
    seed: int,
    progress: Progress | None = None,
    processes: Processes | None = None,
) -> Trained:
    """Train what a model has that is trainable.

    Args:
        folder: checkpoints are kept here, and found here when a killed run goes on.
        progress: shows how far it is; by default the run is this stretch alone.
        processes: those that train together.

    Raises:
        LlmrecError: if the loss stops being a number; the last checkpoint stays.
        Stopped: if the run was asked to stop; it goes on from its checkpoint.
    """
    if loop.report_to != "none":
        require(loop.report_to, "wandb" if loop.report_to == "wandb" else "train")
    processes = processes or Processes()
    together = loop.examples_per_step * processes.count
    progress = progress or Progress(stretch.steps, together, shown=processes.first)
    checkpoint = processes.tell(last_checkpoint(folder))
    steps = _ended_early(checkpoint, loop) or stretch.steps
    rows = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    stop = Stop(processes)
    arguments = _arguments(stretch, steps, loop, folder, seed)
    processes.divide()
    trainer = _Trainer(
        model,
        arguments,
        train_dataset=mixture.dataset(steps * together),
        processing_class=tokenizer,
        callbacks=[Finite(folder), Watch(progress, stretch.name, stretch.offset), stop],
    )
    trainer.watch(stretch, loop, processes)
    restore(model, rows)
    del rows
    trainer.train(resume_from_checkpoint=checkpoint)
    stop.check(stretch.name, trainer.state, progress)
    log = lines_of(trainer.state.log_history, stretch.name)
    kept = trainer.keep_best() if loop.keep == "best" else trainer.state.global_step
    values = trainer.gathered()
    model.eval()
    return Trained(log, kept, values)


def _arguments(stretch: Stretch, steps: int, loop: LoopConfig, folder: Path, seed: int) -> Any:
    bf16 = loop.precision == "bf16"
    return SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=stretch.learning_rate,
        lr_scheduler_type=SCHEDULES[loop.schedule],
        warmup_steps=math.ceil(loop.warmup_ratio * stretch.steps),
        weight_decay=0.0,
        per_device_train_batch_size=loop.batch_size,
        gradient_accumulation_steps=loop.gradient_accumulation,
        gradient_checkpointing=loop.gradient_checkpointing,
        max_length=None,  # the mixture has seen to it
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        seed=seed,
        # the mixture is shuffled, and writes its examples when they are read
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=loop.logging_steps,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=loop.save_steps,
        save_total_limit=2,
        metric_for_best_model=METRIC,
        greater_is_better=True,
        report_to=loop.report_to,
    )


class _Trainer(SFTTrainer):
    """TRL's trainer, its loss on a CPU computed where there is something to learn only.

    On a GPU it scores completion tokens alone; on a CPU it would score all of the vocabulary at
    every token of the prompts and the padding as well, which is most of the time a step takes.
    """

    def watch(self, stretch: Stretch, loop: LoopConfig, processes: Processes) -> None:
        """Take what this run adds to TRL's."""
        quieten(self)
        self.processes, self.validate = processes, stretch.validate
        self.untold = _Untold(self)
        self.add_callback(self.untold)
        if stretch.validate is not None and loop.validate_every > 0:
            self.add_callback(_Validate(loop.validate_every, loop.patience))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mean cross-entropy over the completion tokens of the step.

        Several processes leave it to TRL: gradients meet only where the wrapped model is called.
        """
        alone = self.accelerator.num_processes == 1 and not self.processes.sharded
        if return_outputs or not alone or self.accelerator.device.type != "cpu":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        read = plain.model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        )
        labels = inputs["labels"][:, 1:]
        learned = labels != IGNORED
        logits = plain.get_output_embeddings()(read.last_hidden_state[:, :-1][learned])
        count = learned.sum() if num_items_in_batch is None else num_items_in_batch
        total = torch.nn.functional.cross_entropy(logits.float(), labels[learned], reduction="sum")
        return total / count

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate as serving does, in place of a loss on held-out examples."""
        assert self.validate is not None
        found = {f"eval_{name}": value for name, value in self.validate(self.gathered()).items()}
        super(SFTTrainer, self).log(dict(found))
        handler, state = self.callback_handler, self.state
        self.control: Any = handler.on_evaluate(self.args, state, self.control, found)
        return found

    def gathered(self) -> Values | None:
        """All weights in the first process where they lie in shards; None where they do not."""
        if not self.processes.sharded:
            return None
        values: Values = self.accelerator.get_state_dict(self.model_wrapped)
        return values

    def keep_best(self) -> int:
        """Go back to the weights that validated best; the step they are of."""
        step: int = self.state.best_global_step or self.state.global_step
        if step != self.state.global_step:
            self.state.best_model_checkpoint = str(self._checkpoint(step))
            self._load_best_model()
        return step

    def _checkpoint(self, step: int) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.untold.note()
        if self.processes.first:
            note_processes(self._checkpoint(self.state.global_step), self.processes.count)
        super()._save_checkpoint(model, trial)


class _Untold(TrainerCallback, ExportableState):
    """Keeps the losses since the last line of the log in every checkpoint.

    The trainer forgets them when it is stopped, and the next line would be a mean over fewer
    steps than in a run that was not.
    """

    def __init__(self, trainer: _Trainer) -> None:
        self.trainer, self.total, self.logged = trainer, 0.0, 0

    def note(self) -> None:
        """Read them in all processes."""
        own = self.trainer._tr_loss.detach().reshape(1)
        self.total = float(self.trainer.accelerator.gather(own).mean())
        self.logged = self.trainer._globalstep_last_logged

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"args": {}, "attributes": {"total": self.total, "logged": self.logged}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give them back."""
        saved = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if state.global_step > 0:
            self.trainer._tr_loss += saved["attributes"]["total"]
            self.trainer._globalstep_last_logged = saved["attributes"]["logged"]


class _Validate(TrainerCallback):
    """Validates on the way, with a checkpoint each time, and ends what no longer gets better."""

    def __init__(self, every: int, patience: int) -> None:
        self.every, self.patience = every, patience

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Ask for it where it is due, and after the last step."""
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Count the validations since the best one."""
        if out_of_patience(state.log_history, self.patience):
            control.should_training_stop = True
        return control


def out_of_patience(history: list[dict[str, Any]], patience: int) -> bool:
    """Whether the last ``patience`` validations were no better than one before; 0 is never."""
    found = [entry[f"eval_{METRIC}"] for entry in history if f"eval_{METRIC}" in entry]
    return 0 < patience < len(found) and max(found[-patience:]) <= max(found[:-patience])


def _ended_early(checkpoint: str | None, loop: LoopConfig) -> int | None:
    """The step after which a run was out of patience, if that is where it goes on."""
    if checkpoint is None:
        return None
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
    step: int = state["global_step"]
    return step if out_of_patience(state["log_history"], loop.patience) else None


@torch.no_grad()
def restore(model: Any, values: dict[str, torch.Tensor]) -> None:
    """Give trained parameters their values and 32 bits.

    TRL rounds what is trained beside a base in 4 bits to bf16, which small steps do not survive.
    """
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.data = values[name].float()
