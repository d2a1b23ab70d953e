"""A small network as one safetensors file that holds its own shape."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from llmrec.config import build
from llmrec.errors import ArtifactError, LlmrecError
from llmrec.parsing import parse_json


class ShapedNetwork(nn.Module):
    """A network that is made from one dataclass, ``config``.

    Attributes:
        kind: what it is, in one word; a file of another is refused.
        shape: the dataclass.
    """

    kind: ClassVar[str]
    shape: ClassVar[type[Any]]
    config: Any

    def save(self, path: str | Path) -> None:
        """Write weights and shape into one safetensors file."""
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        save_file(tensors, path, metadata={self.kind: json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, in evaluation mode.

        Raises:
            ArtifactError: if the file is missing, damaged or something else.
        """
        try:
            with safe_open(path, "pt") as file:
                shape = parse_json((file.metadata() or {})[cls.kind])
            made = cls(build(cls.shape, shape, str(path)))
            made.load_state_dict(load_file(path))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, LlmrecError) as error:
            raise ArtifactError(
                f"{path}: not a {cls.kind} encoder that can be read ({error})"
            ) from None
        return made.eval()
