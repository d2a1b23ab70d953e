"""One content vector an item, out of the blocks that ``llmrec embed`` wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from llmrec.errors import ConfigError, DataError


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
