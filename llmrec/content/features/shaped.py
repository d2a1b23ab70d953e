"""A small network as one safetensors file that holds its own shape."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from llmrec.config import build
from llmrec.errors import ArtifactError, LlmrecError

Network = TypeVar("Network", bound=nn.Module)


def save_shaped(network: nn.Module, config: Any, kind: str, path: str | Path) -> None:
    """Write weights and shape.

    Args:
        config: the dataclass that the network is made from.
        kind: what it is, in one word; another is refused.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    save_file(tensors, path, metadata={kind: json.dumps(asdict(config))})


def load_shaped(network: type[Network], config: type[Any], kind: str, path: str | Path) -> Network:
    """Read what :func:`save_shaped` wrote, in evaluation mode.

    Raises:
        ArtifactError: if the file is missing, damaged or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            shape = json.loads((file.metadata() or {})[kind])
        made = network(build(config, shape, str(path)))
        made.load_state_dict(load_file(path))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, LlmrecError) as error:
        raise ArtifactError(f"{path}: not a {kind} encoder that can be read ({error})") from None
    return made.eval()
