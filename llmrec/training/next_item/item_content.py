"""Content vectors that item rows are computed from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.item_ids.quantizer import content_codebooks


def token_content(
    components: dict[str, int], features: Path | None, ids: ItemIds
) -> torch.Tensor | None:
    """Content vector of every item token: of its items, less what their earlier tokens say.

    The vectors of an ID add up to about its item's content: a token of the first level has the mean
    of its items, one of a later level the mean of what is left of them.

    Returns:
        float32 ``[item tokens, sum of components]`` or None when ``components`` is empty.
    """
    content = content_matrix(features, components)
    if content is None:
        return None
    return torch.from_numpy(np.concatenate(content_codebooks(content, ids.codes, ids.level_sizes)))


def content_matrix(features: Path | None, components: dict[str, int]) -> np.ndarray | None:
    """Content vectors the item rows are computed from.

    Each block is reduced to its principal components and scaled to unit mean square.

    Args:
        features: folder of the embed stage.
        components: block name -> principal components kept.

    Returns:
        float32 ``[items, sum of components]`` or None when ``components`` is empty.

    Raises:
        ConfigError: for features that are not there.
    """
    if not components:
        return None
    if features is None:
        raise ConfigError(
            "train.content: names feature blocks but there is no features folder; run "
            "llmrec embed, or set content: {}"
        )
    from llmrec.content.features.blocks import load_blocks

    blocks = load_blocks(features)
    parts = []
    for name, kept in components.items():
        if name not in blocks:
            known = ", ".join(sorted(blocks))
            raise ConfigError(f"train.content: {features} has no block {name!r}; it has {known}")
        parts.append(principal_components(blocks[name], kept))
    return np.concatenate(parts, axis=1)


def principal_components(vectors: np.ndarray, kept: int) -> np.ndarray:
    """The leading principal components, scaled to unit mean square over the whole matrix.

    Args:
        vectors: float ``[items, dim]``.

    Returns:
        float32 ``[items, min(kept, dim)]``.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    leading = centred @ axes[:, np.argsort(values)[::-1][:kept]]
    scale = np.sqrt((leading**2).mean())
    return (leading / max(scale, 1e-12)).astype(np.float32)
