"""Supervised fine-tuning with TRL: one call that starts, or goes on where it was killed.

Examples come in the order of the mixture, and checkpoints hold everything random, so a run that
was stopped ends with the losses of one that was not.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from llmrec.errors import LlmrecError, require
from llmrec.tasks.mixture import IGNORED, Mixture
from llmrec.tune.settings import LoopConfig

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_KEPT = ("step", "loss", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class Stretch:
    """A part of a run with its own loop.

    Attributes:
        name: ``align`` or ``tune``.
        steps: how long it is.
        learning_rate: its peak rate.
    """

    name: str
    steps: int
    learning_rate: float


def fine_tune(
    model: Any,
    tokenizer: Any,
    mixture: Mixture,
    stretch: Stretch,
    loop: LoopConfig,
    folder: Path,
    seed: int,
) -> list[dict[str, Any]]:
    """Train what a model has that is trainable.

    Args:
        folder: checkpoints are kept here, and found here when a killed run goes on.

    Returns:
        the log: step, loss, learning rate and so on, every ``logging_steps``.

    Raises:
        LlmrecError: if the loss stops being a number; the last checkpoint stays.
    """
    if loop.report_to != "none":
        require(loop.report_to, "wandb" if loop.report_to == "wandb" else "train")
    rows = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    trainer = _Trainer(
        model,
        _arguments(stretch, loop, folder, seed),
        train_dataset=mixture.dataset(stretch.steps * loop.examples_per_step),
        processing_class=tokenizer,
        callbacks=[_Finite(folder), _LogWhereSaved()],
    )
    _restore(model, rows)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    model.eval()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [
        {"stage": stretch.name} | {key: entry[key] for key in _KEPT if key in entry}
        for entry in log
    ]


def _arguments(stretch: Stretch, loop: LoopConfig, folder: Path, seed: int) -> Any:
    bf16 = loop.precision == "bf16"
    return SFTConfig(
        output_dir=str(folder),
        max_steps=stretch.steps,
        learning_rate=stretch.learning_rate,
        lr_scheduler_type=_SCHEDULES[loop.schedule],
        warmup_steps=math.ceil(loop.warmup_ratio * stretch.steps),
        weight_decay=0.0,
        per_device_train_batch_size=loop.batch_size,
        gradient_accumulation_steps=loop.gradient_accumulation,
        gradient_checkpointing=loop.gradient_checkpointing,
        max_length=None,  # the mixture has seen to it
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        # the mixture is shuffled, and writes its examples when they are read
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=loop.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=loop.save_steps,
        save_total_limit=2,
        report_to=loop.report_to,
    )


class _Trainer(SFTTrainer):
    """TRL's trainer, its loss on a CPU computed where there is something to learn only.

    On a GPU it scores completion tokens alone; on a CPU it would score all of the vocabulary at
    every token of the prompts and the padding as well, which is most of the time a step takes.
    """

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mean cross-entropy over the completion tokens of the step."""
        alone = self.accelerator.num_processes == 1
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


@torch.no_grad()
def _restore(model: Any, values: dict[str, torch.Tensor]) -> None:
    """Give trained parameters their values and 32 bits.

    TRL rounds what is trained beside a base in 4 bits to bf16, which small steps do not survive.
    """
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.data = values[name].float()


class _Finite(TrainerCallback):
    """Stops before a step that would spoil the weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the gradients: where a loss is no number, they are none either."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if math.isfinite(float(torch.nn.utils.get_total_norm(gradients))):
            return
        kept = last_checkpoint(self.folder)
        raise LlmrecError(
            f"training: the loss stopped being a number at step {state.global_step + 1}; "
            + (f"the last good checkpoint is {kept}" if kept else "no checkpoint had been written")
            + "; lower loop.learning_rate or align.learning_rate"
        )


class _LogWhereSaved(TrainerCallback):
    """A line of the log at every checkpoint, so that lines are the same after a restart."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if control.should_save:
            control.should_log = True
        return control


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint in a folder, or None."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))
    for checkpoint in reversed(found):
        try:  # written last
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(checkpoint)
    return None
