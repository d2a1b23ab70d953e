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

from llmrec.bench.checks import check_at_least, result_file
from llmrec.config import as_dict
from llmrec.content.fusion.modalities import read_modalities
from llmrec.content.fusion.settings import FusionConfig
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
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
        check_at_least(self, 1, "repeats", "draws", "resamples")
        if any(not rate > 0 for rate in self.learning_rates):
            raise ConfigError(f"--learning-rates: must be above 0, got {self.learning_rates}")
        for name in ("missing", "test_users", "cold_items"):
            if not 0 < getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: must be in (0, 1), got {getattr(self, name)}")


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

    result_file(out, out, "--out")
    started = time.monotonic()
    opened = Dataset(dataset)
    task = make_task(
        opened,
        read_modalities(features, media, opened.n_items),
        config,
        test_users=config.test_users,
        cold_items=config.cold_items,
        seed=seed,
    )
    inputs = {str(f): folder_hash(f) for f in (dataset, features, media)}
    settings = as_dict(config)
    kept = ("encoder", "train", "test_users", "cold_items")  # what trainings depend on
    stamp = Manifest("bench-fusion", {key: settings[key] for key in kept}, inputs, seed=seed)
    folder = (work or Path("runs") / out.stem) / stamp.fingerprint[:16]
    answers = [_one(task, config, seed + n, folder) for n in range(config.repeats)]
    metrics, spans = figures(task, answers, config, seed)
    write_result(
        out,
        name=out.stem,
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
        trainings=[answer.log for answer in answers],
    )
    write_fusion_report(read_result(out), out.parent)
    return out


@dataclass(frozen=True, eq=False)
class Answers:
    """One repeat's answers.

    Attributes:
        whole, cold, missing: way -> metric -> float64 ``[queries]``.
        people: way -> metric -> float64 ``[cases]``, of the same cases as ``task.test``.
        log: encoder -> what is worth knowing of its training.
    """

    whole: dict[str, Values]
    cold: dict[str, Values]
    missing: dict[str, Values]
    people: dict[str, Values]
    log: dict[str, dict[str, Any]]


def _one(task: Task, config: FusionBenchConfig, seed: int, folder: Path) -> Answers:
    from llmrec.bench.fusion_compare import TRAINED, compare_missing, compare_whole, train_encoder

    trained: dict[str, Trained] = {}
    rates: dict[str, float] = {}
    for name in TRAINED:
        tries = {}
        for rate in config.learning_rates or (config.train.learning_rate,):
            tried = replace(config, train=replace(config.train, learning_rate=rate))
            place = folder / f"{name}-{seed}-{rate:g}"
            tries[rate] = train_encoder(name, task, tried, seed=seed, folder=place)
        rates[name] = max(tries, key=lambda rate: tries[rate].progress.best_score)
        trained[name] = tries[rates[name]]
    found = compare_whole(task, trained)
    return Answers(
        {name: one.by_query() for name, one in found.items()},
        {name: one.where(task.cold).by_query() for name, one in found.items()},
        compare_missing(task, trained, share=config.missing, draws=config.draws, seed=seed),
        {name: one.values for name, one in found.items()},
        {
            name: {
                "learning_rate": rates[name],
                "parameters": sum(p.numel() for p in one.encoder.parameters()),
                "epochs": one.progress.epoch,
                "best_epoch": one.progress.best_epoch,
                "validation_ndcg@10": one.progress.best_score,
            }
            for name, one in trained.items()
        },
    )


def figures(
    task: Task, answers: list[Answers], config: FusionBenchConfig, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics and their 95% intervals."""
    from llmrec.bench.fusion_compare import mean_values

    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}

    def note(prefix: str, values: Values) -> None:
        found = intervals(values, None, config.resamples, seed)
        for metric, value in values.items():
            metrics[f"{prefix}_{metric}"] = float(value.mean())
            spans[f"{prefix}_{metric}"] = found[metric]

    def against(prefix: str, ways: dict[str, Values], people: np.ndarray | None = None) -> None:
        for rival in RIVALS:
            pairs = {m: ways["fused"][m] - ways[rival][m] for m in METRICS}
            found = intervals(pairs, people, config.resamples, seed)
            for metric, difference in pairs.items():
                name = f"{prefix}_minus_{rival}_{metric}"
                metrics[name], spans[name] = float(difference.mean()), found[metric]

    means: dict[str, dict[str, Values]] = {}
    for part in ("whole", "cold", "missing", "people"):
        every = [getattr(answer, part) for answer in answers]
        means[part] = {way: mean_values([one[way] for one in every]) for way in every[0]}
    for way, values in means["whole"].items():
        note(way, values)
    for way, values in means["cold"].items():
        note(f"cold_{way}", values)
    for way, values in means["missing"].items():
        note(f"missing_{way}", values)
    against("fused", means["whole"])
    against("cold_fused", means["cold"])
    against("user_fused", means["people"], task.test.users)
    for way, values in means["missing"].items():
        whole = means["whole"][way.removesuffix("_zeros")]
        for metric in METRICS:
            name = f"missing_{way}_loss_{metric}"
            metrics[name], spans[name] = _loss(
                whole[metric], values[metric], config.resamples, seed
            )
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
    rows = []
    for way in ("text_raw", "concat_raw", "text", "concat_plain", "concat", "fused", "fused_zeros"):
        row: dict[str, Any] = {"way": way}
        for column, key in (
            ("recall@10", f"{way}_recall@10"),
            ("ndcg@10", f"{way}_ndcg@10"),
            ("cold_recall@10", f"cold_{way}_recall@10"),
            ("cold_ndcg@10", f"cold_{way}_ndcg@10"),
            ("missing_recall@10", f"missing_{way}_recall@10"),
            ("loss", f"missing_{way}_loss_recall@10"),
        ):
            row[column], row[f"{column}_span"] = metrics.get(key), spans.get(key)
        rows.append(row)
    return rows
