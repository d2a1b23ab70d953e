"""``llmrec bench tune``: what LoRA, QLoRA and full fine-tuning make of one base.

    llmrec bench tune eval/lora-demo.yaml --results eval/results/lora-demo.json

A base is trained without the newest part of a dataset (:mod:`llmrec.data.cohorts`): without the
newest users, or without all events since a time. Then every run of the recipe fine-tunes
that base on the newest part's training events, as ``llmrec tune`` does, in a process of its own. A
run may name several learning rates: the best on the newest part's validation events is kept, and
test events are used for nothing but the last measurement. Adapters are measured as they are
served: on the base in full precision.

A recipe names the recipe that the data and the base come from::

    name: lora-demo
    source: training/demo.yaml     # its demo_shop, ingest and embed, and one of its models
    model: atomic
    tune: {loop: {...}, ...}       # settings of llmrec tune that all runs share
    runs:
      lora-r8: {method: lora, rank: 8, learning_rates: [1e-3, 3e-3]}
      full: {method: full, learning_rates: [1e-4, 3e-4]}

The run's folder, ``runs/NAME`` by default: ``dataset/ features/ cohorts/ base/ tune/RUN/``. All of
it is found again when the command is run again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.recipe_runs import (
    TuningBenchConfig,
    open_recipe,
    run_stages,
    training_counts,
    tune_apart,
)
from llmrec.bench.recommenders import load_recommender, load_tuned
from llmrec.bench.tune_report import write_tuning_report
from llmrec.config import build
from llmrec.data import cohorts
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.metrics.bootstrap import bootstrap_means, intervals
from llmrec.metrics.measure import evaluate, train_counts
from llmrec.metrics.results import read_result, write_result
from llmrec.recommender import ListRecommender, Scorer
from llmrec.stage import Manifest, read_manifest
from llmrec.training.next_item import run as train
from llmrec.training.tune.settings import TuneConfig

Run = dict[str, Any]
Values = dict[str, np.ndarray]  # metric to float64 [cases]


@dataclass(frozen=True, kw_only=True)
class TuneBenchConfig(TuningBenchConfig):
    """A recipe of this benchmark.

    Attributes:
        runs: settings of ``llmrec tune`` by run, and ``learning_rates`` to choose from.
        tune: settings that all runs share.
        newest: share of the users, or of the events, that the base has not seen.
        by: ``users`` or ``time``.
    """

    runs: dict[str, Any]
    tune: dict[str, Any] = field(default_factory=dict)
    newest: float = 0.2
    by: cohorts.By = "users"

    def __post_init__(self) -> None:
        for name in [self.name, *self.runs]:
            if not re.fullmatch(r"[\w-][\w.-]*", str(name)):
                raise ConfigError(f"{name!r} names a folder: use letters, digits, '_', '-' and '.'")
        if not self.runs:
            raise ConfigError("runs: name at least one")
        for name in self.runs:
            for rate in self.rates(name):
                build(TuneConfig, self.settings(name, rate), f"runs.{name}")

    def rates(self, run: str) -> list[float]:
        """Learning rates that a run chooses from.

        Raises:
            ConfigError: if there is none.
        """
        settings = _mapping(self.runs[run], f"runs.{run}")
        rates = settings.get("learning_rates")
        if not isinstance(rates, list) or not rates:
            raise ConfigError(f"runs.{run}.learning_rates: name at least one")
        return [float(rate) for rate in rates]

    def settings(self, run: str, rate: float) -> Run:
        """What ``llmrec tune`` is given for one run and learning rate."""
        own = {k: v for k, v in self.runs[run].items() if k != "learning_rates"}
        loop = _mapping(self.tune.get("loop", {}), "tune.loop")
        loop = loop | _mapping(own.get("loop", {}), f"runs.{run}.loop") | {"learning_rate": rate}
        return self.tune | own | {"loop": loop}


def run(recipe: Path, /, *, out: Path | None = None, results: Path | None = None) -> Path:
    """Compare LoRA and QLoRA with full fine-tuning of one base; a killed run goes on.

    Args:
        recipe: YAML file of :class:`TuneBenchConfig`.
        out: the run's folder; by default runs/NAME.
        results: the result file; by default NAME.json in ``out``.

    Raises:
        ConfigError, DataError: where recipe and data do not fit together.
        LlmrecError: if a run failed; its own message is above.
    """
    config, out, results = open_recipe(TuneBenchConfig, recipe, out, results)
    started = time.monotonic()
    base, older, newest = prepare(config, str(recipe), out)
    groups = (Dataset(newest), Dataset(older))
    measured = {"base": measure(load_recommender(base), *groups)}
    rows: list[Run] = [{"run": "base", "method": "base"}]
    for name in config.runs:
        tuned, rate = tune_best(config, name, base, newest, out / "tune")
        manifest = read_manifest(tuned)
        rows.append(
            {"run": name, "method": method_of(manifest), "learning_rate": rate}
            | training_counts(manifest)
            | {"validation_ndcg@10": manifest.counts["validation_ndcg"]}
        )
        measured[name] = measure(load_tuned(tuned), *groups)
    metrics, intervals = figures(rows, measured, config.resamples)
    write_result(
        results,
        name=config.name,
        dataset=config.source.stem,
        split="test, the newest part",
        model=f"{read_manifest(base).config['base']}, {config.model}",
        metrics=metrics,
        intervals=intervals,
        seed=config.seed,
        seconds=time.monotonic() - started,
        rows=rows,
        settings={
            "tune": config.tune,
            "runs": config.runs,
            "newest": config.newest,
            "by": config.by,
        },
        counts={
            cohort: read_manifest(folder).counts
            for cohort, folder in (("older", older), ("newest", newest))
        },
        base_training=read_manifest(base).counts,
    )
    write_tuning_report(read_result(results), results.parent)
    return results


def prepare(config: TuneBenchConfig, where: str, out: Path) -> tuple[Path, Path, Path]:
    """The base and the two cohorts' datasets, made where they are not there."""
    recipe = run_stages(config, ("index",), where, out)
    older, newest = cohorts.run(out / "dataset", out / "cohorts", config.newest, config.by)
    settings = build(
        train.TrainConfig,
        recipe["models"][config.model].get("train", {}),
        f"{config.source}: models.{config.model}",
    )
    features = out / "features" if recipe.get("embed") is not None else None
    ids = out / "models" / config.model / "item_ids"
    base = train.run(settings, older, out / "base", ids, features, config.seed)
    return base, older, newest


