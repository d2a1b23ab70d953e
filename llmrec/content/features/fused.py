"""Read what ``llmrec train fusion`` wrote. Light: nothing here loads torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from llmrec.errors import ArtifactError
from llmrec.stage import read_manifest

STAGE = "fusion"
FEATURES, ENCODER = "features.safetensors", "encoder.safetensors"
FUSED = "fused"  # the block's name


def load_fused(folder: str | Path) -> np.ndarray:
    """The fused vector of every item of the dataset: float32 ``[items, dim]``, unit rows.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    return load_blocks(folder)[FUSED]


def load_blocks(folder: str | Path) -> dict[str, np.ndarray]:
    """The same as a block by name, as :func:`llmrec.content.features.text.load_features` gives
    blocks.

    Raises:
        ArtifactError: as for :func:`load_fused`.
    """
    read_manifest(folder, STAGE)
    path = Path(folder) / FEATURES
    try:
        return {FUSED: load_file(path)[FUSED]}
    except (OSError, KeyError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); run llmrec train fusion again"
        ) from None
