"""A preference tuning run, from opened inputs to written folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import Llm, make_llm
from llmrec.llm.adapters import WEIGHTS, check_adapters, check_name, save_adapter
from llmrec.loop.once import once
from llmrec.metrics.bootstrap import PairedDifference, compare
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.preference.measure import SERVED, check_rules, facts_of, reward_per_case
from llmrec.training.preference.pairs import make_pairs
from llmrec.training.preference.rewards import Facts
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.preference.training import open_model, train
from llmrec.training.tasks.corpus import Corpus
from llmrec.training.tasks.writer import Writer
from llmrec.training.tune import base as bases
from llmrec.training.tune.adapter import trained_parameters
from llmrec.training.tune.base import Base
from llmrec.types import Cases


@dataclass(frozen=True)
class _Plan:
    """What a method is about to do.

    Attributes:
        make: makes its trainer.
        steps: how many it takes.
        examples: what there is to learn from, in words.
    """

    make: Callable[[], Any]
    steps: int
    examples: str


@dataclass
class Work:
    """A run and what it needs.

    Attributes:
        base: the folder as it was given.
        adapter: where it starts; None for a fresh adapter.
        impressions: lists that were shown, for ``dpo``.
        corpus: the training split.
        facts: of the catalogue.
        cases: what is measured on.
        folder: the result's folder while it is being written; checkpoints are in ``work``.
        counts: what the manifest will say.
    """

    config: PreferConfig
    base: Base
    adapter: Path | None
    impressions: Path | None
    corpus: Corpus
    facts: Facts
    cases: Cases
    folder: Path
    seed: int
    counts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        config: PreferConfig,
        folder: Path,
        adapter: Path | None,
        dataset: Dataset,
        impressions: Path | None,
        out: Path,
        seed: int,
    ) -> Work:
        """Open and check everything.

        Raises:
            ConfigError, DataError, ArtifactError: where settings, base, adapter and data do not fit
                together.
        """
        check_name(config.name)
        base = bases.open_base(folder)
        if adapter is not None:
            check_adapters(folder, [adapter])
        bases.check_items(base, dataset.n_items, dataset.folder)
        facts = facts_of(dataset)
        check_rules(facts, config.rewards, dataset)
        context = int(bases.read_config(base).get("max_position_embeddings", 2**31))
        max_length = min(config.loop.max_length, context)
        corpus = Corpus(dataset, Writer(base.tokenizer, bases.item_encoder(base, max_length)))
        if len(corpus.steps) == 0:
            raise ConfigError(
                f"--dataset: nobody in {dataset.folder} has two training events, so there is "
                "nothing to ask; ingest longer histories"
            )
        if config.method == "grpo":
            _check_group(config, corpus)
        cases = validation_cases(dataset, config.validation_users, seed)
        return cls(config, base, adapter, impressions, corpus, facts, cases, out, seed)

    def tune(self) -> list[dict[str, Any]]:
        """Train the adapter, measure before and after, and write it.

        Returns:
            the log, with the measurements before and after it.
        """
        name = self.config.method
        folder = self.folder / "work" / name
        torch.manual_seed(self.seed)
        model = open_model(self.base, self.adapter, self.config)
        llm = self._llm(model)
        trained = trained_parameters(model)
        place = {"folder": folder, "seed": self.seed, "tokenizer": self.base.tokenizer}
        plan = (self._dpo if name == "dpo" else self._grpo)(model, llm, place)
        start = "a fresh adapter" if self.adapter is None else self.adapter
        print(f"prefer: {name} from {start}, {plan.steps:,} steps; {plan.examples}", flush=True)
        before = once(self.folder / "work" / "before.json", lambda: self.measure(llm))
        log = train(plan.make, model, self.config, folder, plan.steps)
        after = self.measure(llm)
        self._save(model)
        self.counts.update(trained_parameters=trained, steps=plan.steps)
        self._compare(before, after)
        first, last = {"stage": name, "step": 0}, {"stage": name, "step": plan.steps}
        return [first | _means(before), *log, last | _means(after)]

    def _llm(self, model: Any) -> Llm:
        model.eval()
        base = self.base
        return make_llm(
            model.get_base_model(), base.vocabulary, base.encoder, base.ids, beams=self.config.beams
        )

    def _dpo(self, model: Any, llm: Llm, place: dict[str, Any]) -> _Plan:
        from llmrec.training.preference.dpo import dpo_trainer

        config, loop = self.config, self.config.loop
        wanted = loop.max_steps * loop.examples_per_step
        pairs = make_pairs(self.corpus, config.dpo, self.impressions, llm, wanted, self.seed)
        steps = self._steps(len(pairs))
        make = partial(dpo_trainer, model, pairs, config, steps=steps, **place)
        return _Plan(make, steps, f"{len(pairs):,} pairs")

    def _grpo(self, model: Any, llm: Llm, place: dict[str, Any]) -> _Plan:
        from llmrec.training.preference.grpo import grpo_trainer
        from llmrec.training.preference.rollouts import Rollouts

        config, events = self.config, self.corpus.steps
        rollouts = Rollouts(
            llm, self.corpus, self.facts, config.rewards, config.grpo.group, self.seed
        )
        steps = self._steps(len(events))
        places = self._places(events, steps * config.loop.examples_per_step)
        make = partial(grpo_trainer, model, llm, rollouts, config, places, steps=steps, **place)
        return _Plan(make, steps, f"{len(events):,} prompts")

    def _places(self, events: np.ndarray, examples: int) -> np.ndarray:
        """Training events, all of them in another order each epoch."""
        epochs = range(-(-examples // len(events)))
        orders = [np.random.default_rng([self.seed, e, 8]).permutation(events) for e in epochs]
        return np.concatenate(orders)[:examples]

    def _steps(self, examples: int) -> int:
        loop = self.config.loop
        if examples < loop.examples_per_step:
            raise ConfigError(
                f"loop: there are {examples} examples, fewer than the {loop.examples_per_step} of "
                "one step; lower loop.batch_size or loop.gradient_accumulation"
            )
        return loop.max_steps or max(1, loop.epochs * examples // loop.examples_per_step)

    def measure(self, llm: Llm) -> dict[str, Any]:
        """The model as it is, through the decoder that serves.

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
        print(f"on {len(self.cases):,} validation users, the mean over the {SERVED} items served:")
        for found in compare(one, other, self.cases.users):
            name = "reward" if found.metric == "total" else f"reward_{found.metric}"
            self._note(name, found)
            if found.metric == "rank":  # whose sum over the list is NDCG
                ndcg = _times(found, SERVED)
        self._note("validation_ndcg", ndcg)

    def _note(self, name: str, found: PairedDifference) -> None:
        self.counts |= {
            f"{name}_before": found.a,
            name: found.b,
            f"{name}_difference": found.difference,
            f"{name}_interval": list(found.interval),
        }
        low, high = found.interval
        change = f"{found.difference:+.4f}, 95% {low:+.4f} to {high:+.4f}"
        print(f"  {name:<15} {found.a:.4f} -> {found.b:.4f}  ({change})", flush=True)

    def _save(self, model: Any) -> None:
        folder = save_adapter(
            model,
            self.folder / "adapter",
            name=self.config.name,
            version=self.config.version,
            task=f"next_item, {self.config.method}",
            base=self.base.folder,
        )
        self.counts["adapter_bytes"] = (folder / WEIGHTS).stat().st_size


def _check_group(config: PreferConfig, corpus: Corpus) -> None:
    if config.grpo.group >= corpus.n_items:
        raise ConfigError(
            f"grpo.group: {config.grpo.group} different items cannot be drawn from a catalogue of "
            f"{corpus.n_items}; lower it"
        )


def _means(measured: dict[str, Any]) -> dict[str, float]:
    rewards = {
        "reward" if name == "total" else f"reward_{name}": float(np.mean(values))
        for name, values in measured["rewards"].items()
    }
    named = measured["metrics"] | rewards
    return {f"validation_{name}": value for name, value in named.items()}


def _times(found: PairedDifference, factor: float) -> PairedDifference:
    """The same comparison in other units."""
    low, high = found.interval
    return replace(
        found,
        a=found.a * factor,
        b=found.b * factor,
        difference=found.difference * factor,
        interval=(low * factor, high * factor),
    )
