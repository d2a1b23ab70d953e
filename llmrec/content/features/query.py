"""How close the items of a catalogue are in meaning to words somebody types."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path

import numpy as np

from llmrec.content.features.text import load_features
from llmrec.content.features.text_encoder import TextEncoder
from llmrec.errors import ArtifactError, ConfigError
from llmrec.stage import read_manifest


class QueryEncoder:
    """Compares words with the catalogue's text vectors; many threads may ask at once.

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
                f"query: {bundle} holds no text features, so it cannot be asked in words; "
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

    def closeness(self, query: str) -> np.ndarray:
        """Cosine of each item's text and the query, float32 ``[items]``."""
        with self._lock:
            asked = self._encoder.encode([query])[0]
        closeness: np.ndarray = self.vectors @ asked
        return closeness

    @cached_property
    def _encoder(self) -> TextEncoder:
        manifest = read_manifest(self.folder, "embed")
        return TextEncoder(manifest.config["model"])
