"""Content vectors of items that were not in the catalogue when it was embedded.

Reads everything from the ``embed`` stage's folder: model, text fields, attribute encoder.

    encoder = ItemEncoder("runs/beauty/features")
    blocks = encoder.encode([Item("new-1", title="Red nail polish")])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from llmrec.config import build
from llmrec.content.features.attributes import AttributeEncoder, attribute_tokens
from llmrec.content.features.text import STAGE, EmbedConfig, item_text
from llmrec.content.features.text_encoder import TextEncoder, model_hash
from llmrec.errors import ArtifactError
from llmrec.stage import read_manifest
from llmrec.types import Item


class ItemEncoder:
    """Makes the same blocks for new items as ``llmrec embed`` made for the catalogue.

    Args:
        folder: a finished ``embed`` stage.
        device: where the text model runs.

    Raises:
        ArtifactError: if the folder cannot be read, or the text model is no longer the same.
    """

    def __init__(self, folder: str | Path, *, device: str = "auto") -> None:
        manifest = read_manifest(folder, STAGE)
        self.config = build(EmbedConfig, manifest.config, str(folder))
        if model_hash(self.config.model) != manifest.inputs["model"]:
            raise ArtifactError(
                f"{folder}: made with other weights of {self.config.model!r} than are "
                "installed; run llmrec embed again"
            )
        self.text = TextEncoder(self.config.model, device=device, dtype=self.config.dtype)
        self.attributes = AttributeEncoder.load(Path(folder)) if self.config.attributes else None

    def encode(self, items: Sequence[Item]) -> dict[str, np.ndarray]:
        """``text`` and, where the catalogue has it, ``attributes``: float32 ``[items, dim]``."""
        rows = [asdict(item) for item in items]
        for row in rows:
            row["attributes"] = [f"{name}={value}" for name, value in row["attributes"].items()]
        chars = self.config.description_chars
        texts = [item_text(row, self.config.fields, chars) for row in rows]
        blocks = {"text": self.text.encode(texts, kind="document")}
        if self.attributes is not None:
            blocks["attributes"] = self.attributes.transform([attribute_tokens(r) for r in rows])
        return blocks
