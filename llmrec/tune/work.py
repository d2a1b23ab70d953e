"""The two stretches of a fine-tuning run, from opened inputs to written folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.evaluation.machine import peak_mib
from llmrec.generation.llm import make_llm
from llmrec.models.adapters import WEIGHTS, check_name, save_adapter
from llmrec.tasks.corpus import Corpus
from llmrec.tasks.mixture import Mixture
from llmrec.tasks.writer import Writer
from llmrec.train.validation import validation_cases, validation_metrics
from llmrec.tune import adapter
from llmrec.tune import base as bases
from llmrec.tune.base import Base
from llmrec.tune.run import once
from llmrec.tune.settings import Config
from llmrec.tune.sft import Stretch, fine_tune
from llmrec.types import Cases


@dataclass
class Work:
    """A run and what it needs.

    Attributes:
        base: the folder as it was given.
        mixture: the examples.
        cases: what is validated on.
        folder: the result's folder while it is being written; checkpoints are in ``work``.
        counts: what the manifest will say.
    """

    config: Config
    base: Base
    mixture: Mixture
    cases: Cases
    folder: Path
    seed: int
    counts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def prepare(cls, config: Config, folder: Path, dataset: Dataset, out: Path, seed: int) -> Work:
        """Open and check everything.

        Raises:
            ConfigError, DataError: where settings, base and data do not fit together.
        """
        check_name(config.name)
        base = bases.open_base(folder)
        bases.check_items(base, dataset.n_items, dataset.folder)
        context = int(bases.read_config(base).get("max_position_embeddings", 2**31))
        max_length = min(config.loop.max_length, context)
        writer = Writer(base.tokenizer, bases.item_encoder(base, max_length))
        mixture = Mixture(Corpus(dataset, writer), config.tasks, seed, max_length)
        if len(mixture) < config.loop.examples_per_step:
            raise ConfigError(
                f"loop: the tasks give {len(mixture)} examples, fewer than the "
                f"{config.loop.examples_per_step} of one step; lower loop.batch_size or "
                "loop.gradient_accumulation"
            )
        cases = validation_cases(dataset, config.validation_users, seed)
        return cls(config, base, mixture, cases, out, seed)

    @property
    def steps(self) -> int:
        """Steps after the alignment."""
        loop = self.config.loop
        whole = loop.epochs * len(self.mixture) // loop.examples_per_step
        return loop.max_steps or max(1, whole)

    @property
    def aligned(self) -> Path:
        """The folder an adapter belongs to; a full run needs it only while it lasts."""
        place = "work/base" if self.config.method == "full" else "base"
        return self.folder / place

    def summary(self) -> str:
        """What will be done, in a line."""
        tasks = ", ".join(
            f"{name} {count:,}"
            for name, count in zip(self.mixture.names, self.mixture.counts, strict=True)
        )
        return (
            f"tune: {self.config.method}, {self.config.align.steps:,} steps of alignment, "
            f"{self.steps:,} steps; examples an epoch: {tasks}"
        )

    def align(self) -> list[dict[str, Any]]:
        """Train the rows of the new tokens, if asked, and write the base with them.

        Returns:
            the log, with the validation before it.
        """
        work = self.folder / "work"
        steps = self.config.align.steps

        def before() -> list[dict[str, Any]]:
            if steps == 0:
                bases.copy_base(self.base.folder, self.aligned)
                return []
            torch.manual_seed(self.seed)
            model = bases.load_model(self.base.folder, self.config)
            start = once(work / "before.json", lambda: self.validate(model))
            rows = adapter.with_token_rows(model, self.base.new_tokens)
            stretch = Stretch("align", steps, self.config.align.learning_rate)
            log = self._train(rows, stretch)
            trained = bases.trained_rows(rows.get_base_model(), self.base.new_tokens)
            bases.bake(self.base, trained, self.aligned)
            return [{"stage": "align", "step": 0} | start, *log]

        log: list[dict[str, Any]] = once(work / "align.json", before)
        return log

    def tune(self) -> list[dict[str, Any]]:
        """Train the adapter or the model, and write it.

        Returns:
            the log, with the validations before and after it.
        """
        torch.manual_seed(self.seed)
        plain = bases.load_model(self.aligned, self.config)
        full = self.config.method == "full"
        model = plain if full else adapter.with_adapter(plain, self.config)
        start = once(self.folder / "work" / "aligned.json", lambda: self.validate(plain))
        stretch = Stretch("tune", self.steps, self.config.loop.learning_rate)
        log = self._train(model, stretch)
        end = self.validate(plain)
        if full:
            bases.copy_base(self.aligned, self.folder / "model")
            plain.save_pretrained(self.folder / "model")
        else:
            self._save_adapter(model)
        self.counts.update(
            trained_parameters=adapter.trained_parameters(model),
            steps=self.steps,
            peak_mib=_peak_mib(),
        )
        first, last = {"stage": "tune", "step": 0}, {"stage": "tune", "step": self.steps}
        return [first | start, *log, last | end]

    def _save_adapter(self, model: Any) -> None:
        folder = save_adapter(
            model,
            self.folder / "adapter",
            name=self.config.name,
            version=self.config.version,
            task=", ".join(self.mixture.names),
            base=self.aligned,
        )
        self.counts["adapter_bytes"] = (folder / WEIGHTS).stat().st_size

    def validate(self, model: Any) -> dict[str, float]:
        """Metrics of a model as it is, through the decoder that serves."""
        model.eval()
        recommender = make_llm(
            model, self.base.vocabulary, self.base.encoder, self.base.ids, beams=self.config.beams
        )
        metrics = validation_metrics(recommender, self.cases)
        named = {f"validation_{name}": value for name, value in metrics.items()}
        print("  ".join(f"{name} {value:.4f}" for name, value in named.items()), flush=True)
        return named

    def _train(self, model: Any, stretch: Stretch) -> list[dict[str, Any]]:
        folder = self.folder / "work" / stretch.name
        tokenizer, loop = self.base.tokenizer, self.config.loop
        return fine_tune(model, tokenizer, self.mixture, stretch, loop, folder, self.seed)


def _peak_mib() -> float | None:
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak_mib()
