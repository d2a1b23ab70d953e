"""Content vectors of new items and of text queries, made as those of the catalogue.

Everything is read from the ``embed`` stage's folder: model, text fields, attribute encoder.

    encoder = ItemEncoder("runs/beauty/features")
    blocks = encoder.encode([Item("new-1", title="Red nail polish")])
    encoder.encode_query("nail polish") @ load_features("runs/beauty/features")["text"].T
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from llmrec.config import build
from llmrec.content.features.attributes import AttributeEncoder, attribute_tokens
from llmrec.content.features.models import weights_hash
from llmrec.content.features.text import STAGE, EmbedConfig, load_features
from llmrec.content.features.text_encoder import TextEncoder, locate_model
from llmrec.errors import ArtifactError, ConfigError
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
        if weights_hash(locate_model(self.config.model)) != manifest.inputs["model"]:
            raise ArtifactError(
                f"{folder}: made with other weights of {self.config.model!r} than are "
                "installed; run llmrec embed again"
            )
        self.text: TextEncoder = self.config.open_text_encoder(device)
        self.attributes = AttributeEncoder.load(Path(folder)) if self.config.attributes else None

    def encode(self, items: Sequence[Item]) -> dict[str, np.ndarray]:
        """``text`` and, where the catalogue has it, ``attributes``: float32 ``[items, dim]``."""
        rows = [asdict(item) for item in items]
        for row in rows:
            row["attributes"] = [f"{name}={value}" for name, value in row["attributes"].items()]
        blocks = {"text": self.text.encode(self.config.item_texts(rows), kind="document")}
        if self.attributes is not None:
            blocks["attributes"] = self.attributes.transform([attribute_tokens(r) for r in rows])
        return blocks

    def encode_query(self, query: str) -> np.ndarray:
        """Words in the space of the block ``text``: float32 ``[dim]``, unit length."""
        return np.asarray(self.text.encode([query])[0])


class QuerySimilarity:
    """Compares words with the catalogue's text vectors; threads may call it at once.

    Args:
        bundle: the folder whose ``features/`` to use.
        n_items: items of the catalogue.

    Raises:
        ConfigError: if the bundle was made without features.
        ArtifactError: if they are damaged or of another catalogue.
    """

    def __init__(self, bundle: Path, n_items: int) -> None:
        self.folder = bundle / "features"
        if not self.folder.is_dir():
            raise ConfigError(
                f"query: {bundle} holds no text features, which words are compared with; "
                "make the bundle again with --features"
            )
        self.vectors = load_features(self.folder)["text"]
        if len(self.vectors) != n_items:
            raise ArtifactError(
                f"{self.folder}: holds vectors of {len(self.vectors)} items, the catalogue has "
                f"{n_items}; run llmrec bundle again"
            )
        # Loading a model in two threads at once is unsafe, and so is sharing its tokenizer.
        self._lock = threading.Lock()

    def cosines(self, query: str) -> np.ndarray:
        """Cosine of each item's text and the query, float32 ``[items]``."""
        with self._lock:
            vector = self._encoder.encode_query(query)
        return np.asarray(self.vectors @ vector)

    @cached_property
    def _encoder(self) -> ItemEncoder:
        return ItemEncoder(self.folder)
