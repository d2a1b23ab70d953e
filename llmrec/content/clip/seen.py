"""What locked towers see of every picture of a catalogue, asked once and kept in a file.

The file is mapped, as that of :mod:`llmrec.content.clip.pictures`: an epoch costs neither decoding
nor a pass through the towers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.content.clip.pictures import REASONS, ROOM, STORE, decoded_squares, views
from llmrec.content.clip.settings import ClipConfig
from llmrec.content.media.errors import MediaError
from llmrec.content.media.source import MediaSource
from llmrec.files import write_whole
from llmrec.jsonl import read_json

_BATCH = 32  # pictures of one pass


@dataclass(frozen=True)
class SeenPictures:
    """Pictures as the learned part of a CLIP takes them.

    Attributes:
        seen: float16 ``[pictures, cached, ...]``; the first of each is of the whole picture.
    """

    seen: np.ndarray

    def drawn(self, rows: np.ndarray, rng: torch.Generator) -> Tensor:
        """One of the views of each picture."""
        chosen = torch.randint(self.seen.shape[1], (len(rows),), generator=rng)
        return torch.from_numpy(self.seen[rows, chosen.numpy()])

    def whole(self, rows: np.ndarray) -> Tensor:
        """Pictures as they are."""
        return torch.from_numpy(self.seen[rows, 0])


def store_seen(
    values: Sequence[Any],
    source: MediaSource,
    see: Callable[[Tensor], Tensor],
    config: ClipConfig,
    folder: Path,
    seed: int,
) -> tuple[np.ndarray, dict[int, str]]:
    """Ask the towers about pictures, or open what an earlier call stored in ``folder``.

    Args:
        values: what the catalogue says of each picture, as :meth:`MediaSource.read` takes it.
        see: of the towers; pixels of 0 to 1 to what they see.
        seed: of the changed views.

    Returns:
        :attr:`SeenPictures.seen`, mapped from disk, zeros where a picture cannot be used; and the
        reason for each of these, by row.
    """
    if (folder / REASONS).is_file():
        reasons = read_json(folder / REASONS)
        seen = np.load(folder / STORE, mmap_mode="r")
        return seen, {int(row): why for row, why in reasons.items()}
    lit, skipped = config.lit, dict[int, str]()
    stored = round(lit.side * ROOM)
    blank = torch.zeros(1, 3, lit.side, lit.side)
    shape = (len(values), lit.cached, *see(blank).shape[1:])
    kept = np.lib.format.open_memmap(folder / STORE, "w+", np.float16, shape)
    squares = decoded_squares(values, source, stored, config.max_pixels, config.workers)
    numbered = enumerate(squares)
    while some := list(islice(numbered, _BATCH)):
        skipped |= {row: str(found) for row, found in some if isinstance(found, MediaError)}
        usable = {row: found for row, found in some if not isinstance(found, MediaError)}
        if not usable:
            continue
        rows, pixels = list(usable), np.stack(list(usable.values()))
        drawn = np.random.default_rng([seed, rows[0]]).integers(2**62)
        rng = torch.Generator().manual_seed(int(drawn))
        for view in range(lit.cached):
            changes = config.augmentation if view else None
            kept[rows, view] = see(views(pixels, lit.side, changes, rng)).numpy()
    kept.flush()
    write_whole(folder / REASONS, json.dumps(skipped))  # from here on the store counts
    return kept, skipped
