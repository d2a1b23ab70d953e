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
from llmrec.captions.training.feed import Feed
from llmrec.captions.training.llava import SIZES, load_multimodal, new_multimodal, save_multimodal
from llmrec.captions.training.parts import learn_projector, learn_second, merged
from llmrec.captions.training.pictures import Opener
from llmrec.captions.training.settings import MultimodalConfig
from llmrec.captions.training.training import State, Stretch, Trainer
from llmrec.content.features.image_encoder import pick_device
from llmrec.content.media.source import MediaSource
from llmrec.content.schema import Schema
from llmrec.data.dataset import Dataset
from llmrec.errors import LlmrecError
from llmrec.loop.noise import hush
from llmrec.loop.progress import Line, Progress


@dataclass
class Work:
    """A run and what it needs.

    Attributes:
        model: in evaluation mode, on its device.
        feed: deals the examples.
        folder: the result's folder while it is being written; checkpoints are in ``work``.
        counts: what the manifest will say.
    """

    config: MultimodalConfig
    model: Any
    feed: Feed
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
        said: dict[str, str],
        source: MediaSource,
        folder: Path,
        seed: int,
    ) -> Work:
        """Open and check everything.

        Raises:
            CatalogError: if no item can be learned from.
            ConfigError: if the base or the CLIP cannot be used.
        """
        hush()
        _silence_bars()
        corpus = make_corpus(shop, schema, config, left_out, said, seed)
        device = pick_device(config.device)
        model, processor = _open(config, corpus, device, seed)
        text = model.config.get_text_config()
        collator = Collator(
            processor, schema, int(text.max_position_embeddings), config.micro_batch
        )
        feed = Feed(corpus, Opener(corpus, source, processor), collator)
        return cls(config, model.to(device), feed, folder, seed, counts=dict(corpus.counts))

    @property
    def stretches(self) -> list[Stretch]:
        """The two steps, without one of no epochs."""
        first, second = self.config.projector, self.config.second
        assert second.epochs is not None and second.lr is not None
        both = [
            Stretch("projector", first.epochs, first.lr),
            Stretch("second", second.epochs, second.lr, first_epoch=first.epochs),
        ]
        return [stretch for stretch in both if stretch.epochs]

    def summary(self) -> str:
        """What will be done, in a line."""
        c, counts = self.config.second, self.counts
        size = sum(p.numel() for p in self.model.parameters())
        left = ", ".join(
            f"{counts[name]:,} {words}"
            for name, words in (
                ("left_out", "left out"),
                ("nothing_to_show", "with nothing to show"),
                ("without_target", "without an answer"),
            )
            if counts[name]
        )
        tower = " with the vision tower" if c.tower else ""
        steps = ", ".join(f"{s.epochs * self.feed.steps:,} of {s.name}" for s in self.stretches)
        return (
            f"train-multimodal: {self.config.base}, {size:,} parameters, language model {c.train}"
            f"{tower}, on {next(self.model.parameters()).device}; {counts['trained_on']:,} items"
            f"{f' ({left})' if left else ''}; steps: {steps or 'none'}"
        )

    def train(self) -> list[Line]:
        """Both steps, then the model's files.

        Returns:
            the log.

        Raises:
            LlmrecError: if the loss stops being a number, or the run is asked to stop.
        """
        stretches = self.stretches
        total = sum(stretch.epochs for stretch in stretches) * self.feed.steps
        progress = Progress(total, self.config.batch_size)
        lines: list[Line] = []
        offset = too_long = 0
        for stretch in stretches:
            torch.manual_seed(self.seed)
            self._choose(stretch)
            work = self.folder / "work" / stretch.name
            trainer = Trainer(self.model, self.feed, stretch, work, progress)
            state = trainer.run(offset, lines)
            lines += state.log
            offset, too_long = offset + trainer.steps, too_long + state.too_long
            self._note(state)
        self.model = merged(self.model)
        self._check(too_long)
        processor = self.feed.collator.processor
        save_multimodal(self.model.to("cpu", self._dtype()), processor, self.folder)
        self.counts |= {"steps": offset, "too_long": too_long, "skipped": len(self.skipped())}
        self.counts |= {"reasons": self._reasons(), "parameters": self.model.num_parameters()}
        return lines

    def skipped(self) -> list[dict[str, str]]:
        """Item, field and reason of each file that could not be used."""
        return [
            {"item": self.feed.corpus.items[row].item_id, "field": name, "reason": reason}
            for (row, name), reason in sorted(self.feed.opener.skipped.items())
        ]

    def _choose(self, stretch: Stretch) -> None:
        if stretch.name == "projector":
            learn_projector(self.model)
        else:
            self.model = learn_second(self.model, self.config.second)

    def _note(self, state: State) -> None:
        validated = [line for line in state.log if "validation_loss" in line]
        if not validated:
            return
        kept = validated[-1]
        if self.config.keep == "best":
            kept = next(line for line in validated if line["epoch"] == state.best_epoch)
        self.counts |= {k: round(v, 4) for k, v in kept.items() if k.startswith("validation_")}

    def _check(self, too_long: int) -> None:
        epochs = sum(stretch.epochs for stretch in self.stretches)
        if epochs and too_long >= epochs * len(self.feed.corpus.train):
            raise LlmrecError(
                f"train-multimodal: no example fits in the {self.feed.collator.context} tokens "
                f"that {self.config.base} reads; show less (sources), or take another base"
            )

    def _reasons(self) -> dict[str, int]:
        return dict(Counter(row["reason"] for row in self.skipped()).most_common(5))

    def _dtype(self) -> torch.dtype:
        """What the base's weights were in."""
        return self.model.model.language_model.embed_tokens.weight.dtype


def _open(
    config: MultimodalConfig, corpus: Corpus, device: torch.device, seed: int
) -> tuple[Any, Any]:
    if config.base in SIZES:
        return new_multimodal(
            config.base, clip=config.clip, texts=corpus.texts(), video=config.video, seed=seed
        )
    # frozen weights need no more; what learns is brought to float32
    small = device.type == "cuda" and config.second.train != "full"
    half = small and config.precision in ("auto", "bf16")
    return load_multimodal(config.base, dtype=torch.bfloat16 if half else torch.float32)


def _silence_bars() -> None:
    """Of reading and writing weights, beside the one that counts."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
