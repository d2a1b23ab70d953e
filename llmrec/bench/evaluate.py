"""``llmrec evaluate``: measure a bundle, a model or a baseline; compare runs; write the page.

    llmrec evaluate --dataset DIR --model popularity|item-knn|DIR [--split test] [--out DIR]
    llmrec evaluate compare A.cases.parquet B.cases.parquet
    llmrec evaluate report RESULT.json ... --out DIR

The output folder holds ``NAME.json`` (every figure, with intervals, slices, the command
and the machine) and ``NAME.cases.parquet`` (the rank of every case, for comparisons).
The figures under ``metrics`` are with the history removed from the ranking; those under
``metrics_with_history`` rank the whole catalogue.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrec.config import as_dict, build
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.metrics.measure import Evaluation, evaluate, train_counts
from llmrec.metrics.results import CASES_SUFFIX, read_result, write_cases, write_result
from llmrec.metrics.summary import intervals_of, metrics_of, slices_of
from llmrec.recommender import ListRecommender, Scorer
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, run_stage

__all__ = ["BASELINES", "EvaluateConfig", "evaluate", "main", "run", "train_counts"]

BASELINES = ("popularity", "item-knn")
_HEADLINES = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "coverage@10", "invalid_rate")


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of an evaluation.

    Attributes:
        split: which events are the targets.
        ks: cut-offs of the metrics.
        list_length: items asked for; a target beyond is not found by a recommender that
            gives lists only.
        batch_size: users asked at once.
        beams: beam width of a generative model, at least ``list_length``.
        normalise: over what its tokens' probabilities add up to one, ``children`` or ``level``.
        with_history: also measure without removing the history from the ranking.
        resamples: bootstrap resamples behind the 95% intervals.
        name: of the result file; empty takes the output folder's name.
    """

    split: Literal["validation", "test"] = "test"
    ks: list[int] = field(default_factory=lambda: [5, 10, 20])
    list_length: int = 50
    batch_size: int = 512
    beams: int = 50
    normalise: Literal["children", "level"] = "children"
    with_history: bool = True
    resamples: int = 1000
    name: str = ""

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or max(self.ks) > self.list_length:
            raise ConfigError(f"ks: {self.ks} must lie in 1..list_length ({self.list_length})")
        if self.beams < self.list_length:
            raise ConfigError(
                f"beams: {self.beams} give no list of {self.list_length}; raise it to list_length"
            )
        if self.batch_size < 1 or self.resamples < 1:
            raise ConfigError("batch_size and resamples: must be at least 1")
        if Path(self.name).name != self.name:
            raise ConfigError(f"name: {self.name!r} must be a plain file name, without folders")


def run(config: EvaluateConfig, dataset: Path, model: str | Path, out: Path, seed: int = 0) -> Path:
    """Evaluate, or find it done; a killed run goes on where it was.

    Args:
        dataset: folder of the ingest stage.
        model: a name of :data:`BASELINES`, or the folder of a model or a bundle.
        out: the run's folder.
        seed: of the bootstrap.

    Raises:
        ConfigError: for a model that is neither.
    """
    inputs = {"dataset": folder_hash(dataset)}
    described: dict[str, Any] = as_dict(config) | {"model": str(model)}
    if str(model) not in BASELINES:
        if not Path(model).is_dir():
            raise ConfigError(
                f"--model {model}: neither {' nor '.join(BASELINES)} nor a folder; "
                "give a trained model or a bundle"
            )
        inputs["model"] = folder_hash(model)
    manifest = Manifest("evaluate", described, inputs, seed=seed)
    name = config.name or Path(out).name

    def work(stage: StageRun) -> None:
        _evaluate(config, Dataset(dataset), model, name, stage, seed)

    return run_stage(out, manifest, work, resume=True)


def load(
    model: str | Path,
    dataset: Dataset,
    beams: int = 50,
    normalise: Literal["children", "level"] = "children",
) -> Scorer | ListRecommender:
    """A baseline fitted on the training events, or what a folder holds."""
    if str(model) == "popularity":
        from llmrec.ranking.retrieval.popularity import Popularity

        return Popularity().fit(dataset.train_histories(), dataset.n_items)
    if str(model) == "item-knn":
        from llmrec.ranking.retrieval.item_knn import ItemKNN

        return ItemKNN().fit(dataset.train_histories(), dataset.n_items)
    from llmrec.bench.recommenders import load_recommender

    return load_recommender(model, beams=beams, normalise=normalise)


def _evaluate(
    config: EvaluateConfig,
    dataset: Dataset,
    model: str | Path,
    name: str,
    stage: StageRun,
    seed: int,
) -> None:
    checkpoint = stage.folder / "batches"
    evaluation = evaluate(
        load(model, dataset, config.beams, config.normalise),
        dataset.cases(config.split),
        train_counts(dataset.train_histories(), dataset.n_items),
        ks=config.ks,
        list_length=config.list_length,
        batch_size=config.batch_size,
        with_history=config.with_history,
        progress=True,
        checkpoint=checkpoint,
    )
    title = _dataset_name(dataset)
    write_cases(stage.folder / f"{name}{CASES_SUFFIX}", evaluation, name, title, config.split)
    write_result(
        stage.folder / f"{name}.json",
        name=name,
        dataset=title,
        split=config.split,
        model=str(model),
        seed=seed,
        seconds=evaluation.seconds,
        **figures(evaluation, config.resamples, seed),
        catalogue=evaluation.n_items,
        settings=as_dict(config),
        dataset_hash=folder_hash(dataset.folder),
        training=_training(model),
    )
    stage.counts |= {"cases": len(evaluation.targets), "items": evaluation.n_items}
    shutil.rmtree(checkpoint)


