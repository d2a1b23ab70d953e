"""Callbacks for a trainer of transformers or TRL: progress, graceful stop, NaN guard.

``disable_tqdm=True`` among its arguments and :func:`remove_console_callbacks` leave the console to
llmrec.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from llmrec.errors import LlmrecError
from llmrec.jsonl import read_json
from llmrec.loop import graceful_stop as stopping
from llmrec.loop.graceful_stop import Stopped
from llmrec.loop.progress import Line, RunProgress
from llmrec.training.tune.processes import Processes

_KEPT = ("step", "loss", "grad_norm", "learning_rate")
VALIDATION = "validation_"
_PROCESSES = "processes.json"


def remove_console_callbacks(trainer: Any) -> None:
    """Take the trainer's own bars and lines away."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)


def log_lines(history: list[dict[str, Any]], stage: str) -> list[Line]:
    """The log of a phase from a trainer's ``log_history``: losses and validations, in order."""
    return [line for entry in history if (line := log_line(entry, stage))]


def log_line(entry: dict[str, Any], stage: str) -> Line | None:
    """A line of the log, or None where an entry is neither a loss nor a validation."""
    if "loss" in entry:
        return {"stage": stage} | {key: entry[key] for key in _KEPT if key in entry}
    found = {
        key.removeprefix("eval_"): value
        for key, value in entry.items()
        if key.startswith(f"eval_{VALIDATION}")
    }
    return {"stage": stage, "step": entry["step"]} | found if found else None


class ReportProgress(TrainerCallback):
    """Reports a phase's progress to :class:`~llmrec.loop.progress.RunProgress`.

    Args:
        stage: its name.
        offset: steps of the run before it.
    """

    def __init__(self, progress: RunProgress, stage: str, offset: int) -> None:
        self.progress, self.stage, self.offset = progress, stage, offset

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin with the log lines of the checkpoint that is resumed, if any."""
        lines = log_lines(state.log_history, self.stage)
        self.progress.begin_phase(self.stage, self.offset, state.global_step, lines)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Count the step; the last one is always logged."""
        self.progress.advance(state.global_step)
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report a line of the log."""
        line = log_line(state.log_history[-1], self.stage)
        if line is not None:
            self.progress.log(line)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the time of a validation out of the pace."""
        self.progress.restart_clock()


class StopOnRequest(TrainerCallback):
    """Saves and ends after a request to stop; all processes at the same step."""

    def __init__(self, processes: Processes) -> None:
        self.processes, self.stopped = processes, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Check for a request."""
        if self.processes.any(stopping.stop_requested()) and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True
        return control

    def check(self, stage: str, state: Any, progress: RunProgress) -> None:
        """End the run, if there was a request.

        Raises:
            Stopped: naming the step.
        """
        if self.stopped:
            progress.note_stopped()
            raise Stopped(
                f"stopped at step {state.global_step} of {state.max_steps} of {stage}, with a "
                "checkpoint; the same command resumes it"
            )


class FiniteGradients(TrainerCallback):
    """Raises before a step with gradients that are NaN or infinite spoils the weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the gradients: they are NaN or infinite where the loss is."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if math.isfinite(float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)):
            return
        kept = last_checkpoint(self.folder)
        raise LlmrecError(
            f"training: the loss stopped being a number at step {state.global_step + 1}; "
            + (f"the last good checkpoint is {kept}" if kept else "no checkpoint had been written")
            + "; lower loop.learning_rate or align.learning_rate"
        )


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint in a folder, or None."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))
    for checkpoint in reversed(found):
        try:  # written last by the first process
            read_json(checkpoint / "trainer_state.json")
        except (OSError, ValueError):
            continue
        if _has_every_process(checkpoint):
            return str(checkpoint)
    return None


def note_processes(checkpoint: Path, count: int) -> None:
    """Note in a checkpoint how many processes write to it, before they do."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / _PROCESSES).write_text(json.dumps(count), encoding="utf-8")


def _has_every_process(checkpoint: Path) -> bool:
    """Whether all processes wrote their part; each writes its random state last."""
    try:
        count = read_json(checkpoint / _PROCESSES)
    except (OSError, ValueError):
        return True
    return count == 1 or all(
        zipfile.is_zipfile(checkpoint / f"rng_state_{rank}.pth") for rank in range(count)
    )
