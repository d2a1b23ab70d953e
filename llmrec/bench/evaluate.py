"""``llmrec evaluate``: measure a bundle, a model or a baseline; compare runs; write the page.

    llmrec evaluate --dataset DIR --model popularity|item-knn|DIR [--split test] [--out DIR]
    llmrec evaluate compare A.cases.parquet B.cases.parquet
    llmrec evaluate report --out DIR RESULT.json ...

The output folder holds ``NAME.json`` (every figure, with intervals, slices, the command
and the machine) and ``NAME.cases.parquet`` (the rank of every case, for comparisons).
The figures under ``metrics`` are with the history removed from the ranking; those under
``metrics_with_history`` rank the whole catalogue.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrec.config import as_dict
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.metrics.measure import Evaluation, evaluate, train_counts
from llmrec.metrics.results import CASES_SUFFIX, read_result, write_cases, write_result
from llmrec.metrics.summary import intervals_of, metrics_of, slices_of
from llmrec.recommender import ListRecommender, Scorer
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, run_stage

BASELINES = ("popularity", "item-knn")
_HEADLINES = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "coverage@10", "invalid_rate")


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of an evaluation.

    Attributes:
        split: which events are the targets.
        ks: cut-offs of the metrics.
        list_length: items of a list; a recommender that gives lists only finds no target beyond.
        batch_size: users of a batch.
        beams: beam width of a generative model, at least ``list_length``.
        normalise: over what its tokens' probabilities add up to one, ``children`` or ``level``.
        with_history: also measure without removing the history from the ranking.
        resamples: bootstrap resamples behind the 95% intervals.
        name: of the result file; empty for the output folder's.
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


def run(
    config: EvaluateConfig,
    dataset: Path,
    model: str | Path,
    out: Path | None = None,
    seed: int = 0,
    *,
    results: Path | None = None,
) -> Path:
    """Measure a recommender on held-out events, or find it done; a killed run goes on.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        model: popularity, item-knn, or the folder of a model or a bundle.
        out: the run's folder; by default runs/evaluation/NAME.
        seed: of the bootstrap.
        results: a folder that the result file is copied to as well.

    Raises:
        ConfigError: for a model that is neither.
    """
    name = config.name or (out.resolve().name if out else _default_name(dataset, model))
    out = out or Path("runs") / "evaluation" / name
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

    def work(stage: StageRun) -> None:
        _evaluate(config, Dataset(dataset), model, name, stage, seed)

    run_stage(out, manifest, work, resume=True)
    path = out / f"{name}.json"
    print(_summary(read_result(path)), flush=True)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        print(shutil.copyfile(path, results / path.name), flush=True)
    return out


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


def _default_name(dataset: Path, model: str | Path) -> str:
    short = "itemknn" if str(model) == "item-knn" else Path(model).resolve().name
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
