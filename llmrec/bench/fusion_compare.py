"""What fusing is worth: five ways to one vector an item, on the same queries.

``text_raw``: the text's vectors as they are. ``text``: an encoder of text alone. ``concat_raw``:
all blocks side by side as they are, zeros for what is missing. ``concat``: an MLP over that.
``concat_plain``: the same, trained without hiding modalities. ``fused``: cross-attention. The
encoders are trained alike: the same losses, users, steps, seed and choice of the epoch.

Users are parted: pairs to train on come from some, the best epoch is chosen on others, and the
figures are of yet others. Some items, ``cold``, occur in no pair and in no choice of an epoch: what
is found for them rests on content alone. (Contrast between modalities uses no behaviour and sees
all items; ``concat_plain`` does without it.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec.bench.fusion_concat import ConcatEncoder
from llmrec.content.fusion.behaviour import (
    ItemPairs,
    liked_histories,
    split_users,
    windowed_pairs,
    without_items,
)
from llmrec.content.fusion.embedding import embed
from llmrec.content.fusion.encoder import FusionEncoder
from llmrec.content.fusion.modalities import Modalities, hide
from llmrec.content.fusion.retrieval import (
    RetrievalCases,
    RetrievalScores,
    measure,
    retrieval_cases,
)
from llmrec.content.fusion.settings import FusionConfig, FusionShape
from llmrec.content.fusion.train import FusionTrainer
from llmrec.content.fusion.validation import retrieval_score
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.loop.state import TrainingState

TEXT = "text"
TRAINED = (TEXT, "concat_plain", "concat", "fused")
Values = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Task:
    """What every encoder is trained and measured on.

    Attributes:
        modalities: of the catalogue.
        pairs: of the users to learn from, without cold items.
        validation: cases of the users who choose the epoch, without cold items.
        test: cases of the users who are measured, with all items.
        cold: bool ``[items]``.
    """

    modalities: Modalities
    pairs: ItemPairs
    validation: RetrievalCases
    test: RetrievalCases
    cold: np.ndarray

    @property
    def cold_test(self) -> RetrievalCases:
        """The cases of test that ask for what goes with a cold item; the answer may be any item."""
        return self.test.where(self.cold)


def make_task(
    dataset: Dataset,
    modalities: Modalities,
    config: FusionConfig,
    test_users: float,
    cold_items: float,
    seed: int,
) -> Task:
    """Part users and items.

    Args:
        test_users: share of the users who are measured.
        cold_items: share of the items that nobody's behaviour tells of in training.

    Raises:
        ConfigError: if there is no text to compare with, or no second modality.
        DataError: if a part of the users has nothing to train or to measure on.
    """
    if TEXT not in modalities.names or len(modalities.names) < 2:
        raise ConfigError(
            "fusion is compared with text alone: give --features (llmrec embed) and --media "
            "(llmrec embed media)"
        )
    n_items, settings = dataset.n_items, config.train
    liked = liked_histories(dataset, settings.min_rating, train_only=False)
    rng = np.random.default_rng(seed)
    shares = (settings.validation_users, test_users)
    learning, choosing, measured = split_users(len(liked), shares, rng)
    cold = rng.random(n_items) < cold_items
    task = Task(
        modalities,
        windowed_pairs(without_items(liked.select(learning), cold), settings.window, n_items),
        retrieval_cases(without_items(liked.select(choosing), cold), n_items),
        retrieval_cases(liked.select(measured), n_items),
        cold,
    )
    sizes = {
        "pairs to learn from": len(task.pairs),
        "cases to choose the epoch": len(task.validation),
        "cases to measure": len(task.test),
        "cases of cold items": len(task.cold_test),
    }
    for what, size in sizes.items():
        if not size:
            raise DataError(
                f"{dataset.folder}: parting {len(liked)} users leaves no {what}; "
                "give a larger dataset or other shares"
            )
    return task


@dataclass(frozen=True, eq=False)
class Trained:
    """An encoder and how its training went.

    Attributes:
        encoder: with the weights of its best epoch.
        modalities: those it reads.
        progress: of its training.
    """

    encoder: nn.Module
    modalities: Modalities
    progress: TrainingState

    def vectors(self, present: np.ndarray | None = None) -> np.ndarray:
        """Unit rows float32 ``[items, dim]``, with a mask of what is there where it is given."""
        return embed(self.encoder, self.modalities, present)

    def vectors_of_zeros(self, present: np.ndarray) -> np.ndarray:
        """The same with all modalities marked as present, and zeros for what is not."""
        blocks = {
            name: np.where(present[:, [column]], block, np.float32(0))
            for column, (name, block) in enumerate(self.modalities.blocks.items())
        }
        return embed(self.encoder, Modalities(blocks, np.ones_like(present)))


def train_encoder(name: str, task: Task, config: FusionConfig, seed: int, folder: Path) -> Trained:
    """Train one of :data:`TRAINED`.

    Args:
        folder: for checkpoints; a finished training is found there again.
    """
    modalities = task.modalities.only([TEXT]) if name == TEXT else task.modalities
    shape = FusionShape(modalities=modalities.dims, **vars(config.encoder))
    torch.manual_seed(seed)
    encoder = ConcatEncoder(shape) if name.startswith("concat") else FusionEncoder(shape)
    score = retrieval_score(modalities, task.validation)
    settings = config.train
    if name == "concat_plain":  # contrast shows parts of items too
        settings = replace(settings, partial_share=0.0, contrast_weight=0.0)
    trainer = FusionTrainer(
        encoder, modalities, task.pairs, score, settings, seed=seed, folder=folder, name=name
    )
    return Trained(encoder, modalities, trainer.run())


def compare_whole(task: Task, trained: dict[str, Trained]) -> dict[str, RetrievalScores]:
    """Every way's answers with all that the items have.

    Returns:
        way -> how each test case went.
    """
    text = task.modalities.only([TEXT])
    return {
        "text_raw": measure(text.concatenated(), task.test),
        "concat_raw": measure(task.modalities.concatenated(), task.test),
    } | {name: measure(one.vectors(), task.test) for name, one in trained.items()}


def compare_missing(
    task: Task, trained: dict[str, Trained], share: float, draws: int, seed: int
) -> dict[str, Values]:
    """Answers when each item lacks some of what it has, text included; one modality stays.

    What an item lacks it lacks as a query and as an answer: every draw hides modalities once for
    the whole catalogue.

    Args:
        share: chance of each modality to be hidden.
        draws: the values are means over so many.

    Returns:
        ``fused`` (masks), ``fused_zeros`` (the same encoder given zeros instead of masks) and
        ``concat`` (zeros, which it was trained with) and ``concat_plain`` (zeros, without that
        training) -> metric -> float64 ``[queries]``.
    """
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "fused": trained["fused"].vectors,
        "fused_zeros": trained["fused"].vectors_of_zeros,
        "concat": trained["concat"].vectors,
        "concat_plain": trained["concat_plain"].vectors,
    }
    rng = np.random.default_rng(seed)
    masks = [hide(task.modalities.present, share, rng) for _ in range(draws)]
    return {
        name: mean_values([measure(vectors(mask), task.test).by_query() for mask in masks])
        for name, vectors in ways.items()
    }


def mean_values(runs: list[Values]) -> Values:
    """Mean over runs, value by value.

    >>> mean_values([{"a": np.array([1.0])}, {"a": np.array([3.0])}])
    {'a': array([2.])}
    """
    return {name: np.sum([1 / len(runs) * run[name] for run in runs], axis=0) for name in runs[0]}


def counts(task: Task) -> dict[str, Any]:
    """What the comparison rests on."""
    present = task.modalities.present
    columns = zip(task.modalities.names, present.T, strict=True)
    return {
        "items": len(present),
        "cold_items": int(task.cold.sum()),
        "pairs": len(task.pairs),
        "validation_cases": len(task.validation),
        "test_cases": len(task.test),
        "test_queries": len(np.unique(task.test.queries)),
        "cold_queries": len(np.unique(task.cold_test.queries)),
        "test_users": len(np.unique(task.test.users)),
        **{f"with_{name}": int(column.sum()) for name, column in columns},
    }
