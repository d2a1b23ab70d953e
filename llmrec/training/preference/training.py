"""What both methods share: the loop's settings for TRL, the model to train, and the run itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from llmrec.errors import require
from llmrec.llm.adapters import attach
from llmrec.loop.progress import Progress
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.tune.adapter import with_adapter
from llmrec.training.tune.base import Base, load_model
from llmrec.training.tune.callbacks import Finite, Stop, Watch, last_checkpoint, quieten
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.sft import SCHEDULES, restore

TRAINED = "default"  # what TRL expects the adapter to be called
_KEPT = {
    "step": "step",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "kl": "kl",
    "expected_reward": "expected_reward",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
}


def open_model(base: Base, adapter: Path | None, config: PreferConfig) -> Any:
    """A peft model whose only trained weights are those of an adapter.

    Args:
        adapter: where it starts; None begins a fresh one.

    Raises:
        ConfigError: if the base cannot be loaded or a target names no layer of it.
        ArtifactError: if the adapter does not fit the base.
    """
    plain = load_model(base.folder, config.tuning())
    if adapter is None:
        return with_adapter(plain, config.tuning())
    model = attach(plain, TRAINED, adapter)
    kept = model.peft_config[TRAINED]
    # with the name of the folder alone, peft cannot look at the base when it writes a checkpoint
    kept.inference_mode, kept.base_model_name_or_path = False, str(base.folder)
    model.set_adapter(TRAINED)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return model


def arguments(config: PreferConfig, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    """Settings of the loop as TRL calls them.

    Args:
        folder: checkpoints are kept here.
    """
    loop = config.loop
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "learning_rate": loop.learning_rate,
        "lr_scheduler_type": SCHEDULES[loop.schedule],
        "warmup_steps": math.ceil(loop.warmup_ratio * steps),
        "weight_decay": 0.0,
        "per_device_train_batch_size": loop.batch_size,
        "gradient_accumulation_steps": loop.gradient_accumulation,
        "gradient_checkpointing": loop.gradient_checkpointing,
        "bf16": loop.precision == "bf16",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "seed": seed,
        "train_sampling_strategy": "sequential",  # rows are in a drawn order already
        "remove_unused_columns": False,
        "logging_steps": loop.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": loop.save_steps,
        "save_total_limit": 2,
        "report_to": loop.report_to,
    }


def train(
    make: Callable[[], Any], model: Any, config: PreferConfig, folder: Path, steps: int
) -> list[dict[str, Any]]:
    """Run a trainer to its end, from its last checkpoint if there is one.

    Args:
        make: makes the trainer.
        folder: where its checkpoints are.

    Returns:
        the log, a line every ``logging_steps``.

    Raises:
        LlmrecError: if the loss stops being a number; the last checkpoint stays.
        Stopped: if the run was asked to stop; it goes on from its checkpoint.
    """
    loop, name = config.loop, config.method
    if loop.report_to != "none":
        require(loop.report_to, "wandb" if loop.report_to == "wandb" else "train")
    progress, stop = Progress(steps, loop.examples_per_step), Stop(Processes())
    rows = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    trainer = make()
    restore(model, rows)
    quieten(trainer)
    for callback in (Finite(folder), Watch(progress, name, 0), stop, _LogWhereSaved()):
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    stop.check(name, trainer.state, progress)
    progress.close()
    model.eval()
    lines = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{"stage": name} | {ours: e[n] for n, ours in _KEPT.items() if n in e} for e in lines]


class Resuming:
    """A trainer of transformers that finds its adapter in a checkpoint, for a mixin.

    Of a model with a reference beside the trained adapter, transformers would load the reference
    alone, which is in a folder of its own, and train on from the start with a late optimizer.
    """

    model: Any

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        (model or self.model).load_adapter(resume_from_checkpoint, TRAINED, is_trainable=True)


class _LogWhereSaved(TrainerCallback):
    """A line of the log at every checkpoint, so that lines are the same after a restart.

    What TRL counts beside the loss is not part of a checkpoint; so it is told before each.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Log where it is due, and where the step is saved."""
        if control.should_save:
            control.should_log = True
        return control
