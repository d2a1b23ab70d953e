"""Every picture of a catalogue, decoded once into a file of small squares; and views of them.

The file is mapped, not read: memory does not grow with the catalogue, and an epoch costs no
decoding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.content.clip.model import normalised
from llmrec.content.clip.settings import Augmentation
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource, prefetched
from llmrec.files import write_whole
from llmrec.jsonl import read_json
from llmrec.loop.bars import ProgressBar

STORE, REASONS = "pictures.npy", "pictures.json"
ROOM = 1.25  # the stored square is larger than a view by this, so that a zoomed view is sharp


def store_pictures(
    values: Sequence[Any],
    source: MediaSource,
    side: int,
    folder: Path,
    max_pixels: int,
    workers: int,
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode pictures into ``folder``, or open what an earlier call stored there.

    Args:
        values: what the catalogue says of each picture, as :meth:`MediaSource.read` takes it.
        side: pixels of a view.

    Returns:
        uint8 ``[len(values), stored, stored, 3]``, mapped from disk, the middle square of each
        picture, zeros where it cannot be used; and the reason for each of these, by row.
    """
    stored = round(side * ROOM)
    if (folder / REASONS).is_file():
        reasons = read_json(folder / REASONS)
        return np.load(folder / STORE, mmap_mode="r"), {
            int(row): why for row, why in reasons.items()
        }

    shape = (len(values), stored, stored, 3)
    squares = np.lib.format.open_memmap(folder / STORE, "w+", np.uint8, shape)
    skipped: dict[int, str] = {}
    for row, square in enumerate(decoded_squares(values, source, stored, max_pixels, workers)):
        if isinstance(square, MediaError):
            skipped[row] = str(square)
        else:
            squares[row] = square
    squares.flush()
    write_whole(folder / REASONS, json.dumps(skipped))  # from here on the store counts
    return squares, skipped


def decoded_squares(
    values: Sequence[Any], source: MediaSource, stored: int, max_pixels: int, workers: int
) -> Iterator[np.ndarray | MediaError]:
    """The middle square of each picture, in order: uint8 ``[stored, stored, 3]``, or why not."""

    def prepare(value: Any) -> np.ndarray:
        from PIL import Image, ImageOps

        image = decode_image(source.read(value), max_pixels=max_pixels)
        return np.asarray(ImageOps.fit(image, (stored, stored), Image.Resampling.BICUBIC), np.uint8)

    progress = ProgressBar(values, "pictures", unit="picture")
    return prefetched(prepare, progress, workers)


@dataclass(frozen=True)
class StoredPictures:
    """Pictures as a CLIP from nothing learns from them; see :func:`store_pictures`.

    Attributes:
        squares: uint8 ``[pictures, stored, stored, 3]``.
        side: pixels of a view.
        changes: of views in training.
    """

    squares: np.ndarray
    side: int
    changes: Augmentation

    def drawn(self, rows: np.ndarray, rng: torch.Generator) -> Tensor:
        """Changed views of some pictures, normalised: float32 ``[n, 3, side, side]``."""
        return normalised(views(self.squares[rows], self.side, self.changes, rng))

    def whole(self, rows: np.ndarray) -> Tensor:
        """The same of the pictures as they are."""
        return normalised(views(self.squares[rows], self.side))


def views(
    squares: np.ndarray,
    side: int,
    changes: Augmentation | None = None,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Pictures as a model takes them: whole, or augmented.

    Args:
        squares: uint8 ``[n, stored, stored, 3]``.
        side: pixels of a view.
        changes: None for the whole picture as it is.
        rng: draws the changes.

    Returns:
        float32 ``[n, 3, side, side]`` in 0 to 1.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(squares)).permute(0, 3, 1, 2).float() / 255
    if changes is None:
        return torch.nn.functional.interpolate(
            pixels, (side, side), mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
    grid = torch.nn.functional.affine_grid(
        _placed(len(squares), changes, rng), [len(squares), 3, side, side], align_corners=False
    )
    moved = torch.nn.functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return _erased(_lit(moved, changes, rng), changes, rng)


def _between(low: float, high: float, n: int, rng: torch.Generator | None) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _placed(n: int, changes: Augmentation, rng: torch.Generator | None) -> Tensor:
    """Where each view lies in its square: float ``[n, 2, 3]``, as ``affine_grid`` takes it."""
    scale = _between(changes.smallest, 1.0, n, rng)
    angle = _between(-1.0, 1.0, n, rng) * math.radians(changes.degrees)
    mirror = torch.ones(n)
    if changes.flip:
        mirror[torch.rand(n, generator=rng) < 0.5] = -1.0
    cos, sin = scale * angle.cos(), scale * angle.sin()
    x, y = (_between(-2 * changes.shift, 2 * changes.shift, n, rng) for _ in range(2))
    rows = [torch.stack([mirror * cos, -sin, x], 1), torch.stack([mirror * sin, cos, y], 1)]
    return torch.stack(rows, 1)


def _lit(pixels: Tensor, changes: Augmentation, rng: torch.Generator | None) -> Tensor:
    contrast, light = (
        1 + changes.light * _between(-1.0, 1.0, len(pixels), rng).view(-1, 1, 1, 1)
        for _ in range(2)
    )
    middle = pixels.mean((1, 2, 3), keepdim=True)
    return (((pixels - middle) * contrast + middle) * light).clamp(0, 1)


def _erased(pixels: Tensor, changes: Augmentation, rng: torch.Generator | None) -> Tensor:
    if not changes.erase:
        return pixels
    side = pixels.shape[-1]
    for row in torch.nonzero(torch.rand(len(pixels), generator=rng) < changes.erase).flatten():
        high, wide = (int(side * share) for share in _between(0.15, 0.45, 2, rng))
        top, left = (int(torch.randint(side, (1,), generator=rng)) for _ in range(2))
        pixels[row, :, top : top + high, left : left + wide] = 0.5
    return pixels
