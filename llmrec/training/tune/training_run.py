"""The two phases of a fine-tuning run, from opened inputs to written folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llmrec.data.dataset import Dataset
from llmrec.generation.llm import make_llm
from llmrec.llm.lora_rules import check_name
from llmrec.loop.cached import cached_json
from llmrec.loop.progress import RunProgress
from llmrec.training.next_item.domain_data import cases_of_domain
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.tasks.mixture import Mixture
from llmrec.training.tune import base as bases
from llmrec.training.tune.adapter import (
    check_earlier_adapter,
    trained_parameters,
    with_adapter,
    with_earlier_adapter,
    with_token_rows,
    write_adapter,
)
from llmrec.training.tune.memory import most_memory_mib
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.settings import TuneConfig
from llmrec.training.tune.sft import PhaseResult, TrainingPhase, Values, fine_tune
from llmrec.training.tune.trainer import chosen_precision


class TuneRun:
    """A fine-tuning run: alignment of new token rows, then the adapter or all weights.

    Args:
        folder: of the base.
        adapter: folder of an adapter of the base to go on from; None for a fresh one.
        features: folder of llmrec embed, for items that the base does not know.
        out: the result's folder while it is being written; checkpoints are in ``work``.
        processes: of the run, which train in parallel.

    Attributes:
        base: the folder as it was given, or made of it for the items of the dataset.
        adapter: to go on from, or None.
        mixture: the examples.
        cases: validation cases.
        steps: after the alignment.
        progress: how far the run is.
        counts: for the manifest.

    Raises:
        ConfigError, DataError: where settings, base and data do not fit together.
    """

    def __init__(
        self,
        config: TuneConfig,
        folder: Path,
        adapter: Path | None,
        dataset: Dataset,
        features: Path | None,
        out: Path,
        seed: int,
        processes: Processes,
    ) -> None:
        self.config, self.folder, self.seed, self.processes = config, out, seed, processes
        self.adapter, self.counts = adapter, dict[str, Any]()
        check_name(config.name)
        given = bases.open_base(folder)
        if adapter is not None:
            check_earlier_adapter(config, adapter, folder)
        self.base = bases.base_for(given, dataset, features, out / "work" / "start")
        if self.base is not given:
            new = len(set(dataset.item_ids) - set(given.ids.names))
            self.counts |= {"known_items": dataset.n_items - new, "new_items": new}
        corpus, max_length = bases.open_corpus(
            self.base,
            dataset,
            config.loop.max_length,
            config.instructions,
            user_share=config.user_share,
            domain=config.domain,
        )
        self.mixture = Mixture(corpus, config.tasks, seed, max_length)
        self.cases = validation_cases(dataset, config.validation_users, seed)
        if config.domain:
            self.cases = cases_of_domain(self.cases, dataset, config.domain)
        self.steps = config.loop.steps(len(self.mixture), processes.count)
        self.progress = RunProgress(
            config.align.steps + self.steps,
            config.loop.examples_per_step * processes.count,
            enabled=processes.first,
        )

    @property
    def aligned(self) -> Path:
        """The folder an adapter belongs to; a full run needs it only while it lasts."""
        return self.folder / ("work/base" if self.config.method == "full" else "base")

    def summary(self) -> str:
        """Method, steps and tasks in a line."""
        tasks = ", ".join(
            f"{name} {count:,}"
            for name, count in zip(self.mixture.names, self.mixture.counts, strict=True)
        )
        return (
            f"tune: {self.config.method} in {chosen_precision(self.config.loop)}, "
            f"{self.config.align.steps:,} steps of alignment, {self.steps:,} steps; "
            f"examples an epoch: {tasks}"
        )

    def align(self) -> list[dict[str, Any]]:
        """Train the rows of the new tokens for ``align.steps``, and write the base with them.

        Returns:
            the log, with the validation before it.
        """
        work = self.folder / "work"
        steps = self.config.align.steps

        def align() -> list[dict[str, Any]]:
            if steps == 0:
                if self.processes.first:
                    bases.copy_base(self.base.folder, self.aligned)
                return []
            torch.manual_seed(self.seed)
            model = bases.load_model(self.base.folder, self.config)
            start = self._cached(work / "before.json", lambda: self.validate(model))
            start = {"stage": "align", "step": 0} | start
            self.progress.set_log([start])
            rows = with_token_rows(model, self.base.new_tokens)
            trained = self._train(
                rows, TrainingPhase("align", steps, self.config.align.learning_rate)
            )
            if self.processes.first:
                bases.write_with_rows(self.base, rows.get_base_model(), self.aligned)
            return [start, *trained.log]

        log: list[dict[str, Any]] = self._cached(work / "align.json", align)
        return log

    def tune(self, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Train the adapter or the model, and write it.

        Args:
            log: that of the alignment.

        Returns:
            the same, and with the validations before and after it that of this training.
        """
        plain, model = self._model()
        start = self._cached(self.folder / "work" / "aligned.json", lambda: self.validate(plain))
        log = [*log, {"stage": "tune", "step": 0} | start]
        self.progress.set_log(log)
        self.counts["trained_parameters"] = trained_parameters(model)
        self.counts["precision"] = chosen_precision(self.config.loop)
        if self.config.align.steps > 0:
            self.counts["aligned_parameters"] = bases.new_row_parameters(self.base)
        full = _FullModel(self, plain, model)
        phase = TrainingPhase(
            "tune",
            self.steps,
            self.config.loop.learning_rate,
            self.config.align.steps,
            lambda values: self.validate(full.with_weights(values)[0]),
        )
        trained = self._train(model, phase)
        plain, model = full.with_weights(trained.values)
        log += trained.log
        validated = [line for line in trained.log if "validation_ndcg@10" in line]
        if all(line["step"] != trained.step for line in validated):
            log.append({"stage": "tune", "step": trained.step} | self.validate(plain))
        if self.processes.first:
            self._save(plain, model)
        self.counts |= {"steps": log[-1]["step"], "kept_step": trained.step}
        self.counts["peak_mib"] = most_memory_mib()
        self.progress.set_log(log)
        return log

    def _model(self) -> tuple[Any, Any]:
        """The aligned base, and the same with an adapter around it if the method has one."""
        torch.manual_seed(self.seed)
        plain = bases.load_model(self.aligned, self.config)
        if self.config.method == "full":
            return plain, plain
        if self.adapter is not None:
            return plain, with_earlier_adapter(plain, self.adapter, self.aligned)
        return plain, with_adapter(plain, self.config)

    def _save(self, plain: Any, model: Any) -> None:
        if self.config.method == "full":
            bases.copy_base(self.aligned, self.folder / "model")
            plain.save_pretrained(self.folder / "model")
        else:
            tasks = ", ".join(self.mixture.names)
            self.counts |= write_adapter(model, self.config, self.folder, tasks, self.aligned)

    def validate(self, model: Any) -> dict[str, float]:
        """Metrics of a model through the decoder that serves; the first process measures."""

        def measure() -> dict[str, float]:
            model.eval()
            encoder, ids = self.base.encoder, self.base.ids
            recommender = make_llm(model, encoder, ids, beams=self.config.beams)
            metrics = validation_metrics(recommender, self.cases)
            return {f"validation_{name}": value for name, value in metrics.items()}

        named: dict[str, float] = self.processes.broadcast(
            measure() if self.processes.first else None
        )
        self.progress.write("  ".join(f"{name} {value:.4f}" for name, value in named.items()))
        return named

    def _train(self, model: Any, phase: TrainingPhase) -> PhaseResult:
        return fine_tune(
            model,
            self.base.tokenizer,
            self.mixture,
            phase,
            self.config.loop,
            self.folder / "work" / phase.name,
            self.seed,
            self.progress,
            self.processes,
        )

    def _cached(self, path: Path, compute: Callable[[], Any]) -> Any:
        """A result that is computed once, and broadcast by the first process."""
        if not self.processes.broadcast(path.is_file()):
            result = compute()
            if self.processes.first:
                cached_json(path, lambda: result)
        return self.processes.broadcast(
            cached_json(path, compute) if self.processes.first else None
        )


class _FullModel:
    """The trained model in one piece: itself, or a copy where it is sharded."""

    def __init__(self, run: TuneRun, plain: Any, model: Any) -> None:
        self.run, self.own = run, (plain, model)
        self.copy: tuple[Any, Any] | None = None

    def with_weights(self, values: Values | None) -> tuple[Any, Any]:
        """The base and the model around it, with these weights.

        Args:
            values: None where nothing is sharded; they count in the first process alone.
        """
        if values is None or not self.run.processes.first:
            return self.own
        with torch.random.fork_rng():
            self.copy = self.copy or self.run._model()
        self.copy[1].load_state_dict(values)
        return self.copy
