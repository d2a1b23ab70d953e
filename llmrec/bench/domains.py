"""``llmrec evaluate domains``: one table a target domain, sampled negatives and full ranking.

    llmrec evaluate domains --models item-graph --dataset DIR --out DIR
    llmrec evaluate domains --models EMF-DIR --hybrids HYBRID-DIR --dataset DIR --out DIR
    llmrec evaluate domains --models DIR DIR-seed1 DIR-seed2 --dataset DIR --out DIR --shuffled JSON
    llmrec evaluate domains --models FOOD-DIR KITCHEN-DIR --history own --dataset DIR --out DIR

A case belongs to the domain of its target, and only items of that domain are ranked for it. Several
folders are trainings of one model: figures are means over them. A model that was trained for one
domain alone (``train: {domain: food}``) is asked about that domain.

``metrics`` of ``NAME.json`` are, for every domain, ``food_mrr``, ``food_hr@10``, ``food_ndcg@10``:
against sampled negatives of the domain; ``full_food_mrr`` and so on: over the whole domain, history
removed; ``shuffled_...``: the same figures on the log with the events of a day shuffled.
``NAME.domains.parquet`` holds the ranks, for ``llmrec evaluate domains-compare``.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.bench.baselines import BASELINES, Content, fit_baseline
from llmrec.bench.evaluation_seeds import intervals_over_trainings
from llmrec.bench.recommenders import load_recommender
from llmrec.config import as_dict, check_ranges
from llmrec.content.features.blocks import content_vectors
from llmrec.data.dataset import Dataset
from llmrec.data.domains import Domains
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.loop.bars import ProgressBar
from llmrec.metrics.metrics import list_ranks, per_case, target_ranks
from llmrec.metrics.results import read_result, write_result
from llmrec.metrics.sampled import draw_negatives, sampled_ranks
from llmrec.metrics.slices import buckets
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.hybrid.scorer import HybridScorer
from llmrec.recommender import ListRecommender, Scorer, history_mask
from llmrec.stage import Manifest, StageRun, folder_hash, input_hashes, read_manifest, run_stage
from llmrec.types import Cases, Histories

RANKS_SUFFIX = ".domains.parquet"
SLICES = {  # fact of a case -> lower bounds of its buckets
    "target_domain_events": (0, 1, 6, 11, 21),
    "history_length": (0, 1, 11, 21, 31),
}
PROTOCOLS = {"sampled": "", "full": "full_"}  # -> prefix of its figures
HistoryPart = Literal["all", "own", "other"]


@dataclass(frozen=True)
class DomainEvaluationConfig:
    """Settings of the evaluation.

    Attributes:
        split: which events are the targets.
        ks: cut-offs of the metrics.
        negatives: drawn of the target's domain, none of them in the user's sequence; all there are
            where a domain has fewer.
        history: what a model may read: all of it, the events in the target's domain alone (own), or
            those in other domains alone (other), as of someone who is new in the target's domain.
            Baselines are then counted in each domain apart for ``own``.
        list_length: items of the full ranking of a model that makes lists instead of scores.
        batch_size: users of a batch.
        resamples: bootstrap resamples behind the 95% intervals.
        name: of the result; empty for the output folder's.
    """

    split: Literal["validation", "test"] = "test"
    ks: list[int] = field(default_factory=lambda: [5, 10])
    negatives: int = 999
    history: HistoryPart = "all"
    list_length: int = 100
    batch_size: int = 256
    resamples: int = 1000
    name: str = ""

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "negatives", "batch_size", "resamples")
        if not self.ks or min(self.ks) < 1 or max(self.ks) > self.list_length:
            raise ConfigError(f"ks: {self.ks} must lie in 1..list_length ({self.list_length})")


@dataclass(frozen=True)
class DomainRanks:
    """What came out in one domain.

    Attributes:
        users, targets: int ``[cases]``.
        facts: int64 ``[cases]`` each, of :data:`SLICES`.
        ranks: by protocol, int64 ``[trainings, cases]``.
        sizes: by protocol, how many items are ranked.
    """

    users: np.ndarray
    targets: np.ndarray
    facts: Mapping[str, np.ndarray]
    ranks: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]

    def values(self, protocol: str, ks: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Of each training, metric name to float64 ``[cases]``."""
        names = ["mrr", *(f"{metric}@{k}" for metric in ("hr", "ndcg") for k in ks)]
        found = (per_case(ranks, self.sizes[protocol], ks) for ranks in self.ranks[protocol])
        return [{name: one[name] for name in names} for one in found]


