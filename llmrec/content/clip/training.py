"""The training loop of ``llmrec train clip``: contrast between pictures and texts that match."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmrec.content.clip.model import contrastive_loss
from llmrec.content.clip.settings import ClipConfig
from llmrec.content.clip.texts import Texts
from llmrec.content.features.models import pick_device
from llmrec.loop.bars import ProgressBar
from llmrec.loop.checkpoint import load_checkpoint, save_checkpoint
from llmrec.loop.optimizer import CombinedOptimizer, make_optimizer
from llmrec.loop.precision import mixed_precision
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate
from llmrec.loop.state import TrainingState

_WARM_UP = 0.05  # share of the steps
_SMOOTHING = 0.05  # of the fields' labels
_HIGHEST_SCALE = math.log(100.0)  # of cosines, as CLIP limits it
TOWER = "tower"  # name of the stages of a pretrained tower that learn


def is_tower(name: str) -> bool:
    """Whether a weight is of a pretrained tower, by its name in :attr:`ClipTrainer.learned`."""
    return name.startswith(f"clip.{TOWER}.")


class Pictures(Protocol):
    """Where the trainer gets what ``clip.encode_image`` takes."""

    def drawn(self, rows: np.ndarray, rng: torch.Generator) -> Tensor:
        """Of some pictures, as they are learned from."""

    def whole(self, rows: np.ndarray) -> Tensor:
        """Of some pictures, as they are."""


@dataclass
class ClipTrainer:
    """Trains a CLIP in place.

    Attributes:
        clip: of open_clip, or the part of one that learns.
        tokenize: texts to what its ``encode_text`` takes.
        pictures: to learn from.
        texts: of the pictures.
        train, validation: indices of pictures.
        config: settings.
        seed: of everything drawn.
        folder: checkpoints go here.
    """

    clip: Any
    tokenize: Any
    pictures: Pictures
    texts: Texts
    train: np.ndarray
    validation: np.ndarray
    config: ClipConfig
    seed: int
    folder: Path

    def __post_init__(self) -> None:
        c = self.config
        self.device = pick_device(c.device)
        self.clip.to(self.device)
        self.steps_an_epoch = max(len(self.train) // c.batch_size, 1)
        self.total_steps = c.epochs * self.steps_an_epoch
        with torch.no_grad():
            dim = self.clip.encode_text(self.tokenize(["a"]).to(self.device)).shape[1]
        self.heads = nn.ModuleList(nn.Linear(dim, len(values)) for values in self.texts.values)
        self.heads.to(self.device)
        self.learned = nn.ModuleDict({"clip": self.clip, "heads": self.heads})
        self.optimizer = self._optimizer()
        warmup = max(int(self.total_steps * _WARM_UP), 1)
        self.schedule = learning_rate_schedule("cosine", warmup, self.total_steps, floor=0.01)

    def run(self) -> TrainingState:
        """All epochs, from the last checkpoint on."""
        state = TrainingState()
        load_checkpoint(self.folder, self.learned, self.optimizer, state)
        with ProgressBar(total=self.total_steps, initial=state.step, desc="clip") as bar:
            while state.epoch < self.config.epochs and not self._out_of_time(state):
                loss = self._epoch(state, bar)
                found = self.validate()
                seconds = round(state.train_seconds, 1)
                state.log.append({"epoch": state.epoch, "loss": loss, "seconds": seconds, **found})
                bar.set_postfix(loss=f"{loss:.3f}", **{k: f"{v:.2f}" for k, v in found.items()})
                save_checkpoint(self.folder, self.learned, self.optimizer, state)
        self.clip.eval()
        return state

    def _optimizer(self) -> CombinedOptimizer:
        """Stages of a pretrained tower learn slower than what is new."""
        c = self.config
        learned = [(n, p) for n, p in self.learned.named_parameters() if p.requires_grad]
        rates = {False: c.learning_rate, True: c.lit.tower_rate * c.learning_rate}
        groups = [
            ([pair for pair in learned if is_tower(pair[0]) == tower], rate)
            for tower, rate in rates.items()
        ]
        return CombinedOptimizer(
            part
            for named, rate in groups
            if named
            for part in make_optimizer(
                named, lambda name: "resblocks" in name, c.optimizer, rate, c.weight_decay
            ).parts
        )

    def _out_of_time(self, state: TrainingState) -> bool:
        return 0 < 60 * self.config.max_minutes < state.train_seconds

    def _epoch(self, state: TrainingState, bar: Any) -> float:
        """One pass over the pictures; its mean loss."""
        self.clip.train()
        # drawn anew from the epoch's number: a run that goes on draws what it would have drawn
        rng = np.random.default_rng([self.seed, state.epoch])
        changes = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))
        order, losses = rng.permutation(self.train), []
        started = time.monotonic()
        for start in range(self.steps_an_epoch):
            rows = np.sort(order[start * self.config.batch_size :][: self.config.batch_size])
            losses.append(self._step(rows, rng, changes, state.step))
            state.step += 1
            bar.update()
        state.train_seconds += time.monotonic() - started
        state.epoch += 1
        return float(np.mean(losses))

    def _step(
        self, rows: np.ndarray, rng: np.random.Generator, changes: torch.Generator, step: int
    ) -> float:
        set_learning_rate(self.optimizer, self.schedule(step))
        texts, matches = self.texts.draw(rows, rng)
        pixels = self.pictures.drawn(rows, changes)
        tokens = self.tokenize(texts).to(self.device)
        with mixed_precision(self.device.type, self.config.precision), self._attention():
            raw = self.clip.encode_image(pixels.to(self.device)).float()
            words = nn.functional.normalize(self.clip.encode_text(tokens).float(), dim=-1)
        images = nn.functional.normalize(raw, dim=-1)
        loss = contrastive_loss(
            images, words, self.clip.logit_scale.exp(), torch.from_numpy(matches).to(self.device)
        )
        loss = loss + self.config.field_weight * self._field_loss(raw, rows)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.learned.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, _HIGHEST_SCALE)
        return float(loss.detach())

    def _attention(self) -> AbstractContextManager[Any]:
        """Plain products on a CPU: over few tokens the gradient of the fused kernel takes as long
        in bfloat16 as all the rest."""
        return sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()

    def _field_loss(self, images: Tensor, rows: np.ndarray) -> Tensor:
        """Cross-entropy of linear classifiers of the fields' values, averaged over fields.

        Contrast alone has to find good words and good pictures at once, and starts slowly.
        """
        losses = [images.new_zeros(())]
        for column, head in enumerate(self.heads):
            truth = torch.from_numpy(self.texts.codes(rows, column)).to(self.device)
            if self.config.field_weight and (truth >= 0).any():
                known = truth.clamp(min=-1)  # -1: not in the catalogue
                losses.append(
                    nn.functional.cross_entropy(
                        head(images), known, ignore_index=-1, label_smoothing=_SMOOTHING
                    )
                )
        return torch.stack(losses).sum() / max(len(self.heads), 1)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Zero-shot accuracy of each field on the validation pictures: which of its values is
        nearest to a picture."""
        if not len(self.validation):
            return {}
        self.clip.eval()
        images = self._images(self.validation)
        found = {}
        for column, (name, values) in enumerate(
            zip(self.texts.fields, self.texts.values, strict=True)
        ):
            truth = self.texts.codes(self.validation, column)
            if not (truth >= 0).any():
                continue
            words = self.clip.encode_text(self.tokenize(values).to(self.device), normalize=True)
            predicted = (images @ words.T).argmax(1).cpu().numpy()
            found[f"accuracy_{name}"] = float((predicted == truth)[truth >= 0].mean())
        return found

    def _images(self, rows: np.ndarray) -> Tensor:
        parts = []
        for start in range(0, len(rows), 256):
            pixels = self.pictures.whole(rows[start : start + 256])
            parts.append(self.clip.encode_image(pixels.to(self.device), normalize=True))
        return torch.cat(parts)
