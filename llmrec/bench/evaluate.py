"""``llmrec evaluate``: measure a bundle, a model or a baseline; compare runs; write the page.

    llmrec evaluate --dataset DIR --model BASELINE|DIR [--split test] [--out DIR]
    llmrec evaluate --dataset DIR --features DIR --baselines strong
    llmrec evaluate --dataset DIR --lists FILE.parquet
    llmrec evaluate compare A.cases.parquet B.cases.parquet
    llmrec evaluate seeds A.json B.json C.json --out MEAN.json
    llmrec evaluate report --out DIR RESULT.json ...

``--baselines strong`` tunes every ranking that needs no training on validation, by the same small
budget, and measures each. ``--lists`` measures another system by the lists it made
(:mod:`llmrec.bench.list_files` says what the file holds).

The output folder holds ``NAME.json`` (every figure, with intervals, slices, the command
and the machine) and ``NAME.cases.parquet`` (the rank of every case, for comparisons).
The figures under ``metrics`` are with the history removed from the ranking; those under
``metrics_with_history`` rank the whole catalogue. Where the dataset was split by baskets, the
target of a case is the set of items of the next basket, ``metrics`` rank the whole catalogue and
``metrics_history_removed`` what is new to a user.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llmrec.bench.baselines import (
    BASELINES,
    Content,
    fit_baseline,
    result_name,
    strong_baselines,
    tune,
)
from llmrec.bench.evaluation_compare import differences
from llmrec.bench.list_files import read_lists
from llmrec.config import as_dict, check_ranges
from llmrec.content.features.blocks import content_vectors
from llmrec.data.dataset import Dataset
from llmrec.data.item_graph import ItemGraph
from llmrec.data.splitting import name_ranks
from llmrec.errors import ConfigError
from llmrec.metrics.measure import Evaluation, evaluate, train_counts
from llmrec.metrics.results import (
    CASES_SUFFIX,
    protocols,
    read_cases,
    read_result,
    result_files,
    write_cases,
    write_result,
)
from llmrec.metrics.slices import upwards_share
from llmrec.metrics.summary import intervals_of, metrics_of, slices_of
from llmrec.recommender import ListRecommender, Scorer
from llmrec.stage import (
    Manifest,
    StageRun,
    folder_hash,
    input_hashes,
    read_manifest,
    run_stage,
)
from llmrec.training.next_item.validation import sampled_cases, validation_cases
from llmrec.types import Cases, Histories

_HEADLINES = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "coverage@10", "invalid_rate")


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of an evaluation.

    Attributes:
        split: which events are the targets.
        users: measure a fixed sample of so many users of the split, the same for every model and
            seed; 0 is all of them.
        ks: cut-offs of the metrics.
        list_length: items of a list; a recommender that gives lists only finds no target beyond.
        batch_size: users of a batch.
        beams: beam width of a generative model, at least ``list_length``.
        normalise: over what its tokens' probabilities add up to one, ``children`` or ``level``.
        with_history: also measure without removing the history from the ranking.
        name_field: whose order the slice ``name_order`` asks about: item_id, or an attribute of the
            items, such as asin.
        resamples: bootstrap resamples behind the 95% intervals.
        name: of the result file; empty for the output folder's.
        refreshed: counts and graphs have also seen the events between training and the targets, as
            those of a running service would have; the model itself stays as it was trained.
        trials: settings that ``baselines: strong`` tries of each baseline.
        tuning_users: of the validation part that they are tried on; 0 is all.
    """

    split: Literal["validation", "test"] = "test"
    users: int = 0
    ks: list[int] = field(default_factory=lambda: [5, 10, 20])
    list_length: int = 50
    batch_size: int = 512
    beams: int = 50
    normalise: Literal["children", "level"] = "children"
    with_history: bool = True
    name_field: str = "item_id"
    resamples: int = 1000
    name: str = ""
    refreshed: bool = False
    trials: int = 12
    tuning_users: int = 5000

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or max(self.ks) > self.list_length:
            raise ConfigError(f"ks: {self.ks} must lie in 1..list_length ({self.list_length})")
        if self.beams < self.list_length:
            raise ConfigError(
                f"beams: {self.beams} give no list of {self.list_length}; raise it to list_length"
            )
        check_ranges(self, "[1, inf)", "batch_size", "resamples", "trials")
        check_ranges(self, "[0, inf)", "tuning_users", "users")
        if Path(self.name).name != self.name:
            raise ConfigError(f"name: {self.name!r} must be a plain file name, without folders")


