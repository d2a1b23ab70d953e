"""What the encoders of all modalities share: where they run, how precisely, and what they are."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmrec.errors import ConfigError, require
from llmrec.stage import file_hash

if TYPE_CHECKING:
    import torch

CLIP = "ViT-B-32:laion2b_s34b_b79k"
WHISPER = "base"
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def pick_device(device: str) -> torch.device:
    """``auto`` is a GPU when there is one.

    Raises:
        ConfigError: if the device cannot be used here.
    """
    torch = require("torch", "train")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: {device!r} cannot be used here ({reason}); try auto") from None


def mixed_precision(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Autocast for a forward pass; ``auto`` is bfloat16 on a GPU that has it, else float16, and
    float32 on a CPU."""
    torch = require("torch", "train")
    if precision == "auto":
        if device.type != "cuda":
            return nullcontext()
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """float32 rows of length 1; a zero row stays.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def normalized(vectors: torch.Tensor) -> np.ndarray:
    """Unit rows of a model's output, normalised in float32 whatever it was computed in."""
    torch = require("torch", "train")
    rows = torch.nn.functional.normalize(vectors.float(), dim=-1)
    return np.asarray(rows.cpu().numpy(), np.float32)


def weights_hash(model: str) -> str:
    """Identifies a model: its name, and the contents of the files when they are local."""
    name, _, tail = model.partition(":")
    for text in (model, tail) if tail else (name,):
        path = Path(text).expanduser()
        if path.is_file():
            return hashlib.sha256(f"{name}={file_hash(path)}".encode()).hexdigest()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            lines = "".join(f"{file.relative_to(path)}={file_hash(file)}\n" for file in files)
            return hashlib.sha256(lines.encode()).hexdigest()
    return model
