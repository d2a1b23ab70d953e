"""The supervisor of a running job: ``python -m llmrec.training.jobs.supervisor JOB LOCK``.

It starts the command, forwards requests to stop, and records how it ended. It is light, so that a
machine out of memory kills the command and not its supervisor.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from llmrec.loop.process import die_with_parent, started
from llmrec.loop.status import JOB_FOLDER, STOP, State, read_status, replace_status, write_status
from llmrec.training.jobs.job import Job, open_job

THREADS = "OMP_NUM_THREADS"
_POLL = 0.1  # seconds


def _claim(job: Job, state: State) -> None:
    """Record that this process has the job, and drop how an earlier try ended."""
    old = read_status(job.folder)
    replace_status(
        job.folder,
        {key: old[key] for key in ("stage", "step", "total", "loss") if key in old},
        state=state,
        pid=os.getpid(),
        process_started=started(os.getpid()),
        began=time.time(),
    )


def start_supervisor(job: Job, lock: int) -> int:
    """Start a supervisor in a session of its own, and wait until it has the job.

    Args:
        lock: descriptor of the job's lock, which it takes over.

    Returns:
        its process id.
    """
    _claim(job, "queued")
    command = [sys.executable, "-m", "llmrec.training.jobs.supervisor", str(job.folder), str(lock)]
    with job.log.open("ab") as log:
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
        )
    os.close(lock)
    while supervisor.poll() is None and read_status(job.folder).get("state") == "queued":
        time.sleep(_POLL / 4)
    supervisor.returncode = 0  # it outlives this process, which would else warn that it does
    return supervisor.pid


def supervise(job: Job, lock: int, echo: bool = False) -> dict[str, Any]:
    """Run a job's command to its end.

    SIGTERM and Ctrl-C are requests to stop after its next step.

    Args:
        lock: descriptor of the job's lock; the command keeps it as well, so that nobody starts
            the job again while any of it is alive.
        echo: show what the command prints.

    Returns:
        the last status.
    """
    (job.folder / STOP).unlink(missing_ok=True)
    signals = [signal.SIGTERM, signal.SIGINT]
    before = [signal.signal(number, lambda *_: (job.folder / STOP).touch()) for number in signals]
    offset = job.log.stat().st_size if job.log.exists() else 0
    try:
        _claim(job, "running")
        with job.log.open("ab") as log:
            command = _popen(job, log, lock)
            printed_to = offset
            while command.poll() is None:
                time.sleep(_POLL)
                printed_to = print_new(job.log, printed_to) if echo else printed_to
            if echo:
                print_new(job.log, printed_to)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    with job.log.open("rb") as log:
        log.seek(offset)
        printed = log.read().decode(errors="replace")
    state, error = verdict(command.returncode, read_status(job.folder), printed)
    status = write_status(job.folder, state=state, error=error, ended=time.time())
    os.close(lock)
    return status


def _popen(job: Job, log: Any, lock: int) -> subprocess.Popen[bytes]:
    threads = {THREADS: job.spec.threads} if job.spec.threads else {}
    inherited = {name: value for name, value in os.environ.items() if name != THREADS}
    return subprocess.Popen(
        job.command(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=inherited | threads | {JOB_FOLDER: str(job.folder), "PYTHONUNBUFFERED": "1"},
        pass_fds=[lock],
        start_new_session=True,  # Ctrl-C in a terminal is for the supervisor alone
        preexec_fn=die_with_parent,
    )


def verdict(code: int, status: dict[str, Any], printed: str) -> tuple[State, str | None]:
    """How a command ended.

    Args:
        code: its exit status, negative where a signal ended it.
        printed: what it printed in this try.

    Returns:
        the state, and what went wrong.
    """
    if code == 0:
        return "done", None
    if status.get("stopped_at") is not None:
        return "stopped", None
    if code < 0:
        name = signal.Signals(-code).name
        memory = "; if nobody did that, the machine was out of memory" if code == -9 else ""
        return "killed", f"ended by {name}{memory}"
    return "failed", last_error(printed) or f"exit status {code}"


def last_error(printed: str) -> str | None:
    """The line that explains a failure.

    >>> last_error("step 1\\nllmrec: error: rank: must be 1 or more\\ngoodbye\\n")
    'rank: must be 1 or more'
    >>> last_error("Traceback (most recent call last):\\n  ...\\nRuntimeError: no\\n\\n")
    'RuntimeError: no'
    """
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("llmrec: error: ")]
    if own:
        return own[-1].removeprefix("llmrec: error: ")
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    # of a launcher's report what the process itself raised comes first
    return next(iter(raised or lines[-1:]), None)


def print_new(path: Path, offset: int) -> int:
    """Print what was added to a file.

    Returns:
        where it ends now.
    """
    with path.open("rb") as file:
        file.seek(offset)
        new = file.read()
    sys.stdout.write(new.decode(errors="replace"))
    sys.stdout.flush()
    return offset + len(new)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    supervise(open_job(place.parent, place.name), int(sys.argv[2]))
