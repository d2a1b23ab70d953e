"""Jobs as text for people."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any

from llmrec.loop.progress import duration
from llmrec.loop.status import read_metrics
from llmrec.training.jobs.job import Job

_COLUMNS = ("name", "kind", "state", "step", "loss", "time left", "started")


def overview(jobs: Sequence[tuple[Job, dict[str, Any]]]) -> str:
    """A line per job with its status, the newest start first; nothing where there are none."""
    if not jobs:
        return ""
    newest = sorted(jobs, key=lambda one: one[1].get("began", 0.0), reverse=True)
    return aligned([_COLUMNS, *(_row(job, status) for job, status in newest)])


def _row(job: Job, status: dict[str, Any]) -> tuple[str, ...]:
    loss, left = status.get("loss"), status.get("eta")
    running = status.get("state") == "running"
    return (
        job.name,
        job.spec.kind,
        status.get("state", "killed"),
        _steps(status),
        "-" if loss is None else f"{loss:.4f}",
        duration(left) if running and left is not None else "-",
        _time(status["began"]) if "began" in status else "-",
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side.

    >>> print(aligned([("name", "n"), ("a", "10")]))
    name  n
    a     10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (map(str.ljust, row, widths) for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def details(job: Job) -> str:
    """All there is to know of a job."""
    status = job.status()
    metrics = read_metrics(job.folder)
    known = {
        "job": f"{job.name} ({job.spec.kind})",
        "state": status.get("state", "killed"),
        "error": status.get("error"),
        "step": _steps(status),
        "pace": _pace(status),
        "started": _time(status["began"]) if "began" in status else None,
        "ended": _time(status["ended"]) if "ended" in status else None,
        "command": shlex.join(job.command()),
        "log": str(job.log),
        "result": str(job.result) if job.result.is_dir() else f"comes to {job.result}",
    }
    lines = [(name, text) for name, text in known.items() if text is not None]
    last = "\n".join("  " + _metric(line) for line in metrics[-5:])
    return aligned(lines) + (f"\nlast metrics\n{last}" if last else "")


def _steps(status: dict[str, Any]) -> str:
    known = "step" in status and "total" in status
    return f"{status['step']:,}/{status['total']:,}" if known else "-"


def _pace(status: dict[str, Any]) -> str | None:
    if "examples_per_second" not in status or "elapsed" not in status:
        return None
    left = status.get("eta")
    rest = f", {duration(left)} left" if left and status.get("state") == "running" else ""
    return (
        f"{status['examples_per_second']:,.1f} examples/s for {duration(status['elapsed'])}{rest}"
    )


def _metric(line: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in line.items()
    )


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
