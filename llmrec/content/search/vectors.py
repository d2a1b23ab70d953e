"""Which vector stands for an item: its picture's, else its video's, mixed with its title's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
    *,
    videos: bool = True,
    titles: np.ndarray | None = None,
    text_weight: float = 0.0,
) -> ItemVectors:
    """One vector an item; items without any are left out.

    A title joins only what it can be compared with: cosines between two texts are far larger than
    those between a text and a picture, so an item known by its title alone would come before all
    items with pictures. Such items are in only when titles are all there is (weight 1).

    Args:
        blocks: of the stage ``embed-media``.
        videos: whether a video's vector is in the space of the pictures' (a mean of frames is).
        titles: float32 ``[n_items, dim]``, unit rows, zero where there is no title; needed
            unless ``text_weight`` is 0.
        text_weight: the title's share, 0 to 1.
    """
    vectors, counts = _seen(blocks, videos)
    if text_weight and titles is not None:
        named = _there(titles)
        both = named if text_weight == 1 else named & _there(vectors)
        mixed = (1 - text_weight) * vectors + text_weight * titles
        vectors = np.where(both[:, None], mixed, 0 if text_weight == 1 else vectors)
        counts["with_title"] = int(both.sum())
    rows = np.flatnonzero(_there(vectors))
    counts |= {"items": len(vectors), "indexed": len(rows), "left_out": len(vectors) - len(rows)}
    return ItemVectors(rows, unit(vectors[rows]), counts)


def unit(vectors: np.ndarray) -> np.ndarray:
    """float32 rows of length 1; a zero row stays.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def _seen(blocks: Mapping[str, np.ndarray], videos: bool) -> tuple[np.ndarray, dict[str, int]]:
    """Vectors of what can be seen, zero rows for the other items."""
    images, clips = blocks.get("image"), blocks.get("video") if videos else None
    if images is None and clips is None:
        dim = blocks["video"].shape[1] if "video" in blocks else 1
        return np.zeros((len(next(iter(blocks.values()))), dim), np.float32), _sources(0, 0)
    if images is None or clips is None:
        only = images if clips is None else clips
        assert only is not None
        n = int(_there(only).sum())
        return only.copy(), _sources(*((n, 0) if clips is None else (0, n)))
    pictured = _there(images)
    filmed = _there(clips) & ~pictured
    vectors = np.where(pictured[:, None], images, clips)
    return vectors, _sources(int(pictured.sum()), int(filmed.sum()))


def _there(vectors: np.ndarray) -> np.ndarray:
    """bool ``[n]``, which rows are not zero."""
    return np.asarray(vectors.any(axis=1))


def _sources(images: int, videos: int) -> dict[str, int]:
    return {"from_image": images, "from_video": videos}
