"""The training loop of an encoder of items: behaviour and contrast, validated every epoch.

Any module with the call of :class:`~llmrec.content.fusion.encoder.FusionEncoder` can be trained,
which is what makes encoders comparable. An epoch is a fixed number of steps; the weights of the
best one are kept. Everything is drawn from the seed and the epoch, and a checkpoint an epoch lets a
killed run go on exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmrec.content.features.models import pick_device
from llmrec.content.fusion.behaviour import ItemPairs
from llmrec.content.fusion.embedding import ModalityTensors
from llmrec.content.fusion.losses import behaviour_loss, contrast_loss
from llmrec.content.fusion.modalities import Modalities, hide, two_subsets
from llmrec.content.fusion.settings import FusionTrainConfig
from llmrec.errors import ConfigError, LlmrecError
from llmrec.loop.bars import ProgressBar
from llmrec.loop.checkpoint import load_checkpoint, save_checkpoint
from llmrec.loop.optimizer import parameter_groups
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate
from llmrec.loop.state import TrainingState


def several_modalities(modalities: Modalities, among: np.ndarray | None = None) -> np.ndarray:
    """Items with two modalities or more, int64, out of ``among`` (None: of the catalogue)."""
    items = np.arange(len(modalities)) if among is None else among
    chosen: np.ndarray = items[modalities.present[items].sum(axis=1) > 1]
    return chosen


class FusionTrainer:
    """Trains one encoder.

    Args:
        encoder: moved to the device of the settings.
        modalities: of the catalogue.
        pairs: items liked by the same user, or None for contrast alone.
        score: of the encoder as it is; higher is better.
        settings: how to train.
        seed: of every draw.
        contrast_items: int64, items that contrast may learn from; None for all.
        folder: for checkpoints, or None for none.
        name: in front of the progress bar.

    Raises:
        ConfigError: if there is neither behaviour nor an item with two modalities.
    """

    def __init__(
        self,
        encoder: nn.Module,
        modalities: Modalities,
        pairs: ItemPairs | None,
        score: Callable[[nn.Module], float],
        settings: FusionTrainConfig,
        *,
        seed: int = 0,
        contrast_items: np.ndarray | None = None,
        folder: Path | None = None,
        name: str = "fusion",
    ) -> None:
        self.settings, self.seed, self.folder, self.name = settings, seed, folder, name
        self.pairs = pairs if pairs is not None and len(pairs) else None
        several = several_modalities(modalities, contrast_items)
        wanted = settings.contrast_weight > 0 or self.pairs is None
        self.several = several if wanted and len(several) > 1 else several[:0]
        if self.pairs is None and not len(self.several):
            raise ConfigError(
                "there is nothing to learn from: no two items were liked together, and fewer than "
                "two items have two modalities; give a dataset with behaviour, or --features and "
                "--media"
            )
        self.device = pick_device(settings.device)
        self.tensors = ModalityTensors(modalities, self.device)
        self.encoder, self.score = encoder.to(self.device), score
        self.optimizer = torch.optim.AdamW(
            parameter_groups(encoder.named_parameters(), settings.weight_decay, _is_decayed),
            settings.learning_rate,
        )
        s = settings
        self.schedule = learning_rate_schedule(
            "cosine", s.steps_per_epoch, s.epochs * s.steps_per_epoch, floor=0.02
        )
        if self.pairs is not None:
            self.log_q = torch.from_numpy(self.pairs.log_q).to(self.device)
        self.best = copy.deepcopy(self.encoder)
        self.saved = nn.ModuleDict({"encoder": self.encoder, "best": self.best})
        self.progress = TrainingState()

    def run(self) -> TrainingState:
        """Train to the end; afterwards the encoder holds the weights of the best epoch.

        Raises:
            LlmrecError: if the loss stops being a number.
        """
        if self.folder is not None:
            load_checkpoint(self.folder, self.saved, self.optimizer, self.progress)
        total = self.settings.epochs * self.settings.steps_per_epoch
        with ProgressBar(
            total=total, initial=self.progress.step, unit="step", desc=self.name, mininterval=1.0
        ) as bar:
            while not self._finished():
                self._epoch(bar)
                if self.folder is not None:
                    save_checkpoint(self.folder, self.saved, self.optimizer, self.progress)
        self.encoder.load_state_dict(self.best.state_dict())
        self.encoder.eval()
        return self.progress

    def _finished(self) -> bool:
        waited = self.progress.out_of_patience(self.settings.patience)
        return self.progress.epoch >= self.settings.epochs or waited

    def _epoch(self, bar: ProgressBar) -> None:
        rng = np.random.default_rng([self.seed, self.progress.epoch])
        self.encoder.train()
        sums: dict[str, float] = {}
        for _ in range(self.settings.steps_per_epoch):
            for name, loss in self._step(rng).items():
                sums[name] = sums.get(name, 0.0) + loss
            bar.update()
        progress = self.progress
        progress.epoch += 1
        score = self.score(self.encoder)
        row: dict[str, Any] = {"epoch": progress.epoch, "step": progress.step}
        row |= {name: value / self.settings.steps_per_epoch for name, value in sums.items()}
        progress.log.append(row | {"validation": score})
        bar.set_postfix(validation=f"{score:.4f}", refresh=False)
        if progress.improve(score):
            self.best.load_state_dict(self.encoder.state_dict())

    def _step(self, rng: np.random.Generator) -> dict[str, float]:
        set_learning_rate(self.optimizer, self.schedule(self.progress.step))
        losses: dict[str, Tensor] = {}
        if self.pairs is not None:
            losses["behaviour"] = self._behaviour(self.pairs, rng)
        weight = self._contrast_weight()
        if len(self.several) and weight:
            losses["contrast"] = self._contrast(rng)
        loss = sum(value * (weight if name == "contrast" else 1) for name, value in losses.items())
        assert isinstance(loss, Tensor)
        if not torch.isfinite(loss):
            raise LlmrecError(
                f"{self.name}: the loss is {loss.item()} after {self.progress.step} steps; "
                "lower train.learning_rate or raise train.temperature"
            )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        self.progress.step += 1
        return {name: value.item() for name, value in losses.items()}

    def _behaviour(self, pairs: ItemPairs, rng: np.random.Generator) -> Tensor:
        s = self.settings
        left, right = pairs.draw(s.batch_size, rng)
        both = np.concatenate([left, right])
        items, places = np.unique(both, return_inverse=True)  # popular items are drawn often
        present = self.tensors.present[items]
        partial = rng.random(len(items)) < s.partial_share
        present = np.where(partial[:, None], hide(present, s.modality_dropout, rng), present)
        rows = torch.from_numpy(places).to(self.device)
        a, b = self.tensors.encode(self.encoder, items, present)[rows].chunk(2)
        a_items, b_items = torch.from_numpy(both).to(self.device).chunk(2)
        return behaviour_loss(a, b, a_items, b_items, self.log_q, s.temperature)

    def _contrast(self, rng: np.random.Generator) -> Tensor:
        s = self.settings
        size = min(s.contrast_batch, len(self.several))
        items = rng.choice(self.several, size, replace=False)
        subsets = np.concatenate(two_subsets(self.tensors.present[items], rng))
        first, second = self.tensors.encode(self.encoder, np.tile(items, 2), subsets).chunk(2)
        return contrast_loss(first, second, s.temperature)

    def _contrast_weight(self) -> float:
        """It falls to nothing half-way: what an item's parts have in common is a good start, but
        what people like together is not all in common."""
        if self.pairs is None:
            return 1.0
        half = self.settings.epochs * self.settings.steps_per_epoch / 2
        return self.settings.contrast_weight * max(0.0, 1 - self.progress.step / half)


def _is_decayed(name: str, weight: Tensor) -> bool:
    """Matrices that multiply are decayed; biases, norms and learned tokens are not."""
    return name.endswith("weight") and weight.ndim > 1
