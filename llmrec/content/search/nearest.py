"""The faiss index over item vectors: exact for small shops, approximate for large ones.

All kinds compare unit vectors by inner product, which is the cosine. The kind is chosen by size:

* ``flat``, up to 100,000 items: compares with all of them;
* ``hnsw``, up to 1,000,000: a graph of neighbours (Malkov and Yashunin, 2016), exact scores;
* ``ivfpq``, above: inverted lists of product-quantized codes (Jegou et al., 2011), whose best are
  ranked again by 8-bit vectors, so scores are right to about two decimals.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.content.search.settings import Kind
from llmrec.errors import ArtifactError, ConfigError, require
from llmrec.loop.bars import ProgressBar

FLAT_MAX, HNSW_MAX = 100_000, 1_000_000
RECALL_AT = 10
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 32, 200, 128  # of the graph
_CODES = 256  # of a quantizer: one byte
_POINTS_A_CENTROID = 39  # faiss trains a centroid on no fewer without a warning
_SAMPLE_A_LIST, _SAMPLE_MAX = 64, 500_000
_RERANKED = 8  # times as many as are wanted
_ADDED_AT_ONCE = 10_000
IVFPQ_MIN = _CODES * _POINTS_A_CENTROID


def choose_kind(kind: Kind, n: int) -> Kind:
    """The kind for ``n`` vectors.

    Raises:
        ConfigError: if there are too few vectors to train the codes of ``ivfpq``.

    >>> [choose_kind("auto", n) for n in (500, 500_000, 5_000_000)]
    ['flat', 'hnsw', 'ivfpq']
    """
    if kind == "ivfpq" and n < IVFPQ_MIN:
        raise ConfigError(
            f"kind: ivfpq trains its codes on {IVFPQ_MIN:,} vectors or more, here are {n:,}; "
            "use flat, or auto"
        )
    if kind != "auto":
        return kind
    return "flat" if n <= FLAT_MAX else "hnsw" if n <= HNSW_MAX else "ivfpq"


def build_index(vectors: np.ndarray, kind: Kind, seed: int = 0) -> Any:
    """A faiss index.

    Args:
        vectors: float32 ``[n, dim]``, unit rows.
        kind: not ``auto``.
        seed: of the sample that codes are trained on.
    """
    faiss = require("faiss", "media")
    dim = vectors.shape[1]
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_WIDTH, _SEARCH_WIDTH
    elif kind == "ivfpq":
        index = _trained_ivfpq(vectors, seed)
    else:
        index = faiss.IndexFlatIP(dim)
    with ProgressBar(total=len(vectors), unit="item", desc=f"{kind} index") as progress:
        for start in range(0, len(vectors), _ADDED_AT_ONCE):
            batch = np.ascontiguousarray(vectors[start : start + _ADDED_AT_ONCE])
            index.add(batch)
            progress.update(len(batch))
    return index


def _trained_ivfpq(vectors: np.ndarray, seed: int) -> Any:
    faiss = require("faiss", "media")
    n, dim = vectors.shape
    lists = list_count(n)
    base = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(dim), dim, lists, code_bytes(dim), 8, faiss.METRIC_INNER_PRODUCT
    )
    base.nprobe = max(8, lists // 16)
    base.cp.seed = base.pq.cp.seed = seed
    exact = faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index = faiss.IndexRefine(base, exact)
    index.k_factor = _RERANKED
    size = min(n, max(_SAMPLE_A_LIST * lists, IVFPQ_MIN), _SAMPLE_MAX)
    sample = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    index.train(np.ascontiguousarray(vectors[sample]))
    return index


def list_count(n: int) -> int:
    """Lists of an ``ivfpq`` index: four times the square root, as far as a sample can train them.

    >>> list_count(10_000), list_count(1_000_000)
    (256, 4000)
    """
    return max(1, min(int(4 * math.sqrt(n)), min(n, _SAMPLE_MAX) // _POINTS_A_CENTROID))


def code_bytes(dim: int) -> int:
    """Bytes of a vector's code: about one for eight numbers, and a divisor of ``dim``.

    >>> code_bytes(512), code_bytes(24), code_bytes(7)
    (64, 3, 1)
    """
    return max(m for m in range(1, max(dim // 8, 1) + 1) if dim % m == 0)


def nearest(index: Any, queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``n`` nearest vectors of each query, or all when there are fewer.

    Args:
        queries: float32 ``[q, dim]``, unit rows.

    Returns:
        int64 ``[q, k]`` and float32 ``[q, k]``, best first; -1 where an approximate index
        reached fewer than ``k = min(n, vectors)``.
    """
    k = min(n, index.ntotal)
    queries = np.ascontiguousarray(queries, np.float32)
    scores, rows = index.search(queries, k)
    if (rows < 0).any():  # an approximate search reached fewer
        scores, rows = index.search(queries, k, params=_everywhere(index))
    return rows, scores


def _everywhere(index: Any) -> Any:
    """Search parameters that look at everything."""
    faiss = require("faiss", "media")
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=index.ntotal)
    base = faiss.downcast_index(index.base_index)
    inside = faiss.SearchParametersIVF(nprobe=base.nlist)
    return faiss.IndexRefineSearchParameters(k_factor=1, base_index_params=inside)


def measure_recall(index: Any, vectors: np.ndarray, queries: np.ndarray) -> float:
    """Share of the exact ten nearest that ``index`` finds; vectors at the same distance are equal.

    Args:
        vectors: float32 ``[n, dim]``, what the index holds.
        queries: float32 ``[q, dim]``, unit rows.
    """
    faiss = require("faiss", "media")
    k = min(RECALL_AT, len(vectors))
    exact, _ = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    rows, _ = nearest(index, queries, k)
    found = np.einsum("qd,qkd->qk", queries, vectors[rows])
    found[rows < 0] = -np.inf
    return float((found >= exact[:, -1:] - 1e-6).mean())


def load_index(path: Path, dim: int, n: int) -> Any:
    """Read an index.

    Raises:
        ArtifactError: if it is missing, damaged or not over ``n`` vectors of ``dim`` numbers.
    """
    faiss = require("faiss", "media")
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:  # of any kind: a file that is gone, cut short, or something else
        reason = str(error).splitlines()[-1].split("Error: ")[-1][:100]
        raise ArtifactError(
            f"{path}: cannot be read ({reason}); run llmrec search index again with --verify"
        ) from None
    if (index.d, index.ntotal) != (dim, n):
        raise ArtifactError(
            f"{path}: holds {index.ntotal:,} vectors of {index.d} numbers, expected {n:,} of {dim}"
            "; run llmrec search index again with --verify"
        )
    return index
