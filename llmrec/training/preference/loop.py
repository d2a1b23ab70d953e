"""The training loop of DPO and GRPO: the model to train, and the run of its trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from llmrec.loop.progress import RunProgress
from llmrec.loop.tracking import require_tracker
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.tune.adapter import TRAINED, with_adapter, with_earlier_adapter
from llmrec.training.tune.base import ExpandedBase, load_model
from llmrec.training.tune.callbacks import (
    FiniteGradients,
    ReportProgress,
    StopOnRequest,
    last_checkpoint,
    remove_console_callbacks,
)
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.sft import restore_float32
from llmrec.training.tune.trainer import products

_RENAMED = {"rewards/accuracies": "accuracy", "rewards/margins": "margin"}
_KEPT = ("step", "loss", "grad_norm", "learning_rate", "kl", "expected_reward", *_RENAMED)


def open_model(base: ExpandedBase, adapter: Path | None, config: PreferConfig) -> Any:
    """A peft model whose only trained weights are those of an adapter.

    Args:
        adapter: the initial adapter; None for a fresh one.

    Raises:
        ConfigError: if the base cannot be loaded or a target names no layer of it.
        ArtifactError: if the adapter does not fit the base.
    """
    plain = load_model(base.folder, config.tuning())
    if adapter is None:
        return with_adapter(plain, config.tuning())
    return with_earlier_adapter(plain, adapter, base.folder)


def train(
    make: Callable[[], Any], model: Any, config: PreferConfig, folder: Path, steps: int
) -> list[dict[str, Any]]:
    """Run a trainer to its end, from its last checkpoint if there is one.

    Args:
        make: makes the trainer.
        folder: of its checkpoints.

    Returns:
        the log, a line every ``logging_steps``.

    Raises:
        LlmrecError: if the loss stops being a number; the last checkpoint stays.
        Stopped: after a request to stop; it is resumed from its checkpoint.
    """
    loop, name = config.loop, config.method
    require_tracker(loop.report_to)
    progress, stop = RunProgress(steps, loop.examples_per_step), StopOnRequest(Processes())
    rows = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    trainer = make()
    restore_float32(model, rows)
    remove_console_callbacks(trainer)
    for callback in (
        FiniteGradients(folder),
        ReportProgress(progress, name, 0),
        stop,
        _LogWhereSaved(),
    ):
        trainer.add_callback(callback)
    with products(loop):
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    stop.check(name, trainer.state, progress)
    progress.close()
    model.eval()
    lines = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{"stage": name} | {_RENAMED.get(n, n): e[n] for n in _KEPT if n in e} for e in lines]


class AdapterCheckpointMixin:
    """For a trainer of transformers: resume the trained adapter from a checkpoint.

    Of a model with a reference beside the trained adapter, transformers would load the reference
    alone, which is in a folder of its own, and train the initial adapter with a late optimizer.
    """

    model: Any

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        (model or self.model).load_adapter(resume_from_checkpoint, TRAINED, is_trainable=True)


class _LogWhereSaved(TrainerCallback):
    """A line of the log at every checkpoint, so that lines are the same after a restart.

    TRL's metrics beside the loss are not part of a checkpoint, so they are logged before each.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Log where the step is saved, too."""
        if control.should_save:
            control.should_log = True
        return control
