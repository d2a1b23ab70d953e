"""Whether the process that a file names still runs, and is not another with its number."""

from __future__ import annotations

import ctypes
import signal
import sys

import psutil

_CLOCK = 2.0  # seconds by which a correction of the clock may move the time of a start


def started(pid: int) -> float | None:
    """When a process was started, seconds since 1970; None where there is none.

    A process that has ended and waits to be noticed by its parent is none.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return float(process.create_time())
    except psutil.Error:
        return None


def same_process(pid: int | None, start: float | None) -> bool:
    """Whether the process with this number is the one that was started then."""
    found = None if pid is None else started(pid)
    return found is not None and start is not None and abs(found - start) < _CLOCK


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