def run(
    config: EvaluateConfig,
    dataset: Path,
    model: str | Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    *,
    baselines: Literal["strong"] | None = None,
    lists: Path | None = None,
    features: Path | None = None,
    results: Path | None = None,
) -> Path:
    """Measure a recommender on held-out events, or find it done; a killed run goes on.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        model: a baseline (popularity, personal-frequency, item-knn, item-graph, star, ease), or
            the folder of a model or a bundle.
        out: the run's folder; by default runs/evaluation/NAME.
        seed: of the bootstrap, and of what is tried of baselines.
        baselines: strong tunes and measures all baselines, in place of a model.
        lists: Parquet with the lists of another system, in place of a model.
        features: folder of ``llmrec embed``, the content that baselines read.
        results: a folder that the result files are copied to as well.

    Raises:
        ConfigError: for a model that is neither, or none at all.
        DataError: if the lists are not those of the split's cases.
    """
    chosen = [one for one in (model, baselines, lists) if one is not None]
    if len(chosen) != 1:
        raise ConfigError("give --model, or --baselines strong, or --lists FILE.parquet")
    target = str(chosen[0])
    made = target if lists is None else lists.stem
    name = config.name or (out.resolve().name if out else _default_name(dataset, made))
    out = out or Path("runs") / "evaluation" / name
    described: dict[str, Any] = as_dict(config) | {"model": target}
    if lists is not None and not lists.is_file():
        raise ConfigError(f"--lists {lists}: no such file")
    inputs = input_hashes(dataset=dataset, features=features, lists=lists)
    if model is not None and target not in BASELINES:
        if not Path(target).is_dir():
            raise ConfigError(
                f"--model {target}: neither a baseline ({', '.join(BASELINES)}) nor a folder; "
                "give a trained model or a bundle"
            )
        inputs["model"] = folder_hash(target)
    manifest = Manifest("evaluate", described, inputs, seed=seed)

    def work(stage: StageRun) -> None:
        data = Dataset(dataset)
        content = None if features is None else Content(content_vectors(features))
        if lists is not None:
            cases = measured_cases(data, config)
            recommender: Any = read_lists(lists, data, cases.select(cases.starts))
            at_once = replace(config, batch_size=len(recommender.items))
            _evaluate(at_once, data, recommender, target, name, stage, seed)
        elif model is not None:
            known = known_histories(data, config)
            recommender = load(target, known, data.n_items, config, content)
            _evaluate(config, data, recommender, target, name, stage, seed)
        else:
            _evaluate_baselines(config, data, content, stage, seed)

    run_stage(out, manifest, work, resume=True)
    found = [read_result(path) for path in result_files(out)]
    found.sort(key=lambda result: result["metrics"].get("ndcg@10", 0.0))
    print("\n\n".join(map(_summary, found)), flush=True)
    cases = [read_cases(out / f"{result['name']}{CASES_SUFFIX}") for result in found]
    print("\n".join(["", *differences(found, cases)]), flush=True)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        for result in found:
            path = out / f"{result['name']}.json"
            print(shutil.copyfile(path, results / path.name), flush=True)
    return out


def measured_cases(dataset: Dataset, config: EvaluateConfig) -> Cases:
    """The cases of the split, or of a sample of its users.

    Raises:
        DataError: if a sample is asked for and the split has none.
    """
    if config.users == 0:
        return dataset.cases(config.split)
    return sampled_cases(dataset, config.split, config.users, seed=0)


def known_histories(dataset: Dataset, config: EvaluateConfig) -> Histories:
    """What counts and graphs have seen: training events, or every event before the targets.

    Raises:
        ConfigError: if events have times, where what one target may know would not be all.
    """
    if not config.refreshed:
        return dataset.train_histories()
    cases = dataset.cases(config.split)
    histories = cases.select(cases.starts).histories
    if histories.timestamps is not None:
        raise ConfigError(
            "refreshed: events of this dataset have times, and what came before one target came "
            "after another; it is for sequences without times, the last event of each the target"
        )
    return histories


def load(
    model: str,
    known: Histories,
    n_items: int,
    config: EvaluateConfig,
    content: Content | None = None,
) -> Scorer | ListRecommender:
    """A baseline fitted on what is known, or what a folder holds.

    Raises:
        ConfigError: if what is to be refreshed counts nothing.
    """
    if model in BASELINES:
        return fit_baseline(model, known, n_items, content)
    from llmrec.bench.recommenders import load_recommender
    from llmrec.ranking.hybrid.recommender import HybridLlm

    found = load_recommender(model, beams=config.beams, normalise=config.normalise)
    if config.refreshed:
        if not isinstance(found, HybridLlm):
            raise ConfigError(f"refreshed: {model} counts no events; give a bundle with a hybrid")
        scorer = found.prior.scorer
        scorer.graph = ItemGraph.fit(known, n_items, scorer.graph.config)
    return found


def _evaluate_baselines(
    config: EvaluateConfig,
    dataset: Dataset,
    content: Content | None,
    stage: StageRun,
    seed: int,
) -> None:
    """Tune and measure each baseline; those measured before a kill stay."""
    train, known = dataset.train_histories(), known_histories(dataset, config)
    validation = validation_cases(dataset, config.tuning_users, seed)
    for baseline in strong_baselines(dataset.n_items, content, dataset.has_baskets):
        name = result_name(_dataset_name(dataset), baseline)
        if (stage.folder / f"{name}.json").exists():
            continue
        settings, value = tune(
            baseline, train, dataset.n_items, content, validation, trials=config.trials, seed=seed
        )
        scorer = fit_baseline(baseline, known, dataset.n_items, content, settings)
        tuned = {"chosen": settings, "trials": config.trials, "validation_ndcg@10": value}
        _evaluate(config, dataset, scorer, baseline, name, stage, seed, tuned)


