"""An item's attributes, categories and brand as a short dense vector.

TF-IDF over the values (latent semantic analysis): each value is a token ``name=value``, rare
values are dropped, rows are reduced by a truncated SVD and scaled to a mean square length of
one. The fitted encoder is saved beside the vectors, so a new item gets its row without refitting.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import DataError, require
from llmrec.jsonl import read_json
from llmrec.stage import reading

_TENSORS, _VOCABULARY = "attribute_encoder.safetensors", "attribute_tokens.json"


def attribute_tokens(row: Mapping[str, Any]) -> list[str]:
    """The distinct tokens of one catalogue row, in order of appearance.

    A value that lists several things is one token a thing.

    >>> attribute_tokens({"attributes": ["colour=red, blue"], "categories": ["Nails"], "brand": ""})
    ['colour=red', 'colour=blue', 'category=Nails']
    """
    pairs = [pair.partition("=") for pair in row["attributes"] or ()]
    tokens = [f"{name}={piece.strip()}" for name, _, value in pairs for piece in value.split(",")]
    tokens += [f"category={category}" for category in row["categories"] or ()]
    tokens += [f"brand={row['brand'] or ''}"]
    return list(dict.fromkeys(token for token in tokens if not token.endswith("=")))


@dataclass(frozen=True, eq=False)
class AttributeEncoder:
    """A fitted TF-IDF and SVD.

    Attributes:
        tokens: the vocabulary, most frequent first.
        idf: float32 ``[len(tokens)]``.
        components: float32 ``[len(tokens), dim]``, already scaled.
    """

    tokens: tuple[str, ...]
    idf: np.ndarray
    components: np.ndarray

    @classmethod
    def fit(
        cls, bags: Sequence[Sequence[str]], dim: int, *, min_items: int = 3, seed: int = 0
    ) -> AttributeEncoder:
        """Learn the vocabulary and the SVD.

        Args:
            bags: the tokens of every item.
            dim: length of a vector; less when there are fewer tokens or items.
            min_items: a token on fewer items than this is dropped.

        Raises:
            DataError: if no token is on enough items.
        """
        counts = Counter(token for bag in bags for token in bag)
        kept = sorted(
            (t for t, n in counts.items() if n >= min_items), key=lambda t: (-counts[t], t)
        )
        if not kept:
            raise DataError(
                f"items: no attribute, category or brand is on {min_items} or more items; "
                "set attributes to false or lower attribute_min_items"
            )
        idf = np.array([math.log((1 + len(bags)) / (1 + counts[t])) + 1 for t in kept], np.float32)
        matrix = _tfidf(bags, kept, idf)
        extmath = require("sklearn.utils.extmath", "train")
        size = min(dim, *matrix.shape)
        _, _, right = extmath.randomized_svd(matrix, size, n_iter=7, random_state=seed)
        vectors = matrix @ right.T
        present = np.asarray(matrix.getnnz(axis=1)) > 0
        scale = 1 / math.sqrt(np.square(vectors[present]).sum(axis=1).mean())
        return cls(tuple(kept), idf, (right.T * scale).astype(np.float32))

    def transform(self, bags: Sequence[Sequence[str]]) -> np.ndarray:
        """float32 ``[len(bags), dim]``; zero rows where no token is known."""
        return np.asarray(_tfidf(bags, self.tokens, self.idf) @ self.components, np.float32)

    def save(self, folder: Path) -> None:
        """Write the encoder's two files into ``folder``."""
        from safetensors.numpy import save_file

        tensors = {"idf": self.idf, "components": np.ascontiguousarray(self.components)}
        save_file(tensors, folder / _TENSORS)
        (folder / _VOCABULARY).write_text(json.dumps(self.tokens), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> AttributeEncoder:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        from safetensors.numpy import load_file

        with reading(folder / _TENSORS, "llmrec embed"):
            tensors = load_file(folder / _TENSORS)
            tokens = read_json(folder / _VOCABULARY)
            return cls(tuple(tokens), tensors["idf"], tensors["components"])


def _tfidf(bags: Sequence[Sequence[str]], tokens: Sequence[str], idf: np.ndarray) -> Any:
    """scipy CSR ``[len(bags), len(tokens)]``, rows of length 1 (or 0)."""
    sparse = require("scipy.sparse", "train")
    column = {token: number for number, token in enumerate(tokens)}
    known = [[column[token] for token in bag if token in column] for bag in bags]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in known])])
    indices = np.array([number for row in known for number in row], dtype=np.int64)
    matrix = sparse.csr_matrix((idf[indices], indices, indptr), (len(bags), len(tokens)))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1 / np.where(norms > 0, norms, 1)) @ matrix).tocsr()
