"""What the encoders of all modalities share: where they run, how precisely, and what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.errors import ArtifactError, ConfigError, one_line, require
from llmrec.files import file_hash
from llmrec.jsonl import read_json
from llmrec.weights.known import WEIGHTS

if TYPE_CHECKING:
    import torch

CLIP = "ViT-B-32:laion2b_s34b_b79k"
WHISPER = "base"
# what configurations of transformers, open_clip and sasrec.json call it
_LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "layers", "depth")


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
    if model in WEIGHTS:
        return WEIGHTS[model].identity
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


def check_layers(folder: str | Path, config: str = "config.json") -> None:
    """Refuse a model that claims more layers than its weights have tensors.

    Libraries build all layers before they look at the weights. What is no folder or has no
    safetensors that can be read is let through: that is for the library to say.

    Args:
        folder: of the model, or a name that stands for one elsewhere.
        config: its file of settings.

    Raises:
        ArtifactError: naming the file and the setting, also if the settings cannot be read.
    """
    path, tensors = Path(folder) / config, 0
    if not path.is_file():
        return
    try:
        claimed = list(_layers(read_json(path)))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({one_line(error)})") from None
    safetensors = require("safetensors", "train")
    try:
        for part in Path(folder).glob("*.safetensors"):
            with safetensors.safe_open(part, "numpy") as file:
                tensors += len(file.keys())
    except (OSError, safetensors.SafetensorError):
        return
    for name, count in claimed:
        if 0 < tensors < count:
            raise ArtifactError(
                f"{path}: {name} is {count:,}, and the weights beside it have only {tensors:,} "
                "tensors; get the model again"
            )


def _layers(config: Any) -> Iterator[tuple[str, int]]:
    """The numbers of layers in a configuration, also in the parts of one."""
    for name, value in config.items() if isinstance(config, dict) else ():
        if name in _LAYERS and isinstance(value, int):
            yield name, value
        yield from _layers(value)
