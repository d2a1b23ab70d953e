"""What needs a GPU, within a budget of time: packs its input, then runs one part after the other.

    python eval/gpu.py pack training/beauty.yaml runs/beauty runs/gpu-input
    bash eval/gpu.sh OUT runs/gpu-input

Each part (:mod:`gpu_parts`) is a process with a limit of its own and writes its result as it goes,
so that one that fails or is cut takes nothing from the others.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TOTAL_SECONDS = 520.0  # of all parts; nine minutes less what Python takes to start and to end
LEAST_SECONDS = 20.0  # that a part is started with
# pure Python that llmrec imports and a CUDA machine may lack
BROUGHT = ("tyro", "docstring-parser", "typeguard")


@dataclass(frozen=True)
class Part:
    """A part of the measurement.

    Attributes:
        name: of a function of :mod:`gpu_parts`.
        limit: seconds that it may take at most.
    """

    name: str
    limit: float


# what must be had first; the last takes whatever time is left
PARTS = (
    Part("checks", 80.0),
    Part("beauty", 190.0),
    Part("lora", 60.0),
    Part("decode", TOTAL_SECONDS),
)


def main() -> None:
    """Pack, measure, or run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="gather what the other machine needs")
    packing.add_argument("recipe", type=Path, help="whose model `atomic` is trained")
    packing.add_argument("run", type=Path, help="folder of its run, at least up to `index`")
    packing.add_argument("input", type=Path)
    for name in ("measure", "part"):
        parts = commands.add_parser(name)
        if name == "part":
            parts.add_argument("name")
            parts.add_argument("--seconds", type=float, required=True)
        parts.add_argument("input", type=Path)
        parts.add_argument("out", type=Path)
        parts.add_argument("--small", action="store_true", help="a rehearsal of tiny sizes")
    arguments = parser.parse_args()
    if arguments.command == "pack":
        pack(arguments.recipe, arguments.run, arguments.input)
    elif arguments.command == "part":
        part(arguments.name, arguments.input, arguments.out, arguments.seconds, arguments.small)
    elif not measure(arguments.input, arguments.out, arguments.small):
        raise SystemExit(1)


def pack(recipe: Path, run: Path, out: Path) -> None:
    """Copy the dataset, features and item IDs of a run, the recipe's settings, and packages."""
    from llmrec.config import load_recipe

    settings, _ = load_recipe(recipe)
    wanted = {name: run / name for name in ("dataset", "features")}
    wanted["item_ids"] = run / "models" / "atomic" / "item_ids"
    missing = [str(folder) for folder in wanted.values() if not folder.is_dir()]
    if missing:
        raise SystemExit(f"{missing[0]}: not there; run  llmrec run {recipe} --only index  first")
    if out.exists():
        raise SystemExit(f"{out}: exists; remove it, or name another folder")
    for name, folder in wanted.items():
        shutil.copytree(folder, out / name)
    model = settings["models"]["atomic"]
    kept = {"name": settings["name"], "train": model["train"]}
    (out / "settings.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    for package in BROUGHT:
        for file in importlib.metadata.files(package) or []:
            target = out / "site" / file
            if ".." not in file.parts and file.suffix != ".pyc":
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
    print(f"{out}: {size:.0f} MiB; next: bash eval/gpu.sh OUT {out}")


def measure(source: Path, out: Path, small: bool) -> bool:
    """Run all parts; whether all came to their end."""
    out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + TOTAL_SECONDS
    done = []
    for one in PARTS:
        seconds = min(one.limit, ends - time.monotonic())
        print(f"--- {one.name}: at most {seconds:.0f} s", flush=True)
        if seconds < LEAST_SECONDS:
            print(f"{one.name}: left out, no time is left", flush=True)
            done.append(False)
        elif small:  # in this process, which has loaded torch
            part(one.name, source, out, seconds, small)
            done.append(True)
        else:
            command = [sys.executable, __file__, "part", one.name, str(source), str(out)]
            done.append(run_limited([*command, "--seconds", str(seconds)], seconds))
    return all(done)


def run_limited(command: list[str], seconds: float) -> bool:
    """Run a command; after so many seconds it and what it has started are ended.

    Returns:
        whether it came to its end by itself, without an error.
    """
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"cut after {seconds:.0f} s; what it wrote stays", flush=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    return status == 0


def part(name: str, source: Path, out: Path, seconds: float, small: bool) -> None:
    """Run one part in this process."""
    sys.path.insert(0, str(Path(__file__).parent))
    import gpu_parts

    settings: dict[str, Any] = yaml.safe_load((source / "settings.yaml").read_text())
    clock = gpu_parts.Clock(seconds)
    getattr(gpu_parts, name)(gpu_parts.Place(source, out, settings, small), clock)
    print(f"{name}: {clock.passed():.0f} s", flush=True)


if __name__ == "__main__":
    main()
