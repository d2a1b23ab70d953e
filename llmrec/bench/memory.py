"""How much memory work adds above what was held before it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

import psutil

from llmrec.metrics.machine import peak_mib


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
        self.before = _sum_mib("VmRSS")
        for pid in _processes():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # forgets the peak

    def peak_mib(self) -> float:
        """The most held since, in MiB."""
        if self.device == "cuda":
            import torch

            return float(torch.cuda.max_memory_allocated() / 2**20)
        return _sum_mib("VmHWM")

    def added_mib(self) -> float:
        """The most held since, above what was held before, in MiB."""
        return max(0.0, self.peak_mib() - self.before)


def _processes() -> list[int]:
    """This process and all below it."""
    this = psutil.Process()
    return [process.pid for process in (this, *this.children(recursive=True))]


def _sum_mib(field: str) -> float:
    """A line of the status of all processes, in MiB; this one's peak where there is no /proc."""
    if not Path("/proc/self/status").is_file():
        return peak_mib() or 0.0
    total = 0.0
    for pid in _processes():
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1]) / 2**10
    return total


def _return_free_memory() -> None:
    """Give freed memory back to the system: work that reuses it would seem to need none."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
