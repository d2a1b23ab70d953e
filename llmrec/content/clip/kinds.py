"""The two kinds of CLIP that ``llmrec train clip`` makes, each ready to learn.

From nothing everything learns, from pixels. Of pretrained towers the projections learn, from what
the locked towers said once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmrec.content.clip.settings import LIT, SIZES, ClipConfig
from llmrec.content.clip.training import Pictures
from llmrec.content.features.models import pick_device
from llmrec.content.media.source import MediaSource


@dataclass(frozen=True)
class Learner:
    """A CLIP before training.

    Attributes:
        clip: what learns.
        tokenize: texts to what its ``encode_text`` takes.
        pictures: to learn from.
        skipped: the reason for each picture that cannot be used, by row.
        save: writes it into a folder; given too where that folder will be.
    """

    clip: Any
    tokenize: Any
    pictures: Pictures
    skipped: dict[int, str]
    save: Callable[[Path, Path], None]


def prepare(
    config: ClipConfig, values: Sequence[Any], source: MediaSource, work: Path, seed: int
) -> Learner:
    """Decode the pictures and make the model.

    Args:
        values: what the catalogue says of each picture.
        work: folder for what is kept of the pictures.

    Raises:
        ConfigError: if a pretrained tower cannot be used.
    """
    make = _pretrained if config.size == LIT else _from_nothing
    return make(config, values, source, work, seed)


def _from_nothing(
    config: ClipConfig, values: Sequence[Any], source: MediaSource, work: Path, seed: int
) -> Learner:
    from llmrec.content.clip.model import new_clip, save_clip
    from llmrec.content.clip.pictures import StoredPictures, store_pictures

    side = int(SIZES[config.size]["vision_cfg"]["image_size"])
    squares, skipped = store_pictures(values, source, side, work, config.max_pixels, config.workers)
    torch.manual_seed(seed)
    clip, tokenize = new_clip(config.size, config.dropout)
    pictures = StoredPictures(squares, side, config.augmentation)

    def save(folder: Path, home: Path) -> None:
        save_clip(clip, config.size, folder)

    return Learner(clip, tokenize, pictures, skipped, save)


def _pretrained(
    config: ClipConfig, values: Sequence[Any], source: MediaSource, work: Path, seed: int
) -> Learner:
    from llmrec.content.clip.lit import LearnedPart, LockedTowers, pretrained_clip, save_lit
    from llmrec.content.clip.seen import SeenPictures, store_seen

    lit = config.lit
    torch.manual_seed(seed)
    clip, tokenize = pretrained_clip(lit)
    towers = LockedTowers(clip, tokenize, lit.unfrozen, pick_device(config.device))
    seen, skipped = store_seen(values, source, towers.see, config, work, seed)
    part = LearnedPart(clip, lit.unfrozen, config.dropout)

    def save(folder: Path, home: Path) -> None:
        save_lit(clip, lit, folder, home)

    return Learner(part, towers.read, SeenPictures(seen), skipped, save)