def _training(model: str | Path) -> dict[str, Any]:
    """What training took (seconds, epochs, parameters), as the model's manifest has it."""
    if str(model) in BASELINES:
        return {}
    folder = Path(model) / "model" if read_manifest(model).stage == "bundle" else model
    return read_manifest(folder).counts


def figures(evaluation: Evaluation, resamples: int, seed: int) -> dict[str, Any]:
    """The parts of a result file that an evaluation decides."""
    removed, both = evaluation.removed, evaluation.with_history
    parts: dict[str, Any] = {
        "metrics": metrics_of(evaluation, removed),
        "intervals": intervals_of(evaluation, removed, resamples, seed),
        "history_removed": True,
    }
    if both is not None:
        parts["metrics_with_history"] = metrics_of(evaluation, both)
        parts["intervals_with_history"] = intervals_of(evaluation, both, resamples, seed)
    parts["slices"] = slices_of(evaluation, removed, resamples, seed)
    parts["cases"] = len(evaluation.targets)
    parts["rank_limit"] = evaluation.rank_limit
    return parts


def _dataset_name(dataset: Dataset) -> str:
    folder = dataset.folder.resolve()  # a recipe's dataset stands in ``runs/NAME/dataset``
    return folder.parent.name if folder.name == "dataset" else folder.name


def main(argv: list[str]) -> None:
    """``llmrec evaluate``."""
    if argv[:1] == ["compare"]:
        _compare_main(argv[1:])
    elif argv[:1] == ["report"]:
        _report_main(argv[1:])
    else:
        _evaluate_main(argv)


def _evaluate_main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="llmrec evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", type=Path, required=True, help="folder of the ingest stage")
    add("--model", required=True, help="popularity, item-knn, or the folder of a model or bundle")
    add("--split", default="test", help="validation or test (default)")
    add("--out", type=Path, help="the run's folder (default: runs/evaluation/NAME)")
    add("--name", help="of the result (default: DATASET-MODEL)")
    add("--ks", type=int, nargs="+", default=[5, 10, 20], help="cut-offs of the metrics")
    add("--list-length", type=int, default=50, help="items asked for (default: 50)")
    add("--batch-size", type=int, default=512, help="users asked at once (default: 512)")
    add("--beams", type=int, default=50, help="beam width of a generative model (default: 50)")
    add("--normalise", default="children", help="children (default) or level, of item scores")
    add("--resamples", type=int, default=1000, help="bootstrap resamples (default: 1000)")
    add("--history-removed-only", action="store_true", help="skip the other protocol")
    add("--results", type=Path, help="also put the result file into this folder")
    add("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    values = {
        "split": arguments.split,
        "ks": arguments.ks,
        "list_length": arguments.list_length,
        "batch_size": arguments.batch_size,
        "beams": arguments.beams,
        "normalise": arguments.normalise,
        "resamples": arguments.resamples,
        "with_history": not arguments.history_removed_only,
        "name": arguments.name or _default_name(arguments.dataset, arguments.model, arguments.out),
    }
    config = build(EvaluateConfig, values, "llmrec evaluate")
    out = arguments.out or Path("runs") / "evaluation" / config.name
    run(config, arguments.dataset, arguments.model, out, arguments.seed)
    path = out / f"{config.name}.json"
    print(_summary(read_result(path)))
    if arguments.results is not None:
        arguments.results.mkdir(parents=True, exist_ok=True)
        print(shutil.copyfile(path, arguments.results / path.name))


def _default_name(dataset: Path, model: str, out: Path | None) -> str:
    if out is not None:
        return out.resolve().name
    short = "itemknn" if model == "item-knn" else Path(model).resolve().name
    return f"{dataset.resolve().name}-{short}"


def _summary(result: dict[str, Any]) -> str:
    lines = [f"{result['name']}: {result['cases']} cases of {result['dataset']}/{result['split']}"]
    lines.append(f"{'':<14}{'history removed':>34}{'with history':>16}")
    other = result.get("metrics_with_history", {})
    for metric in _HEADLINES:
        if metric not in result["metrics"]:
            continue
        span = result["intervals"].get(metric)
        between = f"[{span[0]:.4f}, {span[1]:.4f}]" if span else ""
        beside = f"{other[metric]:.4f}" if metric in other else ""
        lines.append(f"{metric:<14}{result['metrics'][metric]:>14.4f}{between:>20}{beside:>16}")
    return "\n".join(lines)


def _compare_main(argv: list[str]) -> None:
    from llmrec.bench.evaluation_compare import compare_files

    parser = argparse.ArgumentParser(
        prog="llmrec evaluate compare",
        description="Is run B better than run A? Paired by case, history removed.",
    )
    parser.add_argument("a", type=Path, help="A.cases.parquet")
    parser.add_argument("b", type=Path, help="B.cases.parquet")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    print(compare_files(arguments.a, arguments.b, arguments.seed))


def _report_main(argv: list[str]) -> None:
    from llmrec.bench.evaluation_report import write_report

    parser = argparse.ArgumentParser(
        prog="llmrec evaluate report", description="A page and plots from result files."
    )
    parser.add_argument("results", type=Path, nargs="+", help="RESULT.json ...")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    parser.add_argument(
        "--cases",
        type=Path,
        nargs="*",
        default=[],
        help="folders with NAME.cases.parquet (default: beside each result)",
    )
    arguments = parser.parse_args(argv)
    print(write_report(arguments.results, arguments.out, arguments.cases))
