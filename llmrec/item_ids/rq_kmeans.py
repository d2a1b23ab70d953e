"""RQ-KMeans: k-means on the vectors, then on what is left of them, level by level.

Follows OneRec (arXiv 2502.18965) in using k-means where TIGER trains an RQ-VAE. ``balanced``
adds its equal-sized clusters: no code gets more than ``ceil(n / size)`` items.
"""

from __future__ import annotations

import numpy as np

from llmrec.errors import require
from llmrec.item_ids.quantizer import (
    FittedQuantizer,
    ResidualQuantizer,
    nearest,
    relative_mse,
    square_distances,
)


def fit_rq_kmeans(
    vectors: np.ndarray,
    sizes: tuple[int, ...],
    *,
    iterations: int = 25,
    balanced: bool = False,
    seed: int = 0,
) -> FittedQuantizer:
    """Learn one codebook a level.

    Args:
        vectors: float32 ``[n, dim]``, finite, ``n`` no less than any size.
        sizes: codes a level.
        iterations: of k-means, per level.
        balanced: spread the items evenly over the codes of a level.
        seed: decides the first centroids; the result depends on nothing else.
    """
    residual = np.array(vectors, dtype=np.float32)
    codes = np.empty((len(vectors), len(sizes)), dtype=np.int32)
    books = []
    for level, size in enumerate(sizes):
        book = kmeans(residual, size, iterations=iterations, seed=seed + level)
        if balanced:
            book, codes[:, level] = _balance(residual, book)
        else:
            codes[:, level] = nearest(residual, book)
        residual -= book[codes[:, level]]
        books.append(book)
    quantizer = ResidualQuantizer(tuple(books))
    return FittedQuantizer(quantizer, vectors, codes, relative_mse(residual, vectors))


def kmeans(vectors: np.ndarray, size: int, *, iterations: int = 25, seed: int = 0) -> np.ndarray:
    """float32 ``[size, dim]`` centroids, by faiss (on a sample of 256 vectors a centroid)."""
    faiss = require("faiss", "train")
    trainer = faiss.Kmeans(
        vectors.shape[1],
        size,
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=256,
    )
    trainer.train(np.ascontiguousarray(vectors, dtype=np.float32))
    return np.array(trainer.centroids, dtype=np.float32).reshape(size, vectors.shape[1])


def _balance(
    vectors: np.ndarray, book: np.ndarray, rounds: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Equal-sized clusters: assign under a capacity, move the centroids, again."""
    for _ in range(rounds):
        codes = _assign_under_capacity(vectors, book)
        counts = np.bincount(codes, minlength=len(book))
        sums = np.zeros_like(book)
        np.add.at(sums, codes, vectors)
        used = counts > 0
        book = book.copy()
        book[used] = sums[used] / counts[used, None]
    return book, _assign_under_capacity(vectors, book)


def _assign_under_capacity(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """int32 ``[n]``: items ask their nearest code, a full code keeps the nearest ones.

    Deferred acceptance (Gale and Shapley, 1962): no item is refused by a code in favour of an item
    that is farther from it.
    """
    n, size = len(vectors), len(book)
    capacity = -(-n // size)
    distances = square_distances(vectors, book)
    wishes = np.argsort(distances, axis=1, kind="stable")
    tried = np.zeros(n, dtype=np.int64)
    codes = wishes[:, 0]
    while True:
        order = np.lexsort((distances[np.arange(n), codes], codes))
        starts = np.searchsorted(codes[order], np.arange(size))
        rank = np.arange(n) - starts[codes[order]]  # 0 is the nearest item of its code
        refused = order[rank >= capacity]
        if not len(refused):
            return codes.astype(np.int32)
        tried[refused] += 1
        codes[refused] = wishes[refused, tried[refused]]