def run(
    config: DomainEvaluationConfig,
    models: Sequence[str],
    dataset: Path,
    out: Path,
    seed: int = 0,
    *,
    features: Path | None = None,
    hybrids: Sequence[Path] = (),
    shuffled: Path | None = None,
    results: Path | None = None,
) -> Path:
    """Measure a model on each target domain of a dataset, with sampled negatives and in full.

    Args:
        config: settings.
        models: a baseline, or the folders of all trainings of one model.
        dataset: folder of llmrec ingest, its items with domains.
        out: the run's folder.
        seed: of the negatives and the bootstrap.
        features: folder of llmrec embed, the content that baselines read.
        hybrids: for each EMF model the folder of llmrec hybrid that was weighed against it; of a
            language model, give the bundle.
        shuffled: result of this command on the same log with ties shuffled; its figures are added.
        results: a folder that the result file is copied to as well.

    Raises:
        ConfigError: for a model that is neither, or one that gives no scores.
        DataError: if the dataset has no domains.
    """
    _check_models(models, hybrids)
    name = config.name or out.resolve().name
    folders = {f"model.{row}": Path(one) for row, one in enumerate(models) if one not in BASELINES}
    inputs = input_hashes(dataset=dataset, features=features, **folders)
    inputs |= input_hashes(**{f"hybrid.{row}": one for row, one in enumerate(hybrids)})
    if shuffled is not None:
        inputs["shuffled"] = str(read_result(shuffled)["date"])
    described = as_dict(config) | {"models": list(models)}

    def work(stage: StageRun) -> None:
        data = Dataset(dataset)
        content = None if features is None else Content(content_vectors(features))
        found, notes = measure(config, data, models, content, seed, hybrids)
        write_ranks(stage.folder / f"{name}{RANKS_SUFFIX}", found, folder_hash(dataset), config)
        metrics, intervals, slices = figures(config, found, seed)
        more = {} if shuffled is None else _prefixed(read_result(shuffled), data)
        write_result(
            stage.folder / f"{name}.json",
            dataset=dataset.resolve().parent.name,
            split=config.split,
            model=[Path(one).name for one in models],
            metrics=metrics | more.get("metrics", {}),
            intervals=intervals | more.get("intervals", {}),
            seed=seed,
            cases={domain: len(one.users) for domain, one in found.items()},
            trainings={domain: len(one.ranks["full"]) for domain, one in found.items()},
            slices=slices,
            notes=notes,
            settings=as_dict(config),
            training=[read_manifest(folder).counts for folder in folders.values()],
        )
        stage.counts |= {domain: len(one.users) for domain, one in found.items()}

    run_stage(out, Manifest("evaluate domains", described, inputs, seed=seed), work)
    result = read_result(out / f"{name}.json")
    print(table(result), flush=True)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        print(shutil.copyfile(out / f"{name}.json", results / f"{name}.json"), flush=True)
    return out


def measure(
    config: DomainEvaluationConfig,
    dataset: Dataset,
    models: Sequence[str],
    content: Content | None,
    seed: int,
    hybrids: Sequence[Path] = (),
) -> tuple[dict[str, DomainRanks], list[str]]:
    """Ranks by domain, and what to know about them."""
    domains, cases = Domains.of(dataset), dataset.cases(config.split)
    if dataset.has_baskets:
        raise DataError(f"{dataset.folder}: was split by baskets; ingest with leave-one-out")
    of_case = domains.of_item[cases.targets]
    found, notes = {}, []
    for domain, name in enumerate(domains.names):
        rows = np.flatnonzero(of_case == domain)
        if not len(rows):
            notes.append(f"{name}: no {config.split} event is of this domain; it has no table")
            continue
        part, pool = cases.select(rows), domains.items(domain)
        whole = [dataset.history(user) for user in part.users]
        negatives = draw_negatives(pool, whole, part.users, config.negatives, seed)
        fewest = int((negatives >= 0).sum(axis=1).min())
        if fewest < config.negatives:
            notes.append(
                f"{name}: fewer than {config.negatives} items are no user's own; all are taken, "
                f"{fewest} at least"
            )
        asked = _readable(part.histories, domains, domain, config.history)
        ranks = [
            domain_ranks(one, asked, part, pool, negatives, config)
            for one in _opened(models, hybrids, dataset, domains, domain, content, config)
        ]
        if not ranks:
            raise ConfigError(f"models: none is trained for {name}; give one that is, or all")
        facts = {
            "target_domain_events": domains.events_in(part.histories, domain),
            "history_length": part.histories.lengths().astype(np.int64),
        }
        by_protocol = {key: np.stack([one[key] for one in ranks]) for key in PROTOCOLS}
        sizes = {"sampled": config.negatives + 1, "full": len(pool)}
        found[name] = DomainRanks(part.users, part.targets, facts, by_protocol, sizes)
    for note in notes:
        print(f"note: {note}", flush=True)
    return found, notes


