"""The two stretches of a fine-tuning run, from opened inputs to written folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import make_llm
from llmrec.llm.adapters import WEIGHTS, check_name, save_adapter
from llmrec.loop.once import once
from llmrec.loop.progress import Progress
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.tasks.corpus import Corpus
from llmrec.training.tasks.mixture import Mixture
from llmrec.training.tasks.writer import Writer
from llmrec.training.tune import adapter
from llmrec.training.tune import base as bases
from llmrec.training.tune.base import Base
from llmrec.training.tune.memory import most_memory_mib
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.settings import TuneConfig
from llmrec.training.tune.sft import Stretch, Trained, Values, fine_tune
from llmrec.types import Cases


@dataclass
class Work:
    """A run and what it needs.

    Attributes:
        base: the folder as it was given.
        mixture: the examples.
        cases: what is validated on.
        folder: the result's folder while it is being written; checkpoints are in ``work``.
        processes: those that train together.
        progress: how far the run is.
        counts: what the manifest will say.
    """

    config: TuneConfig
    base: Base
    mixture: Mixture
    cases: Cases
    folder: Path
    seed: int
    processes: Processes
    progress: Progress = field(init=False)
    counts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.progress = Progress(
            self.config.align.steps + self.steps, self.examples_per_step, shown=self.processes.first
        )

    @classmethod
    def prepare(
        cls,
        config: TuneConfig,
        folder: Path,
        dataset: Dataset,
        out: Path,
        seed: int,
        processes: Processes,
    ) -> Work:
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
        cases = validation_cases(dataset, config.validation_users, seed)
        work = cls(config, base, mixture, cases, out, seed, processes)
        if len(mixture) < work.examples_per_step:
            raise ConfigError(
                f"loop: the tasks give {len(mixture)} examples, fewer than the "
                f"{work.examples_per_step} of one step; lower loop.batch_size or "
                "loop.gradient_accumulation"
            )
        return work

    @property
    def examples_per_step(self) -> int:
        """Examples a step learns from, over all processes."""
        return self.config.loop.examples_per_step * self.processes.count

    @property
    def steps(self) -> int:
        """Steps after the alignment."""
        loop = self.config.loop
        whole = loop.epochs * len(self.mixture) // self.examples_per_step
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
                if self.processes.first:
                    bases.copy_base(self.base.folder, self.aligned)
                return []
            torch.manual_seed(self.seed)
            model = bases.load_model(self.base.folder, self.config)
            start = self._once(work / "before.json", lambda: self.validate(model))
            start = {"stage": "align", "step": 0} | start
            self.progress.so_far([start])
            rows = adapter.with_token_rows(model, self.base.new_tokens)
            trained = self._train(rows, Stretch("align", steps, self.config.align.learning_rate))
            if self.processes.first:
                values = bases.trained_rows(rows.get_base_model(), self.base.new_tokens)
                bases.bake(self.base, values, self.aligned)
            return [start, *trained.log]

        log: list[dict[str, Any]] = self._once(work / "align.json", before)
        return log

    def tune(self, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Train the adapter or the model, and write it.

        Args:
            log: that of the alignment.

        Returns:
            the same, and with the validations before and after it that of this training.
        """
        plain, model = self._model()
        start = self._once(self.folder / "work" / "aligned.json", lambda: self.validate(plain))
        log = [*log, {"stage": "tune", "step": 0} | start]
        self.progress.so_far(log)
        self.counts["trained_parameters"] = adapter.trained_parameters(model)
        if self.config.align.steps > 0:
            self.counts["aligned_parameters"] = bases.new_row_parameters(self.base)
        whole = _Whole(self, plain, model)
        stretch = Stretch(
            "tune",
            self.steps,
            self.config.loop.learning_rate,
            self.config.align.steps,
            lambda values: self.validate(whole.of(values)[0]),
        )
        trained = self._train(model, stretch)
        plain, model = whole.of(trained.values)
        log += trained.log
        if not any(validated(line) and line["step"] == trained.step for line in trained.log):
            log.append({"stage": "tune", "step": trained.step} | self.validate(plain))
        if self.processes.first:
            self._save(plain, model)
        self.counts |= {"steps": log[-1]["step"], "kept_step": trained.step}
        self.counts["peak_mib"] = most_memory_mib()
        self.progress.so_far(log)
        return log

    def _model(self) -> tuple[Any, Any]:
        """The base after its alignment, and the same with what is trained about it."""
        torch.manual_seed(self.seed)
        plain = bases.load_model(self.aligned, self.config)
        full = self.config.method == "full"
        return plain, plain if full else adapter.with_adapter(plain, self.config)

    def _save(self, plain: Any, model: Any) -> None:
        if self.config.method == "full":
            bases.copy_base(self.aligned, self.folder / "model")
            plain.save_pretrained(self.folder / "model")
        else:
            self._save_adapter(model)

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
        """Metrics of a model as it is, through the decoder that serves; the first one measures."""

        def measured() -> dict[str, float]:
            model.eval()
            vocabulary, encoder, ids = self.base.vocabulary, self.base.encoder, self.base.ids
            recommender = make_llm(model, vocabulary, encoder, ids, beams=self.config.beams)
            metrics = validation_metrics(recommender, self.cases)
            return {f"validation_{name}": value for name, value in metrics.items()}

        named: dict[str, float] = self.processes.tell(measured() if self.processes.first else None)
        self.progress.say("  ".join(f"{name} {value:.4f}" for name, value in named.items()))
        return named

    def _train(self, model: Any, stretch: Stretch) -> Trained:
        return fine_tune(
            model,
            self.base.tokenizer,
            self.mixture,
            stretch,
            self.config.loop,
            self.folder / "work" / stretch.name,
            self.seed,
            self.progress,
            self.processes,
        )

    def _once(self, path: Path, compute: Callable[[], Any]) -> Any:
        """A result of all processes, computed once and told by the first one."""
        if not self.processes.tell(path.is_file()):
            result = compute()
            if self.processes.first:
                once(path, lambda: result)
        return self.processes.tell(once(path, compute) if self.processes.first else None)


class _Whole:
    """The model that is trained, in one piece: itself, or a copy where it lies in shards."""

    def __init__(self, work: Work, plain: Any, model: Any) -> None:
        self.work, self.own = work, (plain, model)
        self.copy: tuple[Any, Any] | None = None

    def of(self, values: Values | None) -> tuple[Any, Any]:
        """The base and what is trained about it, with these weights.

        Args:
            values: None where nothing is sharded; they count in the first process alone.
        """
        if values is None or not self.work.processes.first:
            return self.own
        with torch.random.fork_rng():
            self.copy = self.copy or self.work._model()
        self.copy[1].load_state_dict(values)
        return self.copy


def validated(line: dict[str, Any]) -> bool:
    """Whether a line of the log is a validation."""
    return any(name.startswith("validation_") for name in line)
