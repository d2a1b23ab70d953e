"""``llmrec bench fusion``: what fusing an item's modalities is worth.

    llmrec bench fusion --dataset DIR --features DIR --media DIR --out eval/results/fusion-NAME.json

See :mod:`llmrec.bench.fusion_compare` for what is compared and how nothing leaks, and
:mod:`llmrec.content.fusion.retrieval` for the measure. Every encoder is trained ``--repeats``
times, from other seeds; a query's value is the mean over them. Intervals are of resampled queries;
``user_interval`` of resampled people. A page and a plot are written beside the result. Trainings
are kept in ``--work``, and a command that was killed goes on there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.config import as_dict
from llmrec.content.fusion.modalities import read_modalities
from llmrec.content.fusion.run import read_config
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
class Settings:
    """What the flags say.

    Attributes:
        repeats: trainings of each encoder.
        draws: random choices of what is missing, a training.
        missing: chance of a modality to be missing.
        test_users: share of the people who are measured.
        cold_items: share of the items hidden from the behaviour that trains.
        resamples: behind the 95% intervals.
        seed: of everything.
        learning_rates: each encoder is trained with each, and the one that is best on the people
            who choose the epoch is kept; empty for the configuration's.
    """

    repeats: int = 1
    draws: int = 5
    missing: float = 0.5
    test_users: float = 0.2
    cold_items: float = 0.2
    resamples: int = 2000
    seed: int = 0
    learning_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("repeats", "draws", "resamples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name}: must be 1 or more, got {getattr(self, name)}")
        if any(not rate > 0 for rate in self.learning_rates):
            raise ConfigError(f"--learning-rates: must be above 0, got {self.learning_rates}")
        for name in ("missing", "test_users", "cold_items"):
            if not 0 < getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: must be in (0, 1), got {getattr(self, name)}")


def run(
    config: FusionConfig,
    settings: Settings,
    dataset: Path,
    features: Path,
    media: Path,
    out: Path,
    work: Path,
) -> Path:
    """Train, measure and write the result file ``out``.

    Raises:
        ConfigError, DataError: where settings, features and dataset do not fit together.
    """
    from llmrec.bench.fusion_compare import counts, make_task

    started = time.monotonic()
    opened = Dataset(dataset)
    task = make_task(
        opened,
        read_modalities(features, media, opened.n_items),
        config,
        test_users=settings.test_users,
        cold_items=settings.cold_items,
        seed=settings.seed,
    )
    inputs = {str(f): folder_hash(f) for f in (dataset, features, media)}
    shares = {"test_users": settings.test_users, "cold_items": settings.cold_items}
    stamp = Manifest("bench-fusion", as_dict(config) | shares, inputs, seed=settings.seed)
    folder = work / stamp.fingerprint[:16]
    answers = [_one(task, config, settings, n, folder) for n in range(settings.repeats)]
    metrics, spans = figures(task, answers, settings)
    return write_result(
        out,
        name=out.stem,
        dataset=dataset.parent.name if dataset.name == "dataset" else dataset.name,
        split=f"test people ({settings.test_users:.0%}), item to item",
        model=f"cross-attention over {', '.join(task.modalities.names)}",
        metrics=metrics,
        intervals=spans,
        seed=settings.seed,
        seconds=time.monotonic() - started,
        rows=_rows(metrics, spans),
        counts=counts(task),
        settings=as_dict(config) | vars(settings),
        trainings=[answer.log for answer in answers],
    )


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


def _one(
    task: Task, config: FusionConfig, settings: Settings, repeat: int, folder: Path
) -> Answers:
    from llmrec.bench.fusion_compare import TRAINED, compare_missing, compare_whole, train_encoder

    seed = settings.seed + repeat
    trained: dict[str, Trained] = {}
    rates: dict[str, float] = {}
    for name in TRAINED:
        tries = {}
        for rate in settings.learning_rates or (config.train.learning_rate,):
            tried = replace(config, train=replace(config.train, learning_rate=rate))
            place = folder / f"{name}-{seed}-{rate:g}"
            tries[rate] = train_encoder(name, task, tried, seed=seed, folder=place)
        rates[name] = max(tries, key=lambda rate: tries[rate].progress.best_score)
        trained[name] = tries[rates[name]]
    found = compare_whole(task, trained)
    return Answers(
        {name: one.by_query() for name, one in found.items()},
        {name: one.where(task.cold).by_query() for name, one in found.items()},
        compare_missing(task, trained, share=settings.missing, draws=settings.draws, seed=seed),
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
    task: Task, answers: list[Answers], settings: Settings
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics and their 95% intervals."""
    from llmrec.bench.fusion_compare import mean_values

    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}

    def note(prefix: str, values: Values) -> None:
        found = intervals(values, None, settings.resamples, settings.seed)
        for metric, value in values.items():
            metrics[f"{prefix}_{metric}"] = float(value.mean())
            spans[f"{prefix}_{metric}"] = found[metric]

    def against(prefix: str, ways: dict[str, Values], people: np.ndarray | None = None) -> None:
        for rival in RIVALS:
            pairs = {m: ways["fused"][m] - ways[rival][m] for m in METRICS}
            found = intervals(pairs, people, settings.resamples, settings.seed)
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
            metrics[name], spans[name] = _loss(whole[metric], values[metric], settings)
    return metrics, spans


def _loss(whole: np.ndarray, missing: np.ndarray, settings: Settings) -> tuple[float, list[float]]:
    """Share of the whole catalogue's figure that is lost, and its interval."""
    means = bootstrap_means(
        np.column_stack([whole, missing]), None, settings.resamples, settings.seed
    )
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


def main(argv: list[str]) -> None:
    """The command line of ``llmrec bench fusion``."""
    parser = argparse.ArgumentParser(
        prog="llmrec bench fusion",
        description="What fusing an item's modalities is worth, against text alone and zeros.",
    )
    defaults = Settings()
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--features", type=Path, required=True, help="folder of llmrec embed")
    parser.add_argument("--media", type=Path, required=True, help="folder of llmrec embed media")
    parser.add_argument("--out", type=Path, required=True, help="result file, NAME.json")
    parser.add_argument("--work", type=Path, help="folder of the trainings (default: runs/NAME)")
    parser.add_argument("--config", type=Path, help="YAML file: encoder: {...}, train: {...}")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--min-rating", type=float, help="a lower rating is not a liking")
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--learning-rates", type=float, nargs="+", default=[], help="to choose from, per encoder"
    )
    for name, value in vars(defaults).items():
        if name == "learning_rates":
            continue
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, help=f"default: {value}")
    args = parser.parse_args(argv)
    if args.out.suffix != ".json":
        raise ConfigError(f"--out: {args.out} must end in .json")
    from llmrec.bench.fusion_report import write_fusion_report

    given = {name: getattr(args, name) for name in vars(defaults)}
    settings = Settings(**given | {"learning_rates": tuple(args.learning_rates)})
    config = read_config(args.config, "llmrec bench fusion", args)
    work = args.work or Path("runs") / args.out.stem
    run(config, settings, args.dataset, args.features, args.media, args.out, work)
    page = write_fusion_report(read_result(args.out), args.out.parent)
    print(page.read_text(encoding="utf-8"))
