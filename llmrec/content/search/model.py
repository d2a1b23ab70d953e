"""The CLIP that item vectors were made with: a query must go through the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.errors import ArtifactError

if TYPE_CHECKING:
    from llmrec.content.features.image_encoder import ImageEncoder


def open_same_model(model: str, expected: str, folder: Path, device: str) -> ImageEncoder:
    """Load ``model`` if its weights are those that ``folder`` was made with.

    Args:
        model: name, file or folder, as for
        :class:`~llmrec.content.features.image_encoder.ImageEncoder`. expected: what
        ``weights_hash`` gave then.

    Raises:
        ArtifactError: if the weights are gone or others.
        ConfigError: if they cannot be loaded.
    """
    from llmrec.content.features.image_encoder import ImageEncoder, weights_hash

    found = weights_hash(model)
    if found != expected:
        state = "is not here" if found == model else "holds other weights now"
        raise ArtifactError(
            f"{folder}: the image model {model!r} that it was made with {state}; "
            "say with --image-model where it is, or make the folder again"
        )
    return ImageEncoder(model, device=device)
