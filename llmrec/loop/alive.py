"""Whether the process that a file names is still that process, and not another with its number."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path


def started(pid: int) -> str | None:
    """What tells a process from any other that ever had its number; None where there is none.

    On Linux the time it was started and the boot it was started in. A process that has ended and
    waits to be noticed by its parent is none.
    """
    if not Path("/proc/self/stat").exists():
        return "unknown" if _is_there(pid) else None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name before may hold spaces
    if state in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else ''}:{rest[18]}"


def same_process(pid: int | None, start: str | None) -> bool:
    """Whether the process with this number is the one that was started then."""
    return pid is not None and start is not None and started(pid) == start


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
