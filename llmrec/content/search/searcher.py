"""Search an index: vectors of words or pictures in, items and cosines out.

index = SearchIndex.load("runs/shop/search_index")
results = index.search(index.embed_text(["a red striped mug", "blue socks"]), n=10)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.content.features.image_encoder import ImageEncoder, open_same_model
from llmrec.content.search.build import ITEMS, STAGE, VECTORS
from llmrec.content.search.nearest import load_index, nearest
from llmrec.errors import ArtifactError, ConfigError
from llmrec.stage import read_manifest, reading


@dataclass(frozen=True)
class FoundItem:
    """An item found.

    Attributes:
        rank: from 1.
        score: cosine of its vector and the query's.
        image: its picture, as the catalogue names it.
    """

    rank: int
    item_id: str
    title: str
    score: float
    image: str | None


class SearchIndex:
    """An index and the model that queries go through; the model is loaded at the first query.

    Args:
        index: of faiss, over unit vectors.
        items: table with ``item_id``, ``title`` and ``image``, one row a vector.
        open_encoder: loads the image model.
    """

    def __init__(
        self, index: Any, items: pa.Table, open_encoder: Callable[[], ImageEncoder]
    ) -> None:
        self.index, self.items = index, items
        self._open_encoder = open_encoder

    @classmethod
    def load(
        cls, folder: str | Path, *, image_model: str | None = None, device: str = "auto"
    ) -> SearchIndex:
        """Open a folder of ``llmrec search index``.

        Args:
            image_model: where the image model is now; None for where it was.

        Raises:
            ArtifactError: if the folder is missing, damaged or of another stage.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, STAGE)
        with reading(folder / ITEMS, "llmrec search index"):
            items = pq.read_table(folder / ITEMS, columns=["item_id", "title", "image"])
        try:
            model, expected = manifest.config["image_model"], manifest.inputs["image_model"]
            dim = int(manifest.counts["dim"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{folder}: its manifest lacks {error}; run llmrec search index again"
            ) from None
        index = load_index(folder / VECTORS, dim, items.num_rows)
        model = image_model or model
        return cls(index, items, partial(open_same_model, model, expected, folder, device))

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The image model.

        Raises:
            ArtifactError: if its weights are gone or others, or give vectors of another length.
            ConfigError: if it cannot be loaded.
        """
        encoder = self._open_encoder()
        if encoder.dim != self.index.d:
            raise ArtifactError(
                f"the index holds vectors of {self.index.d} numbers, {encoder.model!r} gives "
                f"{encoder.dim}; run llmrec search index again"
            )
        return encoder

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Queries as vectors: float32 ``[texts, dim]``, unit rows.

        Raises:
            ConfigError: for an empty text.
        """
        if any(not text.strip() for text in texts):
            raise ConfigError("text: is empty; say what to look for")
        if not texts:
            return np.zeros((0, self.index.d), np.float32)
        return self.encoder.encode_text(texts)

    def search(self, vectors: np.ndarray, n: int = 10) -> list[list[FoundItem]]:
        """The items nearest to each vector.

        Args:
            vectors: float32 ``[queries, dim]``, unit rows.

        Raises:
            ConfigError: for an ``n`` below 1.
        """
        if n < 1:
            raise ConfigError(f"n: must be 1 or more, got {n}")
        found: list[list[FoundItem]] = []
        for rows, scores in zip(*nearest(self.index, vectors, n), strict=True):
            reached = rows >= 0
            items = self.items.take(rows[reached]).to_pylist()
            pairs = zip(items, scores[reached].tolist(), strict=True)
            found.append(
                [
                    FoundItem(rank, score=score, **item)
                    for rank, (item, score) in enumerate(pairs, start=1)
                ]
            )
        return found
