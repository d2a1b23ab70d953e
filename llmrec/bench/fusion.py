"""``llmrec bench fusion``: what fusing an item's modalities is worth.

    llmrec bench fusion eval/fusion.yaml \\
        --dataset DIR --features DIR --media DIR --out eval/results/fusion-NAME.json

See :mod:`llmrec.bench.fusion_compare` for what is compared and how nothing leaks, and
:mod:`llmrec.content.fusion.retrieval` for the measure. Every encoder is trained ``--repeats``
times, from other seeds; a query's value is the mean over them. Intervals are of resampled queries;
those named ``user_...`` of resampled users. A page and a plot are written beside the result.
Trainings are kept in ``--work``, and a command that was killed goes on there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.bench.checks import result_file
from llmrec.config import as_dict, check_ranges
from llmrec.content.fusion.modalities import read_modalities
from llmrec.content.fusion.settings import FusionConfig
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.files import locked
from llmrec.metrics.bootstrap import bootstrap_means, intervals
from llmrec.metrics.results import read_result, write_result
from llmrec.stage import Manifest, folder_hash

if TYPE_CHECKING:
    from llmrec.bench.fusion_compare import Task, Trained, Values

METRICS = ("recall@10", "ndcg@10")
RIVALS = ("text", "text_raw", "concat_plain", "concat", "concat_raw")


@dataclass(frozen=True)
class FusionBenchConfig(FusionConfig):
    """Settings of ``llmrec bench fusion``: those of ``llmrec train fusion``, and of the comparison.

    Attributes:
        repeats: trainings of each encoder.
        draws: random choices of which modalities are missing, a training.
        missing: chance of a modality to be missing.
        test_users: share of the users that are measured.
        cold_items: share of the items left out of the behaviour in training.
        resamples: behind the 95% intervals.
        learning_rates: each encoder is trained with each, and the one that is best on the users
            that choose the epoch is kept; empty for the configuration's.
    """

    repeats: int = 1
    draws: int = 5
    missing: float = 0.5
    test_users: float = 0.2
    cold_items: float = 0.2
    resamples: int = 2000
    learning_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "repeats", "draws", "resamples")
        if any(not rate > 0 for rate in self.learning_rates):
            raise ConfigError(f"--learning-rates: must be above 0, got {self.learning_rates}")
        check_ranges(self, "(0, 1)", "missing", "test_users", "cold_items")


def run(
    config: FusionBenchConfig,
    dataset: Path,
    features: Path,
    media: Path,
    out: Path,
    *,
    work: Path | None = None,
    seed: int = 0,
) -> Path:
    """Compare fused item vectors with text alone and with a concatenation; a killed run goes on.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        features: folder of ``llmrec embed``.
        media: folder of ``llmrec embed media``.
        out: the result file, NAME.json; page and plot are written beside it.
        work: folder of the trainings; by default runs/NAME.
        seed: of everything.

    Raises:
        ConfigError, DataError: where settings, features and dataset do not fit together.
    """
    from llmrec.bench.fusion_compare import counts, make_task
    from llmrec.bench.fusion_report import write_fusion_report

    result_file(out)
    started = time.monotonic()
    opened = Dataset(dataset)
    modalities = read_modalities(features, media, opened.n_items)
    task = make_task(opened, modalities, config, config.test_users, config.cold_items, seed)
    inputs = {str(f): folder_hash(f) for f in (dataset, features, media)}
    settings = as_dict(config)
    kept = ("encoder", "train", "test_users", "cold_items")  # what trainings depend on
    stamp = Manifest("bench-fusion", {key: settings[key] for key in kept}, inputs, seed=seed)
    folder = (work or Path("runs") / out.stem) / stamp.fingerprint[:16]
    with locked(folder):
        repeats = [_answers(task, config, seed + n, folder) for n in range(config.repeats)]
    metrics, spans = figures(task, [answers for answers, _ in repeats], config, seed)
    write_result(
        out,
        dataset=dataset.parent.name if dataset.name == "dataset" else dataset.name,
        split=f"test users ({config.test_users:.0%}), item to item",
        model=f"cross-attention over {', '.join(task.modalities.names)}",
        metrics=metrics,
        intervals=spans,
        seed=seed,
        seconds=time.monotonic() - started,
        rows=_rows(metrics, spans),
        counts=counts(task),
        settings=settings,
        trainings=[log for _, log in repeats],
    )
    write_fusion_report(read_result(out), out.parent)
    return out


def _answers(
    task: Task, config: FusionBenchConfig, seed: int, folder: Path
) -> tuple[dict[str, dict[str, Values]], dict[str, dict[str, Any]]]:
    """One repeat's answers, and what is worth knowing of each encoder's training.

    The answers are ``whole``, ``cold`` and ``missing``, way -> metric -> float64 ``[queries]``, and
    ``by_user``, way -> metric -> float64 ``[cases]``, of the same cases as ``task.test``.
    """
    from llmrec.bench.fusion_compare import TRAINED, compare_missing, compare_whole, train_encoder

    trained: dict[str, Trained] = {}
    log: dict[str, dict[str, Any]] = {}
    for name in TRAINED:
        tries = {}
        for rate in config.learning_rates or (config.train.learning_rate,):
            tried = replace(config, train=replace(config.train, learning_rate=rate))
            place = folder / f"{name}-{seed}-{rate:g}"
            tries[rate] = train_encoder(name, task, tried, seed, place)
        rate, best = max(tries.items(), key=lambda one: one[1].progress.best_score)
        trained[name] = best
        log[name] = {
            "learning_rate": rate,
            "parameters": sum(p.numel() for p in best.encoder.parameters()),
            "epochs": best.progress.epoch,
            "best_epoch": best.progress.best_epoch,
            "validation_ndcg@10": best.progress.best_score,
        }
    found = compare_whole(task, trained)
    answers = {
        "whole": {name: one.by_query() for name, one in found.items()},
        "cold": {name: one.where(task.cold).by_query() for name, one in found.items()},
        "missing": compare_missing(task, trained, config.missing, config.draws, seed),
        "by_user": {name: one.values for name, one in found.items()},
    }
    return answers, log


def figures(
    task: Task, answers: list[dict[str, dict[str, Values]]], config: FusionBenchConfig, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics and their 95% intervals."""
    from llmrec.bench.fusion_compare import mean_values

    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}

    def note(name: str, values: Values, users: np.ndarray | None = None) -> None:
        found = intervals(values, users, config.resamples, seed)
        for metric, value in values.items():
            metrics[f"{name}_{metric}"] = float(value.mean())
            spans[f"{name}_{metric}"] = found[metric]

    means = {
        part: {way: mean_values([one[part][way] for one in answers]) for way in ways}
        for part, ways in answers[0].items()
    }
    for prefix, part in (("", "whole"), ("cold_", "cold"), ("missing_", "missing")):
        for way, values in means[part].items():
            note(f"{prefix}{way}", values)
    for prefix, part, users in (
        ("fused", "whole", None),
        ("cold_fused", "cold", None),
        ("user_fused", "by_user", task.test.users),
    ):
        ways = means[part]
        for rival in RIVALS:
            pairs = {metric: ways["fused"][metric] - ways[rival][metric] for metric in METRICS}
            note(f"{prefix}_minus_{rival}", pairs, users)
    for way, values in means["missing"].items():
        whole = means["whole"][way.removesuffix("_zeros")]
        for metric in METRICS:
            name, parts = f"missing_{way}_loss_{metric}", (whole[metric], values[metric])
            metrics[name], spans[name] = _loss(*parts, config.resamples, seed)
    return metrics, spans


