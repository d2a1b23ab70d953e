"""Experiment trackers: TensorBoard or Weights & Biases follow a run's curves.

Beside the curves a tracker gets what decides the run, flat: every setting by its dotted name, the
seed, and the hash of every input as ``inputs.NAME``, all as the result's manifest has them. Its
files stay with the result, in ``tracking/``. Weights & Biases logs to its service unless
``WANDB_MODE=offline``; ``WANDB_PROJECT`` and the other variables of its own hold.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrec.errors import require

FOLDER = "tracking"
PROJECT = "llmrec"

Described = Mapping[str, Any]


def require_tracker(report_to: str) -> None:
    """Check that the library of an experiment tracker is there.

    Args:
        report_to: ``none``, ``tensorboard`` or ``wandb``.

    Raises:
        MissingExtraError: if it is not installed.
    """
    if report_to != "none":
        require(report_to, "wandb" if report_to == "wandb" else "train")


def describe_run(config: Described, inputs: Mapping[str, str], seed: int | None) -> dict[str, Any]:
    """What a tracker is told of a run, flat.

    Args:
        config, inputs, seed: of its manifest.

    >>> describe_run({"loop": {"epochs": 2, "ks": [1, 2]}, "base": None}, {"dataset": "ab"}, 3)
    {'loop.epochs': 2, 'loop.ks': '[1, 2]', 'seed': 3, 'inputs.dataset': 'ab'}
    """
    flat = _flat(config, "")
    if seed is not None:
        flat["seed"] = seed
    return flat | {f"inputs.{name}": value for name, value in inputs.items()}


def _flat(values: Described, prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            plain = isinstance(value, bool | int | float | str)
            flat[prefix + name] = value if plain else str(value)
    return flat


def start_accelerate(accelerator: Any, report_to: str, folder: Path, described: Described) -> None:
    """Start the trackers of an :class:`accelerate.Accelerator` made with ``log_with``.

    Args:
        folder: of the result; the accelerator's ``project_dir``.
        described: of :func:`describe_run`.
    """
    if report_to == "wandb":
        arguments = _wandb_arguments(folder)
        project = arguments.pop("project")
        accelerator.init_trackers(project, dict(described), {"wandb": arguments})
    elif report_to == "tensorboard":
        accelerator.init_trackers(FOLDER, dict(described))


@contextmanager
def tracked(report_to: str, folder: Path, described: Described) -> Iterator[None]:
    """Tell a tracker what decides a run, around a trainer of transformers that tells it the rest.

    Args:
        folder: of the result.
        described: of :func:`describe_run`.

    Raises:
        MissingExtraError: if the tracker is not installed.
    """
    require_tracker(report_to)
    if report_to == "wandb":
        run = require("wandb", "wandb").init(config=dict(described), **_wandb_arguments(folder))
        try:
            yield
        finally:
            run.finish()
        return
    if report_to == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder / FOLDER)) as writer:
            writer.add_hparams(dict(described), {}, run_name="settings")
    yield


def _wandb_arguments(folder: Path) -> dict[str, Any]:
    """Of ``wandb.init``."""
    home = folder / FOLDER
    home.mkdir(parents=True, exist_ok=True)  # else it takes a temporary folder
    run_id = home / "wandb-run-id"
    if not run_id.exists():  # a killed run goes on as the same one
        run_id.write_text(secrets.token_hex(4))
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return {"project": project, "dir": str(home), "id": run_id.read_text(), "resume": "allow"}


def keep_logs(work: Path, folder: Path) -> None:
    """Move what a trainer of transformers wrote for TensorBoard to the result.

    Args:
        work: with a folder for each phase.
        folder: of the result.
    """
    for runs in sorted(work.glob("*/runs")):
        home = folder / FOLDER / runs.parent.name
        home.parent.mkdir(exist_ok=True)
        shutil.move(runs, home)
