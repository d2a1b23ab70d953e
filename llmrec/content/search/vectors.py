"""Which vector stands for an item: its picture's, else its video's, mixed with its title's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.content.features.models import unit_rows


@dataclass(frozen=True)
class ItemVectors:
    """The items that can be found.

    Attributes:
        rows: int64 ``[n]``, item index of each vector, ascending.
        vectors: float32 ``[n, dim]``, unit rows.
        counts: how many items there are, and where their vectors come from.
    """

    rows: np.ndarray
    vectors: np.ndarray
    counts: dict[str, int]


def item_vectors(
    blocks: Mapping[str, np.ndarray],
    modalities: Sequence[str],
    *,
    titles: np.ndarray | None = None,
    text_weight: float = 0.0,
) -> ItemVectors:
    """One vector an item; items without any are left out.

    A title joins only what it can be compared with: cosines between two texts are far larger than
    those between a text and a picture, so an item known by its title alone would come before all
    items with pictures. Such items are in only when titles are all there is (weight 1).

    Args:
        blocks: of the stage ``embed-media``.
        modalities: those whose vectors are in the space of the image model; an item has the vector
            of the first that it has.
        titles: float32 ``[n_items, dim]``, unit rows, zero where there is no title; needed
            unless ``text_weight`` is 0.
        text_weight: the title's share, 0 to 1.
    """
    vectors, counts = _first_present(blocks, modalities)
    if text_weight and titles is not None:
        named = _present(titles)
        both = named if text_weight == 1 else named & _present(vectors)
        mixed = (1 - text_weight) * vectors + text_weight * titles
        vectors = np.where(both[:, None], mixed, 0 if text_weight == 1 else vectors)
        counts["with_title"] = int(both.sum())
    rows = np.flatnonzero(_present(vectors))
    counts |= {"items": len(vectors), "indexed": len(rows), "left_out": len(vectors) - len(rows)}
    return ItemVectors(rows, unit_rows(vectors[rows]), counts)


def _first_present(
    blocks: Mapping[str, np.ndarray], modalities: Sequence[str]
) -> tuple[np.ndarray, dict[str, int]]:
    """The first vector that each item has, zero rows for the others; how many are of which."""
    any_block = next(block for block in blocks.values() if block.ndim == 2)
    vectors = np.zeros_like(next((blocks[n] for n in modalities if n in blocks), any_block))
    counts = dict.fromkeys((f"from_{name}" for name in modalities), 0)
    for name in modalities:
        if name in blocks:
            new = _present(blocks[name]) & ~_present(vectors)
            vectors[new] = blocks[name][new]
            counts[f"from_{name}"] = int(new.sum())
    return vectors, counts


def _present(vectors: np.ndarray) -> np.ndarray:
    """bool ``[n]``, which rows are not zero."""
    return np.asarray(vectors.any(axis=1))
