"""What each item has: a vector a modality and which of them are there; and subsets of that.

A modality that an item lacks has any row in its block: nothing may read it. Masks are bool
``[items, modalities]``, in the order of the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.content.features.blocks import check_finite
from llmrec.content.features.media import load_media_features
from llmrec.content.features.modalities import MODALITIES
from llmrec.content.features.text import load_features
from llmrec.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Modalities:
    """The modalities of a catalogue.

    Attributes:
        blocks: name -> float32 ``[items, dim of the modality]``, unit rows where there is one.
        present: bool ``[items, modalities]``.
    """

    blocks: dict[str, np.ndarray]
    present: np.ndarray

    def __len__(self) -> int:
        return len(self.present)

    @property
    def dims(self) -> dict[str, int]:
        """Length of a vector, by modality."""
        return {name: block.shape[1] for name, block in self.blocks.items()}

    @property
    def names(self) -> list[str]:
        return list(self.blocks)

    @property
    def counts(self) -> dict[str, int]:
        """How many items have each modality."""
        return dict(zip(self.blocks, self.present.sum(axis=0).tolist(), strict=True))

    def only(self, names: Sequence[str]) -> Modalities:
        """Some of the modalities."""
        columns = [self.names.index(name) for name in names]
        return Modalities({name: self.blocks[name] for name in names}, self.present[:, columns])

    def concatenated(self) -> np.ndarray:
        """The blocks side by side, float32 ``[items, sum of dims]``, zero where one is missing."""
        blocks = enumerate(self.blocks.values())
        return np.concatenate(
            [np.where(self.present[:, [column]], block, np.float32(0)) for column, block in blocks],
            axis=1,
        )


def read_modalities(features: Path | None, media: Path | None, n_items: int) -> Modalities:
    """Read what ``llmrec embed`` and ``llmrec embed media`` wrote.

    Args:
        features: folder of ``llmrec embed``, or None.
        media: folder of ``llmrec embed media``, or None.
        n_items: items of the dataset.

    Raises:
        ConfigError: if neither is given.
        DataError: if a block is of another catalogue or a row that is there is not finite.
        ArtifactError: if a folder is missing, damaged or of another stage.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if features is not None:
        stored = load_features(features)
        found["text"] = (stored["text"], stored["present"])
        _check(found["text"], n_items, f"--features: {features}", "text", "llmrec embed")
    if media is not None:
        stored = load_media_features(media)
        for name in (name for name in MODALITIES if name in stored):
            found[name] = (stored[name], stored[f"{name}_present"])
            _check(found[name], n_items, f"--media: {media}", name, "llmrec embed media")
    if not found:
        raise ConfigError("give --features (llmrec embed), --media (llmrec embed media) or both")
    present = np.stack([there.astype(bool) for _, there in found.values()], axis=1)
    blocks = {name: block.astype(np.float32) for name, (block, _) in found.items()}
    return Modalities(blocks, present)


def _check(
    pair: tuple[np.ndarray, np.ndarray], n_items: int, where: str, name: str, command: str
) -> None:
    block, present = pair
    if len(block) != n_items or len(present) != n_items:
        raise DataError(
            f"{where} holds vectors of {len(block)} items ({name}), the dataset has {n_items}; "
            f"run {command} again on this dataset"
        )
    check_finite(np.where(present[:, None] > 0, block, 0), f"{where}: block {name!r}")


def hide(present: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Hide modalities at random; of those an item has, at least one stays.

    Args:
        present: bool ``[items, modalities]``.
        share: chance of each to be hidden.

    Returns:
        bool ``[items, modalities]``, never true where ``present`` is not.
    """
    draws = rng.random(present.shape)
    kept = present & (draws >= share)
    # of an item that lost all, the modality whose draw was largest comes back
    lost = np.flatnonzero(present.any(axis=1) & ~kept.any(axis=1))
    kept[lost, np.where(present[lost], draws[lost], -1.0).argmax(axis=1)] = True
    return kept


def two_subsets(present: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two different subsets of the modalities of each item, neither empty.

    Args:
        present: bool ``[items, modalities]``, two or more true in every row.

    Returns:
        two masks bool ``[items, modalities]``; where the two draws were equal, the second is the
        complement of the first, or any one modality when the first is all there are.
    """
    first, second = hide(present, 0.5, rng), hide(present, 0.5, rng)
    equal = (first == second).all(axis=1)
    whole = (first == present).all(axis=1)
    second = np.where(equal[:, None], present & ~first, second)
    single = hide(present, 1.0, rng)
    second = np.where((equal & whole)[:, None], single, second)
    return first, second
