"""The vectors of a catalogue's items as named blocks, whichever stage made them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from llmrec.content.features import fused, media, text
from llmrec.errors import ArtifactError
from llmrec.stage import read_manifest

_LOADERS: dict[str, Callable[[str | Path], dict[str, np.ndarray]]] = {
    text.STAGE: text.load_features,
    media.STAGE: media.load_media_features,
    fused.STAGE: fused.load_blocks,
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
