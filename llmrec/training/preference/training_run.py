"""A preference tuning run, from opened inputs to written folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import Llm, make_llm
from llmrec.llm.adapters import check_adapters
from llmrec.llm.lora_rules import check_name
from llmrec.loop.cached import cached_json
from llmrec.metrics.bootstrap import PairedDifference, compare
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.preference.loop import open_model, train
from llmrec.training.preference.pairs import make_pairs
from llmrec.training.preference.reward_cases import (
    LIST_LENGTH,
    catalogue_facts,
    check_rules,
    reward_per_case,
)
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.tasks.lazy_rows import shuffled_epochs
from llmrec.training.tune import base as bases
from llmrec.training.tune.adapter import trained_parameters, write_adapter


@dataclass(frozen=True)
class _Plan:
    """A method's trainer.

    Attributes:
        make: makes the trainer.
        steps: of the optimizer.
        examples: number and kind of the training examples, for people.
    """

    make: Callable[[], Any]
    steps: int
    examples: str


class PreferRun:
    """A preference tuning run, everything opened and checked.

    Args:
        folder: of the base.
        out: the result's folder while it is being written; checkpoints are in ``work``.

    Attributes:
        base: the folder as it was given.
        adapter: the initial adapter; None for a fresh one.
        impressions: lists that were shown, for ``dpo``.
        corpus: the training split.
        facts: prices and stock of the catalogue.
        cases: validation cases.
        counts: for the manifest.

    Raises:
        ConfigError, DataError, ArtifactError: where settings, base, adapter and data do not fit
            together.
    """

    def __init__(
        self,
        config: PreferConfig,
        folder: Path,
        adapter: Path | None,
        dataset: Dataset,
        impressions: Path | None,
        out: Path,
        seed: int,
    ) -> None:
        self.config, self.adapter, self.impressions = config, adapter, impressions
        self.folder, self.seed = out, seed
        self.counts: dict[str, Any] = {}
        check_name(config.name)
        self.base = bases.open_base(folder)
        if adapter is not None:
            check_adapters(folder, [adapter])
        self.corpus, _ = bases.open_corpus(self.base, dataset, config.loop.max_length)
        self.facts = catalogue_facts(dataset)
        check_rules(self.facts, config.rewards, dataset)
        if len(self.corpus.events_with_history) == 0:
            raise ConfigError(
                f"--dataset: nobody in {dataset.folder} has two training events, so there is "
                "nothing to learn; ingest longer histories"
            )
        if config.method == "grpo" and config.grpo.group >= self.corpus.n_items:
            raise ConfigError(
                f"grpo.group: {config.grpo.group} different items cannot be sampled from a "
                f"catalogue of {self.corpus.n_items}; lower it"
            )
        self.cases = validation_cases(dataset, config.validation_users, seed)

    def tune(self) -> list[dict[str, Any]]:
        """Train the adapter, measure before and after, and write it.

        Returns:
            the log, with the measurements before and after it.
        """
        name = self.config.method
        folder = self.folder / "work" / name
        torch.manual_seed(self.seed)
        model = open_model(self.base, self.adapter, self.config)
        plain, base = model.eval().get_base_model(), self.base
        llm = make_llm(plain, base.encoder, base.ids, beams=self.config.beams)
        trained = trained_parameters(model)
        options = {"folder": folder, "seed": self.seed, "tokenizer": self.base.tokenizer}
        plan = (self._dpo if name == "dpo" else self._grpo)(model, llm, options)
        start = "a fresh adapter" if self.adapter is None else self.adapter
        print(f"prefer: {name} from {start}, {plan.steps:,} steps; {plan.examples}", flush=True)
        before = cached_json(self.folder / "work" / "before.json", lambda: self.measure(llm))
        log = train(plan.make, model, self.config, folder, plan.steps)
        after = self.measure(llm)
        task = f"next_item, {name}"
        self.counts |= write_adapter(
            model, self.config.tuning(), self.folder, task, self.base.folder
        )
        self.counts.update(trained_parameters=trained, steps=plan.steps)
        self._compare(before, after)
        first, last = {"stage": name, "step": 0}, {"stage": name, "step": plan.steps}
        return [first | _means(before), *log, last | _means(after)]

    def _dpo(self, model: Any, llm: Llm, options: dict[str, Any]) -> _Plan:
        from llmrec.training.preference.dpo import dpo_trainer

        config, loop = self.config, self.config.loop
        wanted = loop.max_steps * loop.examples_per_step
        pairs = make_pairs(self.corpus, config.dpo, self.impressions, llm, wanted, self.seed)
        steps = self.config.loop.steps(len(pairs))
        make = partial(dpo_trainer, model, pairs, config, steps=steps, **options)
        return _Plan(make, steps, f"{len(pairs):,} pairs")

    def _grpo(self, model: Any, llm: Llm, options: dict[str, Any]) -> _Plan:
        from llmrec.training.preference.grpo import grpo_trainer
        from llmrec.training.preference.rollouts import RolloutSampler

        config, events = self.config, self.corpus.events_with_history
        rollouts = RolloutSampler(
            llm, self.corpus, self.facts, config.rewards, config.grpo.group, self.seed
        )
        steps = self.config.loop.steps(len(events))
        count = steps * config.loop.examples_per_step
        prompts = shuffled_epochs(events, count, self.seed, 8)
        make = partial(grpo_trainer, model, llm, rollouts, config, prompts, steps=steps, **options)
        return _Plan(make, steps, f"{len(events):,} prompts")

    def measure(self, llm: Llm) -> dict[str, Any]:
        """Metrics and rewards of the model through the decoder that serves.

        Returns:
            ``metrics``, and ``rewards`` of every case by part.
        """
        metrics = validation_metrics(llm, self.cases)
        dataset, rewards = self.corpus.dataset, self.config.rewards
        found = reward_per_case(llm, self.cases, dataset, rewards)
        return {"metrics": metrics, "rewards": {k: v.tolist() for k, v in found.items()}}

    def _compare(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Put before and after into the counts, and print them."""
        one, other = (
            {name: np.array(values) for name, values in entry["rewards"].items()}
            for entry in (before, after)
        )
        print(f"{len(self.cases):,} validation users, mean over the {LIST_LENGTH} items served:")
        differences = compare(one, other, self.cases.users)
        for found in differences:
            name = "reward" if found.metric == "total" else f"reward_{found.metric}"
            self._note(name, found)
        rank = next(found for found in differences if found.metric == "rank")
        self._note("validation_ndcg", rank, LIST_LENGTH)  # its sum over the list

    def _note(self, name: str, found: PairedDifference, scale: float = 1.0) -> None:
        values = (found.a, found.b, found.difference, *found.interval)
        before, after, change, low, high = (value * scale for value in values)
        self.counts |= {
            f"{name}_before": before,
            name: after,
            f"{name}_difference": change,
            f"{name}_interval": [low, high],
        }
        interval = f"{change:+.4f}, 95% {low:+.4f} to {high:+.4f}"
        print(f"  {name:<15} {before:.4f} -> {after:.4f}  ({interval})", flush=True)


def _means(measured: dict[str, Any]) -> dict[str, float]:
    rewards = {
        "reward" if name == "total" else f"reward_{name}": float(np.mean(values))
        for name, values in measured["rewards"].items()
    }
    named = measured["metrics"] | rewards
    return {f"validation_{name}": value for name, value in named.items()}
