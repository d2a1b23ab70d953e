"""The vectors of a catalogue's items as named blocks, whichever stage made them.

Light: nothing here loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from llmrec.content.features import media, text
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.stage import read_manifest, reading

FUSION_STAGE = "fusion"
FUSED_FEATURES, FUSION_ENCODER = "features.safetensors", "encoder.safetensors"
FUSED = "fused"  # the block's name


def load_fused(folder: str | Path) -> np.ndarray:
    """The vectors of ``llmrec train fusion``: float32 ``[items, dim]``, unit rows.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    read_manifest(folder, FUSION_STAGE)
    path = Path(folder) / FUSED_FEATURES
    with reading(path, "llmrec train fusion"):
        return load_file(path)[FUSED]


_LOADERS: dict[str, Callable[[str | Path], dict[str, np.ndarray]]] = {
    text.STAGE: text.load_features,
    media.STAGE: media.load_media_features,
    FUSION_STAGE: lambda folder: {FUSED: load_fused(folder)},
}


def load_blocks(folder: str | Path) -> dict[str, np.ndarray]:
    """Read the blocks of ``llmrec embed``, ``embed media`` or ``train fusion``, by name.

    Returns:
        float32 ``[n_items, dim]`` blocks such as ``text``, ``attributes``, ``image`` and ``fused``,
        and uint8 ``[n_items]`` marks of what is present.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    stage = read_manifest(folder).stage
    if stage not in _LOADERS:
        raise ArtifactError(
            f"{folder}: holds the {stage!r} stage, which has no vectors of items; give a folder of "
            "llmrec embed, embed media or train fusion"
        )
    return _LOADERS[stage](folder)


def content_vectors(folder: str | Path) -> np.ndarray:
    """One vector an item: the block ``fused`` where there is one, else ``text``.

    Returns:
        float32 ``[n_items, dim]``.

    Raises:
        ArtifactError: as for :func:`load_blocks`.
        ConfigError: if there is neither.
    """
    blocks = load_blocks(folder)
    for name in (FUSED, "text"):
        if name in blocks:
            return blocks[name]
    raise ConfigError(f"{folder}: has no vectors of text; give a folder of llmrec embed")


def combine_blocks(
    features: Mapping[str, np.ndarray], blocks: Mapping[str, float], n_items: int, where: str
) -> np.ndarray:
    """Put feature blocks side by side.

    Args:
        features: float32 ``[n_items, dim of the block]`` by name.
        blocks: weight of each block in squared distances.
        n_items: rows that every block must have.
        where: the folder or source, for messages.

    Returns:
        float32 ``[n_items, sum of dims]``.

    Raises:
        ConfigError: if a block is not there.
        DataError: if a block has another number of rows or a value is not finite.
    """
    parts = [np.zeros((n_items, 0), dtype=np.float32)]
    for name, weight in blocks.items():
        if name not in features:
            known = ", ".join(key for key in features if features[key].ndim == 2)
            raise ConfigError(f"blocks: {where} has no block {name!r}; it has: {known}")
        block = features[name]
        if block.ndim != 2 or len(block) != n_items:
            raise DataError(
                f"{where}: block {name!r} has shape {block.shape} for {n_items} items; "
                "run llmrec embed again on this dataset"
            )
        check_finite(block, f"{where}: block {name!r}")
        parts.append(block.astype(np.float32) * np.float32(math.sqrt(weight)))
    return np.concatenate(parts, axis=1)


def check_finite(vectors: np.ndarray, where: str) -> None:
    """Check that no value is NaN or infinite.

    Raises:
        DataError: naming the first item row that has one.
    """
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{where}: item row {wrong[0]} is not finite ({len(wrong)} such rows); "
            "embed these items again"
        )
