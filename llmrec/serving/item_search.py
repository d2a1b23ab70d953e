"""The index of ``llmrec search index`` over the items of a bundle: pictures, and words for them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmrec.content.features.models import unit_rows
from llmrec.content.search.nearest import nearest
from llmrec.content.search.searcher import SearchIndex
from llmrec.errors import ArtifactError

if TYPE_CHECKING:
    from PIL.Image import Image

    from llmrec.serving.item_table import ItemTable


class ItemSearch:
    """Finds items of a catalogue by a vector. Many threads may use it.

    Args:
        index: opened.
        items: the catalogue; indexed items that are not in it are not found.

    Raises:
        ArtifactError: if none of the indexed items is in the catalogue.
    """

    def __init__(self, index: SearchIndex, items: ItemTable) -> None:
        self.index = index
        rows, _ = items.find("item_id", index.items["item_id"].to_pylist())
        if (rows < 0).all():
            raise ArtifactError(
                "the search index has none of the bundle's items; index its dataset"
            )
        self._rows = rows
        self._lock = threading.Lock()  # a tokenizer may not be shared

    @classmethod
    def load(cls, folder: Path, items: ItemTable) -> ItemSearch:
        """Open a folder of ``llmrec search index``, and the model that queries go through.

        Raises:
            ArtifactError, ConfigError: if they cannot be used.
        """
        found = cls(SearchIndex.load(folder), items)
        _ = found.index.encoder  # so that no request waits for it
        return found

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.index.index.d)

    def embed(self, pictures: Sequence[Image], words: str = "") -> np.ndarray:
        """A query of pictures and words as one vector, the sum of theirs: float32 ``[dim]``."""
        rows = []
        with self._lock:
            if pictures:
                rows.append(self.index.encoder.encode(pictures))
            if words.strip():
                rows.append(self.index.embed_text([words]))
        return np.asarray(unit_rows(np.concatenate(rows).sum(0, keepdims=True))[0])

    def embed_each(self, inputs: Sequence[Image | str]) -> tuple[np.ndarray, int]:
        """Pictures and texts, float32 ``[inputs, dim]`` of length 1, and the texts' tokens."""
        texts = {row: one for row, one in enumerate(inputs) if isinstance(one, str)}
        pictures = {row: one for row, one in enumerate(inputs) if not isinstance(one, str)}
        vectors, tokens = np.zeros((len(inputs), self.dim), np.float32), 0
        with self._lock:
            if pictures:
                vectors[list(pictures)] = self.index.encoder.encode(list(pictures.values()))
            if texts:
                words = list(texts.values())
                vectors[list(texts)] = self.index.embed_text(words)
                tokens = self.index.encoder.count_tokens(words)
        return vectors, tokens

    def nearest(
        self, vector: np.ndarray, passes: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The items nearest to a vector, of those that pass.

        Args:
            vector: float32 ``[dim]``, of length 1.
            passes: bool ``[items]``.
            count: at most so many.

        Returns:
            item indices, int64 ``[c]``, and their cosines, float32 ``[c]``, best first.
        """
        wanted, total = count, len(self._rows)
        while True:
            positions, scores = nearest(self.index.index, vector[None], wanted)
            there = positions[0] >= 0
            found, cosines = self._rows[positions[0][there]], scores[0][there]
            good = (found >= 0) & passes[found]
            if good.sum() >= count or wanted >= total:
                return found[good][:count], cosines[good][:count]
            wanted = min(4 * wanted, total)  # a filter takes out some of what is near
