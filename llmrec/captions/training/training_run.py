"""A run of ``llmrec train multimodal``, from opened inputs to a saved model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.captions.training.batches import Collator
from llmrec.captions.training.examples import Corpus, make_corpus
from llmrec.captions.training.llava import SIZES, load_multimodal, new_multimodal, save_multimodal
from llmrec.captions.training.loader import BatchLoader, ExampleLoader
from llmrec.captions.training.settings import MultimodalConfig
from llmrec.captions.training.trainable import PROJECTOR, freeze_all_but, merged, prepare_finetune
from llmrec.captions.training.trainer import MultimodalPhase, MultimodalState, MultimodalTrainer
from llmrec.content.features.models import pick_device
from llmrec.content.media.source import MediaSource
from llmrec.content.schema import Schema
from llmrec.data.dataset import Dataset
from llmrec.errors import LlmrecError
from llmrec.loop.progress import Line, RunProgress


@dataclass
class MultimodalRun:
    """A run and what it needs.

    Attributes:
        config: settings, resolved.
        model: in evaluation mode, on its device.
        loader: of batches.
        folder: the result's folder while it is being written; checkpoints are in ``work``.
        seed: of everything drawn.
        counts: for the manifest.
    """

    config: MultimodalConfig
    model: Any
    loader: BatchLoader
    folder: Path
    seed: int
    counts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        config: MultimodalConfig,
        shop: Dataset,
        schema: Schema,
        left_out: np.ndarray,
        transcripts: dict[str, str],
        source: MediaSource,
        folder: Path,
        seed: int,
    ) -> MultimodalRun:
        """Open and check everything.

        Raises:
            CatalogError: if no item can be learned from.
            ConfigError: if the base or the CLIP cannot be used.
        """
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # of reading and writing weights, beside the one that counts
        corpus = make_corpus(shop, schema, config, left_out, transcripts, seed)
        device = pick_device(config.device)
        model, processor = _open(config, corpus, device, seed)
        context = int(model.config.get_text_config().max_position_embeddings)
        collator = Collator(processor, schema, context, config.micro_batch)
        loader = BatchLoader(corpus, ExampleLoader(corpus, source, processor), collator)
        return cls(config, model.to(device), loader, folder, seed, counts=dict(corpus.counts))

    @property
    def phases(self) -> list[MultimodalPhase]:
        """The two phases, without one of no epochs."""
        first, second = self.config.projector, self.config.finetune
        assert second.epochs is not None and second.lr is not None
        both = [
            MultimodalPhase("projector", first.epochs, first.lr),
            MultimodalPhase("finetune", second.epochs, second.lr, first_epoch=first.epochs),
        ]
        return [phase for phase in both if phase.epochs]

    def summary(self) -> str:
        """What will be done, in a line."""
        c, counts = self.config.finetune, self.counts
        size = sum(p.numel() for p in self.model.parameters())
        left = ", ".join(
            f"{counts[name]:,} {words}"
            for name, words in (
                ("left_out", "left out"),
                ("without_input", "without any input"),
                ("without_target", "without a target"),
            )
            if counts[name]
        )
        tower = " with the vision tower" if c.tower else ""
        steps = ", ".join(f"{s.epochs * self.loader.steps:,} of {s.name}" for s in self.phases)
        return (
            f"train-multimodal: {self.config.base}, {size:,} parameters, language model {c.train}"
            f"{tower}, on {next(self.model.parameters()).device}; {counts['trained_on']:,} items"
            f"{f' ({left})' if left else ''}; steps: {steps or 'none'}"
        )

    def train(self) -> list[Line]:
        """Both phases, then the model's files.

        Returns:
            the log.

        Raises:
            LlmrecError: if the loss stops being a number, or a stop is requested.
        """
        phases = self.phases
        total = sum(phase.epochs for phase in phases) * self.loader.steps
        progress = RunProgress(total, self.config.batch_size)
        lines: list[Line] = []
        offset = too_long = 0
        for phase in phases:
            torch.manual_seed(self.seed)
            if phase.name == "projector":
                freeze_all_but(self.model, PROJECTOR)
            else:
                self.model = prepare_finetune(self.model, self.config.finetune)
            folder = self.folder / "work" / phase.name
            trainer = MultimodalTrainer(self.model, self.loader, phase, folder, progress)
            state = trainer.run(offset, lines)
            lines += state.log
            offset, too_long = offset + trainer.steps, too_long + state.too_long
            self._note_validation(state)
        self.model = merged(self.model)
        self._check_lengths(too_long)
        dtype = self.model.model.language_model.embed_tokens.weight.dtype  # as the base's
        processor = self.loader.collator.processor
        save_multimodal(self.model.to("cpu", dtype), processor, self.folder)
        reasons = Counter(row["reason"] for row in self.skipped())
        self.counts |= {
            "steps": offset,
            "too_long": too_long,
            "skipped": len(self.skipped()),
            "reasons": dict(reasons.most_common(5)),
            "parameters": self.model.num_parameters(),
        }
        return lines

    def skipped(self) -> list[dict[str, str]]:
        """Item, field and reason of each file that could not be used."""
        return [
            {"item": self.loader.corpus.items[row].item_id, "field": name, "reason": reason}
            for (row, name), reason in sorted(self.loader.examples.skipped.items())
        ]

    def _note_validation(self, state: MultimodalState) -> None:
        validated = [line for line in state.log if "validation_loss" in line]
        if not validated:
            return
        kept = validated[-1]
        if self.config.keep == "best":
            kept = next(line for line in validated if line["epoch"] == state.best_epoch)
        self.counts |= {k: round(v, 4) for k, v in kept.items() if k.startswith("validation_")}

    def _check_lengths(self, too_long: int) -> None:
        epochs = sum(phase.epochs for phase in self.phases)
        if epochs and too_long >= epochs * len(self.loader.corpus.train):
            raise LlmrecError(
                f"train-multimodal: no example fits in the {self.loader.collator.context} tokens "
                f"that {self.config.base} reads; use fewer sources, or take another base"
            )


def _open(
    config: MultimodalConfig, corpus: Corpus, device: torch.device, seed: int
) -> tuple[Any, Any]:
    if config.base in SIZES:
        return new_multimodal(
            config.base, clip=config.clip, texts=corpus.texts(), video=config.video, seed=seed
        )
    # frozen weights need no more; what is trained is cast to float32
    small = device.type == "cuda" and config.finetune.train != "full"
    half = small and config.precision in ("auto", "bf16")
    return load_multimodal(config.base, dtype=torch.bfloat16 if half else torch.float32)
