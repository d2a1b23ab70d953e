"""How well the whole cascade ranks what users chose next, and what re-ranking costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.rerank import measure
from llmrec.bench.retrieval import flat_metrics, plot_recall, retrieval_table
from llmrec.errors import ConfigError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.generation.llm import Llm
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.metrics import list_ranks, ndcg, recall, target_ranks
from llmrec.ranking.ctr.cascade import HeldOutClicks, choose_llm_weight, rank_held_out
from llmrec.ranking.ctr.dataset import ClickDataset
from llmrec.ranking.ctr.impression_log import Folders
from llmrec.ranking.ctr.point_in_time import DatedModel, open_models
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.rerank.settings import RerankConfig
from llmrec.ranking.retrieval.sources import make_sources
from llmrec.recommender import Scorer, history_mask
from llmrec.types import Cases

CASES, CANDIDATES = 3000, 600  # users' clicks, and candidates of each
SOURCE_CANDIDATES = 200
LIST_LENGTH, USERS_AT_ONCE = 50, 256


def measure_ranking(
    config: CtrConfig,
    folders: Folders,
    data: ClickDataset,
    networks: list[Any],
    seed: int,
    resamples: int,
    out: Path,
    refreshed: DatedModel | None = None,
) -> tuple[dict[str, float], dict[str, list[float]], list[dict[str, Any]]]:
    """Candidates, the whole cascade against the language model alone, and re-ranking.

    Args:
        refreshed: a language model that has learned until the test part begins, as the statistics
            that the cascade reads have.
    """
    models = open_models(folders.models, data.item_features.n_items)
    model = models[-1] if models else None
    weight, tried = choose_llm_weight(config, folders, data, networks, seed)
    split = data.log.split
    ranked, clicks = rank_held_out(
        config, folders, data, networks, model, (split.test, np.inf), CASES, CANDIDATES, seed
    )
    # every source as of the beginning of the test part
    catalogue = data.log.catalogue(config, folders).with_model(
        None if model is None else model.model
    )
    at = int(data.snapshots.of(np.array([split.test]))[0])
    sources = make_sources(catalogue, data.snapshots.snapshots[max(at, 0)])
    table = retrieval_table(sources, clicks.cases, SOURCE_CANDIDATES, resamples, seed)
    plot_recall(table, out.with_name(f"{out.stem}-candidates.png"))
    metrics, spans = flat_metrics(table, SOURCE_CANDIDATES)
    metrics["llm_weight"] = weight
    metrics |= {f"validation_ndcg@10_llm_weight_{name}": value for name, value in tried.items()}
    targets = clicks.cases.targets
    ways = {
        "cascade": ranked.ranks(ranked.scores(weight), targets),
        "head_alone": ranked.ranks(ranked.scores(0.0), targets),
    }
    available = data.item_features.available(clicks.times)
    alone = {"llm": model, "llm_refreshed": refreshed}
    for name, one in alone.items():
        if one is not None:
            ways[name] = llm_ranks(one.model, clicks.cases, available)
    values = {}
    for name, ranks in ways.items():
        values[f"{name}_ndcg@10"] = ndcg(ranks, 10)
        values[f"{name}_recall@10"] = recall(ranks, 10)
    for name in (name for name in alone if name in ways):
        for m in ("ndcg@10", "recall@10"):
            values[f"cascade_minus_{name}_{m}"] = values[f"cascade_{m}"] - values[f"{name}_{m}"]
    metrics |= {name: float(value.mean()) for name, value in values.items()}
    spans |= intervals(values, clicks.cases.users, resamples, seed)
    return metrics, spans, _reranking(data, ranked, ranked.scores(weight), clicks, seed)


def open_refreshed(folder: Path, data: ClickDataset) -> DatedModel:
    """A language model that has learned from the validation part, and from nothing later.

    Raises:
        ConfigError: if it has learned less, or more.
        ArtifactError: if the folder does not say until when.
    """
    (model,) = open_models([folder], data.item_features.n_items)
    split = data.log.split
    if not split.validation <= model.until < split.test:
        part = "nothing of the validation part" if model.until < split.test else "the test part"
        raise ConfigError(
            f"--refreshed: {folder} has learned from {part}; train it on the same dataset with "
            "`learn_validation: true`"
        )
    return model


def llm_ranks(model: Scorer | Llm, cases: Cases, available: np.ndarray) -> np.ndarray:
    """Rank of each target in the language model's own order of what the cascade chooses from.

    Args:
        model: without scores, its best 50 are looked at.
        available: bool ``[cases, items]``, what the catalogue holds at the time.

    Returns:
        int64 ``[cases]``; the history is left out, as it is in the cascade.
    """
    ranks = []
    for start in range(0, len(cases), USERS_AT_ONCE):
        part = cases.select(np.arange(start, min(start + USERS_AT_ONCE, len(cases))))
        allowed = available[start : start + len(part)]
        if isinstance(model, Scorer):
            scores = np.array(model.score(part.histories), dtype=np.float32)
            scores[history_mask(part.histories)] = -np.inf
            scores[~allowed] = -np.inf
            ranks.append(target_ranks(scores, part.targets))
        else:
            filters = [Constraints(allow=ItemFilter(row)) for row in allowed]
            lists = model.recommend(
                part.histories, min(LIST_LENGTH, model.n_items), constraints=filters
            )
            ranks.append(list_ranks(lists.items, part.targets))
    return np.concatenate(ranks)


def _reranking(
    data: ClickDataset, ranked: Any, scores: np.ndarray, clicks: HeldOutClicks, seed: int
) -> list[dict[str, Any]]:
    """What each way of re-ranking costs and brings."""
    item_features = data.item_features
    ways = {
        "mmr 0.9": RerankConfig(diversity="mmr", mmr_lambda=0.9),
        "mmr 0.7": RerankConfig(diversity="mmr", mmr_lambda=0.7),
        "dpp 5": RerankConfig(diversity="dpp", dpp_alpha=5.0),
        "dpp 3": RerankConfig(diversity="dpp", dpp_alpha=3.0),
        "3 of a category": RerankConfig(per_category=3),
        "1 of a category": RerankConfig(per_category=1),
        "freshness 0.5": RerankConfig(freshness=0.5),
    }
    some = np.arange(min(1000, len(ranked.items)))
    items = ranked.items[some]
    age = (
        clicks.times[some][:, None] - item_features.available_from[np.maximum(items, 0)]
    ) / 86_400
    rows = measure(
        ways,
        items,
        scores[some],
        clicks.cases.targets[some],
        item_features,
        np.where((items >= 0) & (age >= 0), age, np.nan),
        clicks.cases.users[some],
        seed=seed,
    )
    return json.loads(json.dumps(rows, default=float))
