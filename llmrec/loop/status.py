"""``status.json`` of a job: state and progress.

The process that trains writes its progress, the process that supervises it its state; never both
at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from llmrec.errors import ArtifactError
from llmrec.files import write_whole

JOB_FOLDER = "LLMREC_JOB"  # names the job's folder to a command that a job runs
STATUS, METRICS, STOP = "status.json", "metrics.jsonl", "stop"
State = Literal["queued", "running", "stopped", "failed", "killed", "done"]


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
    try:
        status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    return status


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
    """The lines of ``metrics.jsonl``; one that is still being written is left out."""
    try:
        text = (folder / METRICS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
