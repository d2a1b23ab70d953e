"""What watches a trainer of transformers or TRL: progress, stopping, numbers that are none.

Any trainer may take :func:`watch` for its callbacks; ``disable_tqdm=True`` among its arguments
and :func:`quieten` leave the progress to llmrec.
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
from llmrec.loop import stopping
from llmrec.loop.progress import Line, Progress
from llmrec.loop.stopping import Stopped
from llmrec.training.tune.processes import Processes

_KEPT = ("step", "loss", "grad_norm", "learning_rate")
VALIDATION = "validation_"
_PROCESSES = "processes.json"


def quieten(trainer: Any) -> None:
    """Take the trainer's own bars and lines away."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)


def lines_of(history: list[dict[str, Any]], stage: str) -> list[Line]:
    """The log of a stretch from a trainer's ``log_history``: losses and validations, in order."""
    return [line for entry in history if (line := line_of(entry, stage))]


def line_of(entry: dict[str, Any], stage: str) -> Line | None:
    """A line of the log, or None where an entry is neither a loss nor a validation."""
    if "loss" in entry:
        return {"stage": stage} | {key: entry[key] for key in _KEPT if key in entry}
    found = {
        key.removeprefix("eval_"): value
        for key, value in entry.items()
        if key.startswith(f"eval_{VALIDATION}")
    }
    return {"stage": stage, "step": entry["step"]} | found if found else None


class Watch(TrainerCallback):
    """Shows a stretch's progress.

    Args:
        stage: its name.
        offset: steps of the run before it.
    """

    def __init__(self, progress: Progress, stage: str, offset: int) -> None:
        self.progress, self.stage, self.offset = progress, stage, offset

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the lines that an earlier try left, up to the checkpoint this one begins with."""
        lines = lines_of(state.log_history, self.stage)
        self.progress.begin(self.stage, self.offset, state.global_step, lines)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Count the step; the last one is logged whatever its number."""
        self.progress.advance(state.global_step)
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the line."""
        line = line_of(state.log_history[-1], self.stage)
        if line is not None:
            self.progress.log(line)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Do not take the validation's time for training."""
        self.progress.resume()


class Stop(TrainerCallback):
    """Saves and ends where the run is asked to stop; the processes agree on the step."""

    def __init__(self, processes: Processes) -> None:
        self.processes, self.stopped = processes, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Look whether anybody asks."""
        if self.processes.any(stopping.asked()) and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True
        return control

    def check(self, stage: str, state: Any, progress: Progress) -> None:
        """End the run, if it was asked to end.

        Raises:
            Stopped: saying where.
        """
        if self.stopped:
            progress.stopped()
            raise Stopped(
                f"stopped at step {state.global_step} of {state.max_steps} of {stage}, with a "
                "checkpoint; the same command goes on from there"
            )


class Finite(TrainerCallback):
    """Stops before a step that would spoil the weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the gradients: where a loss is no number, they are none either."""
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
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if _has_every_process(checkpoint):
            return str(checkpoint)
    return None


def note_processes(checkpoint: Path, count: int) -> None:
    """Begin a checkpoint with the number of processes that write to it."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / _PROCESSES).write_text(json.dumps(count), encoding="utf-8")


def _has_every_process(checkpoint: Path) -> bool:
    """Whether the others were done as well; each writes what is random about it in the end."""
    try:
        count = json.loads((checkpoint / _PROCESSES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return count == 1 or all(
        zipfile.is_zipfile(checkpoint / f"rng_state_{rank}.pth") for rank in range(count)
    )
