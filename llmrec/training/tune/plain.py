"""Tuning a chat model that knows no items, on chat examples alone: an adapter, no base beside it.

There are no item IDs to measure a ranking with, so the log holds the loss alone, and the adapter is
of the model as it is named: a short name, a folder or a hub id.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.llm.lora_rules import check_name
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.loop.progress import RunProgress
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.mixture import Mixture
from llmrec.training.tasks.writer import PromptWriter
from llmrec.training.tune import base as bases
from llmrec.training.tune.adapter import (
    check_earlier_adapter,
    trained_parameters,
    with_adapter,
    with_earlier_adapter,
    write_adapter,
)
from llmrec.training.tune.memory import most_memory_mib
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.settings import TuneConfig, TuneLoopConfig
from llmrec.training.tune.sft import TrainingPhase, fine_tune
from llmrec.training.tune.trainer import chosen_precision
from llmrec.weights.locate import locate

ALIKE = 50  # batches among which examples are sorted by length


class PlainRun:
    """A run on chat examples alone.

    Args:
        base: short name, folder or hub id of a chat model.
        adapter: folder of an adapter of the base to go on from; None for a fresh one.
        dataset: that the examples are of.
        out: the result's folder while it is being written; checkpoints are in ``work``.

    Attributes:
        counts: for the manifest.

    Raises:
        ConfigError, DataError: where settings, base and examples do not fit together.
    """

    def __init__(
        self,
        config: TuneConfig,
        base: Path,
        adapter: Path | None,
        dataset: Dataset,
        out: Path,
        seed: int,
        processes: Processes,
    ) -> None:
        self.config, self.base, self.adapter, self.folder = config, base, adapter, out
        self.seed, self.processes = seed, processes
        self.counts: dict[str, Any] = {}
        check_name(config.name)
        _check(config)
        if adapter is not None:
            check_earlier_adapter(config, adapter, base, items=False)
        self.located = Path(locate(str(base), "language model", "--base"))
        self.tokenizer = load_tokenizer(str(self.located))
        corpus = TaskCorpus(dataset, PromptWriter(self.tokenizer, None), config.instructions)
        self.mixture = _ByLength(corpus, config.tasks, seed, config.loop)
        self.steps = config.loop.steps(len(self.mixture), processes.count)
        self.progress = RunProgress(
            self.steps, config.loop.examples_per_step * processes.count, enabled=processes.first
        )

    def summary(self) -> str:
        """Method, steps and examples in a line."""
        return (
            f"tune: {self.config.method} in {chosen_precision(self.config.loop)}, {self.steps:,} "
            f"steps; {len(self.mixture):,} chat examples an epoch"
        )

    def tune(self) -> list[dict[str, Any]]:
        """Train the adapter, and write it; returns the log."""
        torch.manual_seed(self.seed)
        model = bases.load_model(self.located, self.config)
        if self.adapter is None:
            model = with_adapter(model, self.config)
        else:
            model = with_earlier_adapter(model, self.adapter, self.located)
        if self.config.loop.precision == "bf16-true":
            model = model.bfloat16()
        self.counts["trained_parameters"] = trained_parameters(model)
        self.counts["precision"] = chosen_precision(self.config.loop)
        trained = fine_tune(
            model,
            self.tokenizer,
            self.mixture,
            TrainingPhase("tune", self.steps, self.config.loop.learning_rate),
            self.config.loop,
            self.folder / "work" / "tune",
            self.seed,
            self.progress,
            self.processes,
        )
        if self.processes.first:
            self.counts |= write_adapter(
                model, self.config, self.folder, "instructions", self.base, items=False
            )
        self.counts |= {"steps": trained.step, "peak_mib": most_memory_mib()}
        self.progress.set_log(trained.log)
        return trained.log


class _ByLength(Mixture):
    """Examples of which those of one batch are about as long, so that little of it is padding."""

    def __init__(
        self, corpus: TaskCorpus, weights: Mapping[str, float], seed: int, loop: TuneLoopConfig
    ) -> None:
        super().__init__(corpus, weights, seed, loop.max_length)
        self.batch = loop.batch_size
        turns = corpus.instructions.turns
        self.lengths = np.array([len(prompt) + len(completion) for prompt, completion in turns])

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The examples of an epoch, in order: int64 task numbers and rows, ``[examples]``."""
        tasks, rows = super().plan(epoch)
        rng = np.random.default_rng([self.seed, epoch, 3])
        window = self.batch * ALIKE
        batches: list[np.ndarray] = []
        for start in range(0, len(rows), window):
            part = rows[start : start + window]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[at : at + self.batch] for at in range(0, len(part), self.batch)]
        whole = [batch for batch in batches if len(batch) == self.batch]
        rest = [batch for batch in batches if len(batch) < self.batch]
        order = [whole[at] for at in rng.permutation(len(whole))] + rest
        return tasks, np.concatenate(order)


def _check(config: TuneConfig) -> None:
    if config.method == "full":
        raise ConfigError(
            "method: a base without item tokens is tuned by an adapter; set lora or qlora"
        )
    if config.align.steps > 0:
        raise ConfigError("align.steps: the base has no rows of item tokens; leave it 0")
    if config.loop.validate_every > 0:
        raise ConfigError(
            "loop.validate_every: without item tokens no ranking can be validated; leave it 0"
        )