def tune_best(
    config: TuneBenchConfig, name: str, base: Path, newest: Path, folder: Path
) -> tuple[Path, float]:
    """Fine-tune with every learning rate of a run.

    Returns:
        the folder that is best on validation, and its learning rate.
    """
    found = []
    for rate in config.rates(name):
        out = folder / f"{name}@{rate:g}"
        tune_apart(config.settings(name, rate), out, config.seed, base, newest)
        found.append((read_manifest(out).counts["validation_ndcg"], out, rate))
    _, best, rate = max(found, key=lambda one: one[0])
    return best, rate


def method_of(manifest: Manifest) -> str:
    """What a run compares as; one that trained the rows of items first is a method of its own."""
    method: str = manifest.config["method"]
    return f"rows+{method}" if manifest.config["align"]["steps"] else method


def measure(recommender: Scorer | ListRecommender, newest: Dataset, older: Dataset) -> Values:
    """NDCG@10 and Recall@10 of test cases, the history removed: float64 ``[cases]`` each.

    Those of the older part, what the model has not forgotten, are named ``older_METRIC``.
    """
    values: Values = {}
    for prefix, dataset in (("", newest), ("older_", older)):
        counts = train_counts(dataset.train_histories(), dataset.n_items)
        found = evaluate(
            recommender, dataset.cases("test"), counts, ks=(10,), list_length=10, with_history=False
        )
        cases = found.values(found.primary)
        values |= {f"{prefix}{metric}": cases[metric] for metric in ("ndcg@10", "recall@10")}
    return values


def figures(
    rows: list[Run], measured: Mapping[str, Values], resamples: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics and intervals; fills every row's own.

    The headline of a method is its run that is best on validation.
    """
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}
    best: dict[str, Run] = {}
    for row in rows:
        values = measured[row["run"]]
        row |= {metric: float(per_case.mean()) for metric, per_case in values.items()}
        newest = {metric: values[metric] for metric in ("ndcg@10", "recall@10")}
        row["interval"] = intervals(newest, None, resamples)["ndcg@10"]
        known = best.setdefault(row["method"], row)
        if row.get("validation_ndcg@10", 0.0) > known.get("validation_ndcg@10", 0.0):
            best[row["method"]] = row
    for method, row in best.items():
        for metric in ("ndcg@10", "recall@10", "older_ndcg@10"):
            metrics[f"{method}_{metric}"] = row[metric]
        spans[f"{method}_ndcg@10"] = row["interval"]
    if "full" not in best:
        return metrics, spans
    full = best.pop("full")
    for method, row in best.items():
        if full["ndcg@10"] > 0:
            name = f"{method}_over_full_ndcg@10"
            metrics[name] = row["ndcg@10"] / full["ndcg@10"]
            pair = [measured[one["run"]]["ndcg@10"] for one in (row, full)]
            draws = bootstrap_means(np.stack(pair, axis=1), None, resamples)
            draws = draws[draws[:, 1] > 0]  # of very few users, all may be missed
            spans[name] = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975]).tolist()
        if method != "base":
            trained = row["trained_parameters"] + row.get("aligned_parameters", 0)
            metrics[f"{method}_over_full_parameters"] = trained / full["trained_parameters"]
    return metrics, spans


def _mapping(value: Any, where: str) -> Run:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected settings, got {json.dumps(value, default=str)}")
    return value