def _loss(
    whole: np.ndarray, missing: np.ndarray, resamples: int, seed: int
) -> tuple[float, list[float]]:
    """Share of the whole catalogue's figure that is lost, and its interval."""
    means = bootstrap_means(np.column_stack([whole, missing]), None, resamples, seed)
    means = means[means[:, 0] > 0]  # of very few queries, all may be missed
    if not whole.any():
        return 0.0, [0.0, 0.0]
    low, high = np.quantile(1 - means[:, 1] / means[:, 0], [0.025, 0.975])
    return float(1 - missing.mean() / whole.mean()), [float(low), float(high)]


def _rows(metrics: dict[str, float], spans: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row a way, for the page."""
    columns = {
        "recall@10": "{}_recall@10",
        "ndcg@10": "{}_ndcg@10",
        "cold_recall@10": "cold_{}_recall@10",
        "cold_ndcg@10": "cold_{}_ndcg@10",
        "missing_recall@10": "missing_{}_recall@10",
        "loss": "missing_{}_loss_recall@10",
    }
    ways = ("text_raw", "concat_raw", "text", "concat_plain", "concat", "fused", "fused_zeros")
    return [
        {"way": way}
        | {column: metrics.get(key.format(way)) for column, key in columns.items()}
        | {f"{column}_span": spans.get(key.format(way)) for column, key in columns.items()}
        for way in ways
    ]
