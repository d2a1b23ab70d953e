"""``status.json`` of a job: state and progress.

The process that trains writes its progress, the process that supervises it its state; never both
at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from llmrec.config import convert, shown
from llmrec.errors import ArtifactError, ConfigError
from llmrec.files import write_whole
from llmrec.jsonl import read_json
from llmrec.parsing import parse_json

JOB_FOLDER = "LLMREC_JOB"  # names the job's folder to a command that a job runs
STATUS, METRICS, STOP = "status.json", "metrics.jsonl", "stop"
State = Literal["queued", "running", "stopped", "failed", "killed", "done"]
_TYPES: dict[str, Any] = {
    "state": State,
    "pid": int,
    "process_started": float | None,
    "began": float,
    "ended": float,
    "stage": str,
    "step": int,
    "total": int,
    "stopped_at": int,
    "elapsed": float,
    "eta": float | None,
    "examples_per_second": float,
    "error": str | None,
}


def own_job() -> Path | None:
    """Folder of the job that this process runs for, or None."""
    folder = os.environ.get(JOB_FOLDER)
    return Path(folder) if folder else None


def read_status(folder: Path) -> dict[str, Any]:
    """What ``status.json`` says; nothing where there is none yet.

    Raises:
        ArtifactError: if it is damaged.
    """
    path = folder / STATUS
    fix = "remove it, and the job can be resumed"
    try:
        status = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); {fix}") from None
    try:
        return _checked(status)
    except ConfigError as error:
        raise ArtifactError(f"{path}: is damaged ({error}); {fix}") from None


def _checked(status: Any) -> dict[str, Any]:
    """The fields in their types.

    Raises:
        ConfigError: for one of another type.
    """
    known = convert(status, dict[str, Any], "status")
    if not isinstance(known.get("loss"), int | float | None):  # it may be NaN
        raise ConfigError(f"loss: expected a number, got {shown(known['loss'])}")
    typed = {n: convert(known[n], hint, n) for n, hint in _TYPES.items() if n in known}
    return {**known, **typed}


def write_status(folder: Path, **changes: Any) -> dict[str, Any]:
    """Change some fields; a reader sees the old file or the new one.

    Returns:
        all of it.
    """
    return replace_status(folder, read_status(folder), **changes)


def replace_status(folder: Path, status: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same, with ``status`` in place of what is there."""
    status = status | changes
    write_whole(folder / STATUS, json.dumps(status, indent=1) + "\n")
    return status


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; one that is still being written is left out.

    Raises:
        ArtifactError: if it is damaged.
    """
    path = folder / METRICS
    try:
        text = path.read_text(encoding="utf-8")
        lines = [parse_json(line) for line in text.split("\n")[:-1]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    if not all(isinstance(line, dict) for line in lines):
        raise ArtifactError(f"{path}: has a line that is no mapping")
    return lines
