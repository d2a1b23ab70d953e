"""Content vectors of new items and of text queries, made as those of the catalogue.

Everything is read from the ``embed`` stage's folder: model, text fields, attribute encoder.

    encoder = ItemEncoder("runs/beauty/features")
    blocks = encoder.encode(new_items.to_pylist())  # rows of a catalogue
    encoder.encode_query("nail polish") @ load_features("runs/beauty/features")["text"].T
"""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.config import build
from llmrec.content.features.attributes import AttributeEncoder, attribute_tokens
from llmrec.content.features.models import weights_hash
from llmrec.content.features.text import STAGE, EmbedConfig, load_features
from llmrec.content.features.text_encoder import MINILM, TextEncoder, locate_model
from llmrec.errors import ArtifactError
from llmrec.stage import read_manifest

TEXT_ENCODER = "text_encoder"  # folder of a bundle


class ItemEncoder:
    """Makes the same blocks for new items as ``llmrec embed`` made for the catalogue.

    Args:
        folder: a finished ``embed`` stage.
        device: where the text model runs.
        text_encoder: folder of the text model; None to find it where the settings say.

    Raises:
        ArtifactError: if the folder cannot be read, or the text model is not there or no longer
            the same. No hub is asked.
    """

    def __init__(
        self, folder: str | Path, *, device: str = "auto", text_encoder: Path | None = None
    ) -> None:
        self.config, found = _find_text_encoder(Path(folder), text_encoder)
        self.text: TextEncoder = self.config.open_text_encoder(device, found)
        self.attributes = AttributeEncoder.load(Path(folder)) if self.config.attributes else None

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """``text`` and, where the catalogue has it, ``attributes``: float32 ``[items, dim]``.

        Args:
            rows: of a catalogue, as ``items.parquet`` has them.
        """
        blocks = {"text": self.text.encode(self.config.item_texts(rows), kind="document")}
        if self.attributes is not None:
            blocks["attributes"] = self.attributes.transform([attribute_tokens(r) for r in rows])
        return blocks

    def encode_query(self, query: str) -> np.ndarray:
        """Words in the space of the block ``text``: float32 ``[dim]``, unit length."""
        return np.asarray(self.text.encode([query])[0])


def _find_text_encoder(features: Path, given: Path | None) -> tuple[EmbedConfig, Path]:
    """Settings of the ``embed`` stage and the folder of its text model, whose files are checked."""
    manifest = read_manifest(features, STAGE)
    config = build(EmbedConfig, manifest.config, str(features))
    folder = Path(locate_model(config.model)) if given is None else given
    if not folder.is_dir():
        raise ArtifactError(
            f"{features}: its text model {config.model!r} is not on this machine; run llmrec embed "
            "again with --verify"
        )
    if weights_hash(str(folder)) != manifest.inputs["model"]:
        raise ArtifactError(
            f"{features}: made with other weights of {config.model!r} than those in {folder}; run "
            "llmrec embed again"
        )
    return config, folder


def copy_text_encoder(features: Path, bundle: Path) -> None:
    """Put the text model of an ``embed`` stage into a bundle, unless it is part of a package.

    Raises:
        ArtifactError: if it is not there or no longer the same.
    """
    config, folder = _find_text_encoder(features, None)
    if config.model != MINILM:
        shutil.copytree(folder, bundle / TEXT_ENCODER)


def own_text_encoder(bundle: Path) -> Path | None:
    """Folder of the text model that a bundle brings, if it does."""
    folder = bundle / TEXT_ENCODER
    return folder if folder.is_dir() else None


class QuerySimilarity:
    """Compares words with the catalogue's text vectors; threads may call it at once.

    Args:
        bundle: the folder whose ``features/`` and ``text_encoder/`` to use.
        n_items: items of the catalogue.

    Raises:
        ArtifactError: if they are missing, damaged or of another catalogue.
    """

    def __init__(self, bundle: Path, n_items: int) -> None:
        self.folder = bundle / "features"
        self._text_encoder = own_text_encoder(bundle)
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

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Feature blocks of items; see :meth:`ItemEncoder.encode`."""
        with self._lock:
            return self._encoder.encode(rows)

    def with_vectors(self, vectors: np.ndarray) -> QuerySimilarity:
        """The same with the text vectors of a changed catalogue, float32 ``[items, dim]``; both
        have one text model."""
        self.open_encoder()
        changed = copy.copy(self)
        changed.vectors = vectors
        return changed

    def encode_texts(self, texts: Sequence[str], *, as_items: bool) -> tuple[np.ndarray, int]:
        """Texts in the space of the items', float32 ``[texts, dim]`` of length 1, and how many
        tokens they have.

        Args:
            as_items: as texts of items are read, where the model tells them from queries.
        """
        with self._lock:
            text = self._encoder.text
            vectors = text.encode(texts, kind="document" if as_items else "query")
            return vectors, text.count_tokens(texts)

    def open_encoder(self) -> None:
        """Open the text model, which the first query does otherwise.

        Raises:
            ArtifactError: if it is not there or no longer the same.
            MissingExtraError: if what runs it is not installed.
        """
        with self._lock:
            _ = self._encoder

    @cached_property
    def _encoder(self) -> ItemEncoder:
        return ItemEncoder(self.folder, text_encoder=self._text_encoder)
