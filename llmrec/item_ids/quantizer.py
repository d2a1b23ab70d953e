"""Residual quantization, as it is applied: an optional encoder, then one codebook a level.

RQ-KMeans and RQ-VAE differ in how they learn; what they learn is the same shape and runs in
plain NumPy, so giving a new item its ID needs neither faiss nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.stage import reading

_ROWS = 8192  # rows at a time, so that a distance matrix stays small


@dataclass(frozen=True, eq=False)
class ResidualQuantizer:
    """Codebooks, and the encoder in front of them.

    Attributes:
        codebooks: per level float32 ``[size, latent_dim]``.
        layers: ``(weight [in, out], bias [out])`` of an MLP with ReLU between the layers;
            none for RQ-KMeans, whose latent space is the content space itself.
    """

    codebooks: tuple[np.ndarray, ...]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @property
    def level_sizes(self) -> tuple[int, ...]:
        return tuple(len(book) for book in self.codebooks)

    @property
    def input_dim(self) -> int:
        """Length of the content vectors it takes."""
        return int((self.layers[0][0] if self.layers else self.codebooks[0].T).shape[0])

    def latents(self, vectors: np.ndarray) -> np.ndarray:
        """float32 ``[n, latent_dim]`` of content vectors ``[n, input_dim]``."""
        hidden = np.asarray(vectors, dtype=np.float32)
        for number, (weight, bias) in enumerate(self.layers):
            hidden = hidden @ weight + bias
            if number < len(self.layers) - 1:
                hidden = np.maximum(hidden, 0)
        return hidden

    def codes(self, latents: np.ndarray) -> np.ndarray:
        """int32 ``[n, levels]``: at each level the codeword nearest to what is left."""
        codes = np.empty((len(latents), len(self.codebooks)), dtype=np.int32)
        residual = np.array(latents, dtype=np.float32)
        for level, book in enumerate(self.codebooks):
            codes[:, level] = nearest(residual, book)
            residual -= book[codes[:, level]]
        return codes

    def residuals(self, latents: np.ndarray, codes: np.ndarray) -> Iterator[np.ndarray]:
        """What is left after each level of ``codes``: float32 ``[n, latent_dim]`` each."""
        residual = np.array(latents, dtype=np.float32)
        for level, book in enumerate(self.codebooks):
            residual = residual - book[codes[:, level]]
            yield residual

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        from safetensors.numpy import save_file

        tensors = {f"codebook_{n}": np.ascontiguousarray(b) for n, b in enumerate(self.codebooks)}
        for number, (weight, bias) in enumerate(self.layers):
            tensors[f"weight_{number}"] = np.ascontiguousarray(weight)
            tensors[f"bias_{number}"] = np.ascontiguousarray(bias)
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> ResidualQuantizer:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if the file is missing or damaged.
        """
        from safetensors.numpy import load_file

        with reading(path, "llmrec index"):
            tensors = load_file(path)
        levels = sum(name.startswith("codebook_") for name in tensors)
        depth = sum(name.startswith("weight_") for name in tensors)
        return cls(
            tuple(tensors[f"codebook_{n}"] for n in range(levels)),
            tuple((tensors[f"weight_{n}"], tensors[f"bias_{n}"]) for n in range(depth)),
        )


@dataclass(frozen=True, eq=False)
class FittedQuantizer:
    """A quantizer and what it makes of the items it was fitted to.

    Attributes:
        quantizer: the codebooks and the encoder.
        latents: float32 ``[n, latent_dim]``.
        codes: int32 ``[n, levels]``, before collisions are resolved.
        relative_mse: squared error of the reconstructed content vectors over that of their
            mean; 0 is perfect, 1 no better than the mean.
    """

    quantizer: ResidualQuantizer
    latents: np.ndarray
    codes: np.ndarray
    relative_mse: float


def square_distances(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """float32 ``[n, size]`` squared Euclidean distances, never negative."""
    lengths = np.square(vectors).sum(axis=1)[:, None] + np.square(book).sum(axis=1)
    return np.maximum(lengths - 2 * (vectors @ book.T), 0)


def nearest(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """int32 ``[n]``, the nearest row of ``book``; ties go to the smaller index."""
    found = np.empty(len(vectors), dtype=np.int32)
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, start + _ROWS)
        found[rows] = square_distances(vectors[rows], book).argmin(axis=1)
    return found


def relative_mse(residual: np.ndarray, vectors: np.ndarray) -> float:
    """Squared length of ``residual`` over that of ``vectors`` about their mean.

    Returns 0 where the vectors are all alike (there is nothing to explain).
    """
    spread = float(np.square(vectors - vectors.mean(axis=0)).sum(dtype=np.float64))
    left = float(np.square(residual).sum(dtype=np.float64))
    return left / spread if spread > 0 else 0.0


def content_codebooks(
    vectors: np.ndarray, codes: np.ndarray, sizes: tuple[int, ...]
) -> list[np.ndarray]:
    """Codewords in content space: per level the mean of what the earlier levels leave.

    Args:
        vectors: float32 ``[n, dim]`` content vectors.
        codes: int ``[n, len(sizes)]``.

    Returns:
        Per level float32 ``[size, dim]``; zero rows for codes without items. The sum of an
        item's codewords approximates its content vector.
    """
    residual = np.array(vectors, dtype=np.float32)
    books = []
    for level, size in enumerate(sizes):
        book = np.zeros((size, vectors.shape[1]), dtype=np.float32)
        np.add.at(book, codes[:, level], residual)
        counts = np.bincount(codes[:, level], minlength=size).astype(np.float32)
        book /= np.maximum(counts, 1)[:, None]
        residual -= book[codes[:, level]]
        books.append(book)
    return books
