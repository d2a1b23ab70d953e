"""The loop of ``llmrec train clip``: contrast between pictures and what is true of them."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from llmrec.content.clip.model import contrastive_loss, normalised
from llmrec.content.clip.pictures import views
from llmrec.content.clip.settings import ClipConfig
from llmrec.content.clip.texts import Texts
from llmrec.content.features.image_encoder import mixed_precision, pick_device
from llmrec.loop.checkpoint import load_checkpoint, save_checkpoint
from llmrec.loop.optimizer import make_optimizer

_WARM_UP = 0.05  # share of the steps
_SMOOTHING = 0.05  # of the fields' labels
_HIGHEST_SCALE = math.log(100.0)  # of cosines, as CLIP limits it


@dataclass
class Progress:
    """What a run knows of itself; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    train_seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class ClipTrainer:
    """Trains a CLIP in place.

    Attributes:
        clip: of open_clip.
        tokenize: its tokenizer.
        squares: uint8 ``[items, stored, stored, 3]``.
        texts: what can be said of the items.
        train, validation: item indices.
        config: settings.
        seed: of everything drawn.
        folder: checkpoints go here.
    """

    clip: Any
    tokenize: Any
    squares: np.ndarray
    texts: Texts
    train: np.ndarray
    validation: np.ndarray
    config: ClipConfig
    seed: int
    folder: Path

    def __post_init__(self) -> None:
        self.device = pick_device(self.config.device)
        self.clip.to(self.device)
        self.side = int(self.clip.visual.image_size[0])
        self.steps_an_epoch = max(len(self.train) // self.config.batch_size, 1)
        c = self.config
        dim = self.clip.text_projection.shape[1]
        self.heads = nn.ModuleList(nn.Linear(dim, len(values)) for values in self.texts.values)
        self.heads.to(self.device)
        self.learned = nn.ModuleDict({"clip": self.clip, "heads": self.heads})
        self.optimizer: Any = make_optimizer(
            self.learned.named_parameters(),
            lambda name: "resblocks" in name,
            c.optimizer,
            c.learning_rate,
            c.weight_decay,
        )

    def run(self) -> Progress:
        """All epochs, from the last checkpoint on."""
        state = load_checkpoint(self.folder, self.learned, {}, self.optimizer)
        known = {k: v for k, v in (state or {}).items() if k in Progress.__dataclass_fields__}
        progress = Progress(**known)
        total = self.config.epochs * self.steps_an_epoch
        with tqdm(total=total, initial=progress.step, desc="clip", disable=None) as bar:
            while progress.epoch < self.config.epochs and not self._late(progress):
                self._epoch(progress, bar)
                progress.log.append(
                    {
                        "epoch": progress.epoch,
                        "loss": self._loss_of_epoch,
                        "seconds": round(progress.train_seconds, 1),
                        **self.validate(),
                    }
                )
                bar.set_postfix(loss=f"{self._loss_of_epoch:.3f}", **_shown(progress.log[-1]))
                save_checkpoint(self.folder, self.learned, {}, self.optimizer, progress.__dict__)
        self.clip.eval()
        return progress

    def _late(self, progress: Progress) -> bool:
        return bool(self.config.max_minutes) and (
            progress.train_seconds > 60 * self.config.max_minutes
        )

    def _epoch(self, progress: Progress, bar: Any) -> None:
        self.clip.train()
        # drawn anew from the epoch's number: a run that goes on draws what it would have drawn
        rng = np.random.default_rng([self.seed, progress.epoch])
        changes = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))
        order, losses = rng.permutation(self.train), []
        started = time.monotonic()
        for start in range(self.steps_an_epoch):
            rows = np.sort(order[start * self.config.batch_size :][: self.config.batch_size])
            losses.append(self._step(rows, rng, changes, progress.step))
            progress.step += 1
            bar.update()
        progress.train_seconds += time.monotonic() - started
        progress.epoch += 1
        self._loss_of_epoch = float(np.mean(losses))

    def _step(
        self, rows: np.ndarray, rng: np.random.Generator, changes: torch.Generator, step: int
    ) -> float:
        self.optimizer.scale_rates(self._rate(step))
        texts, true = self.texts.draw(rows, rng)
        pixels = views(self.squares[rows], self.side, self.config.augmentation, changes)
        tokens = self.tokenize(texts).to(self.device)
        with mixed_precision(self.device, self.config.precision):
            raw = self.clip.encode_image(normalised(pixels).to(self.device)).float()
            words = nn.functional.normalize(self.clip.encode_text(tokens).float(), dim=-1)
        images = nn.functional.normalize(raw, dim=-1)
        matches = torch.from_numpy(true).to(self.device)
        loss = contrastive_loss(images, words, self.clip.logit_scale.exp(), matches)
        loss = loss + self.config.field_weight * self._field_loss(raw, rows)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.learned.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, _HIGHEST_SCALE)
        return float(loss.detach())

    def _field_loss(self, images: Tensor, rows: np.ndarray) -> Tensor:
        """Cross-entropy of a linear head's values, averaged over fields.

        Contrast alone has to find good words and good pictures at once, and starts slowly.
        """
        losses = [images.new_zeros(())]
        for column, head in enumerate(self.heads):
            truth = torch.from_numpy(self.texts.codes(rows, column)).to(self.device)
            if self.config.field_weight and (truth >= 0).any():
                known = truth.clamp(min=-1)  # -1: the catalogue does not say
                losses.append(
                    nn.functional.cross_entropy(
                        head(images), known, ignore_index=-1, label_smoothing=_SMOOTHING
                    )
                )
        return torch.stack(losses).sum() / max(len(self.heads), 1)

    def _images(self, pixels: Tensor) -> Tensor:
        return self.clip.encode_image(normalised(pixels).to(self.device), normalize=True)

    def _rate(self, step: int) -> float:
        total = self.config.epochs * self.steps_an_epoch
        warm = max(int(total * _WARM_UP), 1)
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1))) / 2

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Share of the validation pictures whose value is right, by field: which of the field's
        values, said alone, is nearest to the picture."""
        if not len(self.validation):
            return {}
        self.clip.eval()
        images = self._all_images(self.validation)
        found = {}
        for column, (name, values) in enumerate(
            zip(self.texts.fields, self.texts.values, strict=True)
        ):
            truth = self.texts.codes(self.validation, column)
            if not (truth >= 0).any():
                continue
            words = self.clip.encode_text(self.tokenize(values).to(self.device), normalize=True)
            said = (images @ words.T).argmax(1).cpu().numpy()
            found[f"accuracy_{name}"] = float((said == truth)[truth >= 0].mean())
        return found

    def _all_images(self, rows: np.ndarray) -> Tensor:
        parts = [
            self._images(views(self.squares[rows[start : start + 256]], self.side))
            for start in range(0, len(rows), 256)
        ]
        return torch.cat(parts)


def _shown(entry: dict[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix("accuracy_"): f"{value:.2f}"
        for name, value in entry.items()
        if name.startswith("accuracy_")
    }


def write_log(log: list[dict[str, Any]], path: Path) -> None:
    """One line of JSON an epoch."""
    path.write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")