def domain_ranks(
    recommender: Scorer | ListRecommender,
    asked: Histories,
    cases: Cases,
    pool: np.ndarray,
    negatives: np.ndarray,
    config: DomainEvaluationConfig,
) -> dict[str, np.ndarray]:
    """Ranks of the targets of one domain by protocol, int64 ``[cases]`` each.

    Args:
        asked: what the recommender reads of each history.
        cases: whose targets are all in ``pool``; their histories are removed from the full ranking.
        pool: int64, the items of the domain, ascending.
        negatives: int64 ``[cases, n]``, -1 pads.
    """
    parts: list[dict[str, np.ndarray]] = []
    for start in ProgressBar(range(0, len(cases), config.batch_size), "evaluate", unit="batch"):
        rows = np.arange(start, min(start + config.batch_size, len(cases)))
        batch = asked.select(rows), cases.select(rows), pool, negatives[rows]
        if isinstance(recommender, Scorer):
            parts.append(_from_scores(recommender, *batch))
        else:
            parts.append(_from_lists(recommender, *batch, config.list_length))
    return {key: np.concatenate([part[key] for part in parts]) for key in PROTOCOLS}


def _from_scores(
    scorer: Scorer, asked: Histories, cases: Cases, pool: np.ndarray, negatives: np.ndarray
) -> dict[str, np.ndarray]:
    scores = np.array(scorer.score(asked), dtype=np.float32)
    own = np.take_along_axis(scores, cases.targets[:, None].astype(np.int64), axis=1)[:, 0]
    others = np.take_along_axis(scores, np.maximum(negatives, 0), axis=1)
    scores[history_mask(cases.histories)] = -np.inf
    places = np.searchsorted(pool, cases.targets)
    return {
        "sampled": sampled_ranks(own, others, cases.targets, negatives),
        "full": target_ranks(scores[:, pool], places),
    }


def _from_lists(
    recommender: Any,
    asked: Histories,
    cases: Cases,
    pool: np.ndarray,
    negatives: np.ndarray,
    length: int,
) -> dict[str, np.ndarray]:
    """Of a language model: likelihood of given items, and lists out of the domain alone."""
    if not hasattr(recommender, "score_items"):
        raise ConfigError("models: makes lists without scores; negatives cannot be ranked by it")
    targets = cases.targets.astype(np.int64)
    scores = recommender.score_items(asked, np.column_stack([targets, negatives]))
    allow = ItemFilter.of_items(pool, recommender.n_items)
    limits = [Constraints(exclude=history, allow=allow) for history in cases.histories]
    lists = recommender.recommend(asked, length, exclude_history=False, constraints=limits).items
    return {
        "sampled": sampled_ranks(scores[:, 0], scores[:, 1:], targets, negatives),
        "full": list_ranks(lists, targets),
    }


def figures(
    config: DomainEvaluationConfig, found: Mapping[str, DomainRanks], seed: int
) -> tuple[dict[str, float], dict[str, list[float]], dict[str, Any]]:
    """Metrics, intervals and slices of a result file."""
    metrics: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    slices: dict[str, Any] = {}
    for domain, one in found.items():
        for protocol, prefix in PROTOCOLS.items():
            values = one.values(protocol, config.ks)
            spans = intervals_over_trainings(values, one.users, config.resamples, seed)
            for metric in values[0]:
                key = f"{prefix}{domain}_{metric}"
                means = [float(each[metric].mean()) for each in values]
                metrics[key] = float(np.mean(means))
                intervals[key] = spans[metric]
                if len(means) > 1 and metric in ("mrr", "ndcg@10"):
                    metrics[f"{key}_deviation"] = float(np.std(means, ddof=1))
        slices[domain] = _slices(config, one, seed)
    return metrics, intervals, slices


def _slices(config: DomainEvaluationConfig, one: DomainRanks, seed: int) -> dict[str, Any]:
    """MRR against negatives of cases that belong together."""
    values = [{"mrr": each["mrr"]} for each in one.values("sampled", config.ks)]
    sliced: dict[str, Any] = {}
    for fact, starts in SLICES.items():
        sliced[fact] = {}
        for label, rows in buckets(one.facts[fact], starts):
            some = [{"mrr": each["mrr"][rows]} for each in values]
            sliced[fact][label] = {
                "cases": len(rows),
                "metrics": {"mrr": float(np.mean([each["mrr"] for each in some]))},
                "intervals": intervals_over_trainings(
                    some, one.users[rows], config.resamples, seed
                ),
            }
    return sliced


