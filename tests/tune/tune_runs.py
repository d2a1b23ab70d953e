"""Short fine-tuning runs and what they leave."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from llmrec.tune.settings import AlignConfig, Config, LoopConfig


def tiny_tune(
    loop: dict[str, Any] | None = None, align: int = 0, rate: float = 1e-2, **changes: Any
) -> Config:
    """Settings of a run that takes a second."""
    steps = {"max_steps": 6, "batch_size": 8, "logging_steps": 1, "learning_rate": 1e-2}
    plain: dict[str, Any] = {"rank": 4, "validation_users": 30, "beams": 10}
    return Config(
        **(plain | changes),
        align=AlignConfig(steps=align, learning_rate=rate),
        loop=LoopConfig(**(steps | (loop or {}))),
    )


def counts_of(folder: Path) -> dict[str, Any]:
    """What a result says of itself."""
    counts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["counts"]
    return counts


def log_of(folder: Path) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = json.loads((folder / "log.json").read_text())
    return log


def losses(folder: Path, stage: str = "tune") -> list[float]:
    return [e["loss"] for e in log_of(folder) if e["stage"] == stage and "loss" in e]


def weights(folder: Path) -> dict[str, Any]:
    """Every tensor of a model's or an adapter's folder."""
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def digest(folder: Path) -> dict[str, str]:
    """Every file of a folder and its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
