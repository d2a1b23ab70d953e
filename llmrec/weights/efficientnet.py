"""EfficientNet-Lite0 from the package's PyTorch file, as a folder that timm opens.

The package is of a port of its own to PyTorch: its tensors have other names than timm's
``tf_efficientnet_lite0`` and stand in the same order.

    timm.create_model("local-dir:FOLDER", pretrained=True)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmrec.errors import ArtifactError, one_line, require

ARCHITECTURE = "tf_efficientnet_lite0"


def convert(sources: Sequence[Path], folder: Path) -> None:
    """Write ``model.safetensors`` and timm's ``config.json``.

    Args:
        sources: the ``.pth`` file, which is read as tensors only.
        folder: to write into.

    Raises:
        ArtifactError: if it cannot be read, or its tensors are not those of the model.
        MissingExtraError: without timm.
    """
    timm = require("timm", "media")
    (path,) = sources
    model = timm.create_model(ARCHITECTURE, pretrained=False)
    model.load_state_dict(_in_order(_read(path), model.state_dict(), path))
    timm.models.save_for_hf(model.eval(), str(folder), safe_serialization=True)


def _read(path: Path) -> dict[str, Any]:
    torch = require("torch", "media")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    # a damaged file raises many kinds
    except Exception as error:
        raise ArtifactError(f"{path}: cannot be read ({one_line(error)[:200]})") from None
    return state


def _in_order(read: dict[str, Any], expected: dict[str, Any], path: Path) -> dict[str, Any]:
    """The tensors that were read, by the names of those in the same places."""
    shapes = [tuple(tensor.shape) for tensor in read.values()]
    wanted = [tuple(tensor.shape) for tensor in expected.values()]
    if shapes != wanted:
        raise ArtifactError(
            f"{path}: its {len(shapes)} tensors have not the shapes of the {len(wanted)} of "
            f"{ARCHITECTURE}"
        )
    return dict(zip(expected, read.values(), strict=True))
