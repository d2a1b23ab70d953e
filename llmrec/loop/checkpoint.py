"""Checkpoints of a training run: everything needed to go on exactly, and no pickle.

Tensors (weights, optimizer moments, random state) go into one safetensors file, the training
state into JSON. A checkpoint appears whole or not at all. Beside it stand the weights that
validated best.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import nn

from llmrec.errors import ArtifactError
from llmrec.files import sync, write_whole
from llmrec.jsonl import read_json
from llmrec.loop.state import TrainingState

TENSORS, STATE, BEST = "checkpoint.safetensors", "checkpoint.json", "best.safetensors"


class SavedOptimizer(Protocol):
    """What a checkpoint needs of an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None: ...


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: SavedOptimizer, state: TrainingState
) -> None:
    """Write a checkpoint over the last one.

    Args:
        folder: created if missing.
        model: all that has weights to restore; an ``nn.ModuleDict`` of the model, its moving
            average, its best weights where there are several.
        state: counters and history, JSON-able.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for key, value in moments.items():
            tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors_file = f"{state.step}-{TENSORS}"
    contiguous = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    save_file(contiguous, folder / tensors_file)
    sync(folder / tensors_file)
    # the switch: from here on the new checkpoint counts
    write_whole(folder / STATE, json.dumps(vars(state) | {"tensors": tensors_file}))
    for stale in folder.glob(f"*-{TENSORS}"):
        if stale.name != tensors_file:
            stale.unlink()


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: SavedOptimizer, state: TrainingState
) -> bool:
    """Restore a checkpoint in place; False when there is none.

    Raises:
        ArtifactError: if it is damaged or of another model.
    """
    path = folder / STATE
    if not path.is_file():
        return False
    try:
        saved: dict[str, Any] = read_json(path)
        tensors = load_file(folder / saved["tensors"])
        model.load_state_dict(_under(tensors, "model."))
        _restore_optimizer(optimizer, _under(tensors, "optimizer."))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        for name in vars(state):
            setattr(state, name, saved[name])
    except (KeyError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder}: cannot go on from this checkpoint ({error}); remove it to start again"
        ) from None
    return True


def save_best(folder: Path, model: nn.Module) -> None:
    """Write the weights that validated best, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    write_whole(folder / BEST, save(weights))


def load_best(folder: Path, model: nn.Module) -> bool:
    """Give a model the weights that validated best; False where none were saved."""
    if not (folder / BEST).is_file():
        return False
    model.load_state_dict(load_file(folder / BEST))
    return True


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _restore_optimizer(optimizer: SavedOptimizer, tensors: dict[str, torch.Tensor]) -> None:
    saved = optimizer.state_dict()
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": saved["param_groups"]})