def write_ranks(
    path: Path,
    found: Mapping[str, DomainRanks],
    dataset_hash: str,
    config: DomainEvaluationConfig,
) -> None:
    """Save the ranks of every case, a row each; ranks of several trainings as a list."""
    tables = [
        pa.table(
            {
                "domain": [domain] * len(one.users),
                "user": one.users,
                "target": one.targets,
                **one.facts,
                **{key: pa.array(ranks.T.tolist()) for key, ranks in one.ranks.items()},
                **{f"{key}_size": [size] * len(one.users) for key, size in one.sizes.items()},
            }
        )
        for domain, one in found.items()
    ]
    about = {"dataset": dataset_hash, "split": config.split}
    pq.write_table(pa.concat_tables(tables).replace_schema_metadata(about), path)


def table(result: Mapping[str, Any]) -> str:
    """The figures of a result as Markdown, a row a domain and protocol."""
    metrics = result["metrics"]
    ks = result["settings"]["ks"]
    columns = ["mrr", *(f"{metric}@{k}" for metric in ("hr", "ndcg") for k in ks)]
    negatives = result["settings"]["negatives"]
    named = {"": f"{negatives} negatives", "full_": "full ranking"}
    rows = [f"### {result['name']}", "", f"| domain, protocol | {' | '.join(columns)} |"]
    rows.append("| --- |" + " ---: |" * len(columns))
    for prefix in ("", "full_", "shuffled_", "shuffled_full_"):
        for domain in result["cases"]:
            if f"{prefix}{domain}_mrr" not in metrics:
                continue
            protocol = named[prefix.removeprefix("shuffled_")]
            ties = ", ties shuffled" if prefix.startswith("shuffled_") else ""
            cells = " | ".join(f"{metrics[f'{prefix}{domain}_{name}']:.4f}" for name in columns)
            rows.append(f"| {domain}, {protocol}{ties} | {cells} |")
    return "\n".join(rows)


def _check_models(models: Sequence[str], hybrids: Sequence[Path]) -> None:
    if hybrids and len(hybrids) != len(models):
        raise ConfigError(f"hybrids: {len(hybrids)} are given for {len(models)} models")
    if not models:
        raise ConfigError(f"name a baseline ({', '.join(BASELINES)}) or folders of trained models")
    for one in models:
        if one in BASELINES and len(models) > 1:
            raise ConfigError(f"{one}: is a baseline; several models are trainings of one")
        if one not in BASELINES and not Path(one).is_dir():
            raise ConfigError(f"{one}: neither a baseline ({', '.join(BASELINES)}) nor a folder")


def _readable(histories: Histories, domains: Domains, domain: int, part: HistoryPart) -> Histories:
    if part == "all":
        return histories
    return (domains.only if part == "own" else domains.without)(histories, domain)


def _opened(
    models: Sequence[str],
    hybrids: Sequence[Path],
    dataset: Dataset,
    domains: Domains,
    domain: int,
    content: Content | None,
    config: DomainEvaluationConfig,
) -> Iterator[Scorer | ListRecommender]:
    """The models that answer for a domain, one at a time."""
    for model, hybrid in itertools.zip_longest(models, hybrids):
        if model in BASELINES:
            known = dataset.train_histories()
            if config.history == "own":
                known = domains.only(known, domain)
            yield fit_baseline(model, known, dataset.n_items, content)
            continue
        own = read_manifest(model).config.get("domain", "")
        if own in ("", domains.names[domain]):
            found = load_recommender(model, beams=config.list_length)
            yield found if hybrid is None else _beside_graph(found, Path(model), hybrid)


def _beside_graph(
    recommender: ListRecommender, model: Path, hybrid: Path
) -> Scorer | ListRecommender:
    """A scorer with the item graph that was weighed against it.

    Raises:
        ArtifactError: if it was weighed against another.
        ConfigError: for a language model.
    """
    weighed = read_manifest(hybrid, "hybrid").inputs["model"]
    if weighed != folder_hash(model):
        raise ArtifactError(f"{hybrid}: was weighed against another model than {model}")
    if not isinstance(recommender, Scorer) or hasattr(recommender, "score_items"):
        raise ConfigError(f"hybrids: {model} is a language model; give its bundle as the model")
    return HybridScorer(recommender, GraphPrior.load(hybrid, recommender.n_items))


def _prefixed(result: Mapping[str, Any], dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Figures of another result, their names with ``shuffled_``."""
    names = Domains.of(dataset).names
    if not set(result.get("cases", {})) <= set(names):
        raise DataError(f"--shuffled: is of other domains than {', '.join(names)}")
    return {
        part: {f"shuffled_{key}": value for key, value in result[part].items()}
        for part in ("metrics", "intervals")
    }