def _evaluate(
    config: EvaluateConfig,
    dataset: Dataset,
    recommender: Scorer | ListRecommender,
    model: str,
    name: str,
    stage: StageRun,
    seed: int,
    tuned: dict[str, Any] | None = None,
) -> None:
    checkpoint = stage.folder / "batches"
    evaluation = evaluate(
        recommender,
        measured_cases(dataset, config),
        train_counts(dataset.train_histories(), dataset.n_items),
        ks=config.ks,
        list_length=config.list_length,
        batch_size=config.batch_size,
        with_history=config.with_history,
        progress=True,
        checkpoint=checkpoint,
        name_ranks=name_ranks(dataset.item_names(config.name_field)),
    )
    title = _dataset_name(dataset)
    write_cases(stage.folder / f"{name}{CASES_SUFFIX}", evaluation, name, title, config.split)
    more: dict[str, Any] = {} if tuned is None else {"tuning": tuned}
    write_result(
        stage.folder / f"{name}.json",
        dataset=title,
        split=config.split,
        model=model,
        baseline=model in BASELINES,
        seed=seed,
        seconds=evaluation.seconds,
        **figures(evaluation, config.resamples, seed),
        catalogue=evaluation.n_items,
        settings=as_dict(config),
        dataset_hash=folder_hash(dataset.folder),
        training=_training(model) if tuned is None else {},
        **more,
    )
    stage.counts |= {"cases": len(evaluation.users), "items": evaluation.n_items}
    shutil.rmtree(checkpoint)


def _training(model: str) -> dict[str, Any]:
    """Seed of a training, and what it took (seconds, epochs, parameters)."""
    if str(model) in BASELINES or not Path(model).is_dir():
        return {}
    folder = Path(model) / "model" if read_manifest(model).stage == "bundle" else model
    manifest = read_manifest(folder)
    return {"seed": manifest.seed, **manifest.counts}


def figures(evaluation: Evaluation, resamples: int, seed: int) -> dict[str, Any]:
    """The parts of a result file that an evaluation decides."""
    primary, other = evaluation.primary, evaluation.with_history
    history_removed = primary is evaluation.removed
    parts: dict[str, Any] = {
        "metrics": metrics_of(evaluation, primary),
        "intervals": intervals_of(evaluation, primary, resamples, seed),
        "history_removed": history_removed,
    }
    if not history_removed:
        other = evaluation.removed
    if other is not None:
        name = "with_history" if history_removed else "history_removed"
        parts[f"metrics_{name}"] = metrics_of(evaluation, other)
        parts[f"intervals_{name}"] = intervals_of(evaluation, other, resamples, seed)
    cold = evaluation.target_counts == 0
    if cold.any() and 10 in evaluation.ks:
        parts["metrics"]["cold_recall@10"] = float((primary.ranks[cold] < 10).mean())
        parts["cold_cases"] = int(cold.sum())
    parts["slices"] = slices_of(evaluation, primary, resamples, seed)
    parts["upwards_share"] = upwards_share(evaluation.facts)
    parts["cases"] = len(evaluation.users)
    if evaluation.basket is not None:
        parts["targets"] = len(evaluation.targets)
    parts["rank_limit"] = evaluation.rank_limit
    return parts


def _dataset_name(dataset: Dataset) -> str:
    folder = dataset.folder.resolve()  # a recipe's dataset stands in ``runs/NAME/dataset``
    return folder.parent.name if folder.name == "dataset" else folder.name


def _default_name(dataset: Path, model: str | Path) -> str:
    return result_name(dataset.resolve().name, Path(model).resolve().name)


def _summary(result: dict[str, Any]) -> str:
    headlines, baskets = [*_HEADLINES], ""
    if "targets" in result:
        headlines.insert(0, "hr@10")
        baskets = f", {result['targets']} items of next baskets"
    lines = [
        f"{result['name']}: {result['cases']} cases of {result['dataset']}/{result['split']}"
        f"{baskets}"
    ]
    primary, second = protocols(result)
    lines.append(f"{'':<14}{primary:>34}{second:>18}")
    other = result.get(f"metrics_{second.replace(' ', '_')}", {})
    for metric in headlines:
        if metric not in result["metrics"]:
            continue
        span = result["intervals"].get(metric)
        between = f"[{span[0]:.4f}, {span[1]:.4f}]" if span else ""
        beside = f"{other[metric]:.4f}" if metric in other else ""
        lines.append(f"{metric:<14}{result['metrics'][metric]:>14.4f}{between:>20}{beside:>18}")
    if result.get("upwards_share") is not None:
        lines.append(
            f"{result['upwards_share']:.1%} of the targets stand above the last item in the order "
            f"of {result['settings']['name_field']} (half where it says nothing)"
        )
    return "\n".join(lines)
