"""Checkpoints of a training run: everything needed to go on exactly, and no pickle.

Tensors (weights, their moving average, optimizer moments, random state) go into one
safetensors file, counters into JSON. A checkpoint appears whole or not at all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from llmrec.errors import ArtifactError

TENSORS, STATE = "checkpoint.safetensors", "checkpoint.json"


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    average: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> None:
    """Write a checkpoint over the last one.

    Args:
        folder: created if missing.
        average: moving average of the weights, by parameter name; may be empty.
        state: counters and histories, JSON-able.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for key, value in moments.items():
            tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    step_file = f"{state['step']}-{TENSORS}"
    contiguous = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    save_file(contiguous, folder / step_file)
    partial = folder / f"{STATE}.part"
    partial.write_text(json.dumps(state | {"tensors": step_file}))
    os.replace(partial, folder / STATE)  # the switch: from here on the new checkpoint counts
    for stale in folder.glob(f"*-{TENSORS}"):
        if stale.name != step_file:
            stale.unlink()


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    average: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any] | None:
    """Restore a checkpoint in place.

    Returns:
        the saved counters, or None when there is no checkpoint.

    Raises:
        ArtifactError: if it is damaged or of another model.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = json.loads(path.read_text())
        tensors = load_file(folder / state["tensors"])
        model.load_state_dict(_under(tensors, "model."))
        for name, value in _under(tensors, "average.").items():
            average[name] = value.to(next(model.parameters()).device)
        _restore_optimizer(optimizer, _under(tensors, "optimizer."))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
    except (KeyError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder}: cannot go on from this checkpoint ({error}); remove it to start again"
        ) from None
    return state


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    saved = optimizer.state_dict()
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": saved["param_groups"]})
