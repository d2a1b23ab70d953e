"""How much memory work adds above what was held before it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from pathlib import Path

from llmrec.metrics.machine import peak_mib

_PROC = Path("/proc")


class PeakMemory:
    """The peak from now on, of this process and of those it has started.

    Args:
        device: ``cuda`` for the memory that this process's tensors take there, ``cpu`` for
            resident memory.

    On Linux peaks are forgotten when this is made; elsewhere only a peak above all earlier
    ones is seen.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        gc.collect()
        if device == "cuda":
            import torch

            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 2**20
            return
        _return_free_memory()
        pids = _processes()
        self.before = sum(_status(pid, "VmRSS") for pid in pids)
        self.forgotten = bool(pids) and all([_forget_peak(pid) for pid in pids])
        if not pids:
            self.before = peak_mib() or 0.0

    def peak_mib(self) -> float:
        """The most held since, in MiB."""
        if self.device == "cuda":
            import torch

            return float(torch.cuda.max_memory_allocated() / 2**20)
        pids = _processes()
        return sum(_status(pid, "VmHWM") for pid in pids) if pids else peak_mib() or 0.0

    def added_mib(self) -> float:
        """The most held since, above what was held before, in MiB."""
        return max(0.0, self.peak_mib() - self.before)


def _processes() -> list[int]:
    """This process and all below it; empty where the system does not say."""
    if not (_PROC / "self" / "status").is_file():
        return []
    found, new = [], [os.getpid()]
    while new:
        found += new
        new = [child for pid in new for child in _children(pid)]
    return found


def _children(pid: int) -> list[int]:
    children = []
    with contextlib.suppress(OSError):  # it may have ended meanwhile
        for task in (_PROC / str(pid) / "task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return children


def _status(pid: int, field: str) -> float:
    """A line of a process's status, in MiB; 0 when it has ended."""
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 2**10
    return 0.0


def _forget_peak(pid: int) -> bool:
    try:
        (_PROC / str(pid) / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _return_free_memory() -> None:
    """Give freed memory back to the system: work that reuses it would seem to need none."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
