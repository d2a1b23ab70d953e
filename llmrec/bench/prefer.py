"""``llmrec bench prefer``: what preference tuning adds to supervised fine-tuning.

    llmrec bench prefer eval/prefer-demo.yaml --results eval/results/prefer-demo.json

Trains the base of a recipe, fine-tunes an adapter on it as ``llmrec tune`` does, and lets every run
go on from that adapter as ``llmrec prefer`` does. Each recommends ten items for every test case:
NDCG@10, and what the ten are worth by the recipe's rewards. Differences to the supervised adapter
are paired by case. Settings are for validation to choose; here the test events are measured once.

    name: prefer-demo
    source: training/demo.yaml
    model: atomic
    supervised: {method: lora, rank: 16, ...}      # settings of llmrec tune
    rewards: {hit: 1.0, stock: 0.2, price: 0.2}    # what all are measured by
    runs: {dpo: training/prefer_demo_dpo.yaml, grpo: training/prefer_demo_grpo.yaml}
    impressions: raw/impressions.jsonl             # in the run's folder, for runs that read lists
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.bench.prefer_report import write_preference_report
from llmrec.bench.recipe_runs import (
    TuningBenchConfig,
    open_recipe,
    run_apart,
    run_stages,
    training_counts,
    tune_apart,
)
from llmrec.bench.recommenders import load_adapted, load_tuned
from llmrec.bench.tune import Values
from llmrec.config import as_dict, build_section
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.metrics.bootstrap import compare, intervals
from llmrec.metrics.results import read_result, write_result
from llmrec.recommender import ListRecommender, Scorer
from llmrec.stage import read_manifest
from llmrec.training.preference.reward_cases import LIST_LENGTH, reward_per_case
from llmrec.training.preference.settings import PreferConfig, RewardConfig
from llmrec.training.tune.settings import TuneConfig

START = "supervised"
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PreferBenchConfig(TuningBenchConfig):
    """A recipe of this benchmark.

    Attributes:
        supervised: settings of ``llmrec tune``.
        rewards: what all are measured by.
        runs: recipes of ``llmrec prefer``, by name.
        impressions: file of impressions in the run's folder, for the runs that read them.
    """

    supervised: TuneConfig
    rewards: RewardConfig
    runs: dict[str, Path]
    impressions: Path | None = None

    def __post_init__(self) -> None:
        if self.supervised.method == "full":
            raise ConfigError("supervised: preferences go on from an adapter; set method: lora")
        if not self.runs or START in self.runs:
            raise ConfigError(f"runs: name at least one, and none of them {START!r}")
        for path in self.runs.values():
            build_section(PreferConfig, path, "prefer")


def run(recipe: Path, /, *, out: Path | None = None, results: Path | None = None) -> Path:
    """Compare DPO and GRPO with the supervised adapter they start from; a killed run goes on.

    Args:
        recipe: YAML file of :class:`PreferBenchConfig`.
        out: the run's folder; by default runs/NAME.
        results: the result file; by default NAME.json in ``out``.

    Raises:
        ConfigError, DataError: where recipe and data do not fit together.
        LlmrecError: if a run failed; its own message is above.
    """
    config, out, results = open_recipe(PreferBenchConfig, recipe, out, results)
    started = time.monotonic()
    run_stages(config, ("index", "train"), str(recipe), out)
    dataset = out / "dataset"
    base, tuned = out / "models" / config.model / "model", out / START
    tune_apart(as_dict(config.supervised), tuned, config.seed, base, dataset)
    folders = {START: tuned} | {
        name: _prefer(config, name, tuned, dataset, out) for name in config.runs
    }
    values = {START: measure(load_tuned(tuned), dataset, config)} | {
        name: measure(load_adapted(tuned / "base", folders[name] / "adapter"), dataset, config)
        for name in config.runs
    }
    rows = [row_of(name, values, config) for name in folders]
    metrics, spans = figures(rows)
    for row, folder in zip(rows, folders.values(), strict=True):
        row |= training_counts(read_manifest(folder))
    write_result(
        results,
        name=config.name,
        dataset=config.source.stem,
        split="test",
        model=f"{config.model}, {config.supervised.method} of rank {config.supervised.rank}",
        metrics=metrics,
        intervals=spans,
        seed=config.seed,
        seconds=time.monotonic() - started,
        rows=rows,
        settings={
            "supervised": as_dict(config.supervised),
            "rewards": as_dict(config.rewards),
            "runs": {
                name: as_dict(build_section(PreferConfig, path, "prefer"))
                for name, path in config.runs.items()
            },
        },
        cases=len(values[START]["total"]),
    )
    write_preference_report(read_result(results), results.parent)
    return results


def _prefer(config: PreferBenchConfig, name: str, tuned: Path, dataset: Path, out: Path) -> Path:
    path, folder = config.runs[name], out / "prefer" / name
    folders = {"base": tuned / "base", "adapter": tuned / "adapter", "dataset": dataset}
    settings = build_section(PreferConfig, path, "prefer")
    if settings.method == "dpo" and settings.dpo.negatives == "shown" and config.impressions:
        folders["impressions"] = out / config.impressions
    run_apart("prefer", path, folder, config.seed, **folders)
    return folder


def measure(
    recommender: Scorer | ListRecommender, folder: Path, config: PreferBenchConfig
) -> Values:
    """NDCG@10, Recall@10, and rewards of ten items, of every test case: float64 ``[cases]``."""
    dataset = Dataset(folder)
    rewards = reward_per_case(recommender, dataset.cases("test"), dataset, config.rewards)
    # sums over the list where rewards are means
    return {
        "ndcg@10": rewards["rank"] * LIST_LENGTH,
        "recall@10": rewards["hit"] * LIST_LENGTH,
    } | rewards


def row_of(name: str, values: dict[str, Values], config: PreferBenchConfig) -> Row:
    """One run: every metric with its interval and, of those that went on, the difference.

    Differences to the supervised adapter are ``gain_METRIC``, their intervals ``range_METRIC``.
    """
    found, options = values[name], {"resamples": config.resamples, "seed": config.seed}
    row: Row = {"run": name}
    for metric, span in intervals(found, None, **options).items():
        row |= {metric: float(found[metric].mean()), f"interval_{metric}": span}
    if name != START:
        for pair in compare(values[START], found, None, **options):
            row[f"gain_{pair.metric}"] = pair.difference
            row[f"range_{pair.metric}"] = list(pair.interval)
    return row


def figures(rows: list[Row]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics named ``RUN_METRIC`` and ``RUN_minus_supervised_METRIC``, and their intervals."""
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}
    for row in rows:
        for prefix, of, between in (("", "", "interval_"), (f"minus_{START}_", "gain_", "range_")):
            for metric in (key.removeprefix(between) for key in row if key.startswith(between)):
                name = f"{row['run']}_{prefix}{metric}"
                metrics[name], spans[name] = row[f"{of}{metric}"], row[f"{between}{metric}"]
    return metrics, spans
