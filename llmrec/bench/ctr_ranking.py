"""How well the whole cascade ranks what people chose next, and what re-ranking costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.ranking.ctr.material import Folders, Material, make_sources
from llmrec.ranking.ctr.run import choose_llm_weight, ranked_choices
from llmrec.ranking.ctr.settings import CtrConfig

CASES, CANDIDATES = 3000, 600  # people's choices, and candidates of each
_SHOWN = 200  # candidates of a source, in the report


def measure_ranking(
    config: CtrConfig,
    folders: Folders,
    material: Material,
    heads: list[Any],
    seed: int,
    resamples: int,
    out: Path,
) -> tuple[dict[str, float], dict[str, list[float]], list[dict[str, Any]]]:
    """Candidates, the whole cascade against the language model alone, and re-ranking."""
    from llmrec.bench.retrieval import flat_metrics, plot_recall
    from llmrec.metrics.bootstrap import intervals
    from llmrec.metrics.metrics import ndcg, recall
    from llmrec.ranking.ctr.signals import open_models

    models = open_models(folders.models, material.shelf.n_items)
    model = models[-1] if models else None
    weight, tried = choose_llm_weight(config, folders, material, heads, seed)
    bounds = material.shop.bounds
    ranked, targets, asked = ranked_choices(
        config, folders, material, heads, model, (bounds.test, np.inf), CASES, CANDIDATES, seed
    )
    table = _recall_table(config, folders, material, model, asked, resamples, seed)
    plot_recall(table, out.with_name(f"{out.stem}-candidates.png"))
    metrics, spans = flat_metrics(table, _SHOWN)
    metrics["llm_weight"] = weight
    metrics |= {f"validation_ndcg@10_llm_weight_{name}": value for name, value in tried.items()}
    ways = {"cascade": ranked.ranks(ranked.scores(weight), targets),
            "head_alone": ranked.ranks(ranked.scores(0.0), targets)}  # fmt: skip
    if model is not None:
        ways["llm"] = _llm_ranks(model, asked)
    values = {}
    for name, ranks in ways.items():
        values[f"{name}_ndcg@10"] = ndcg(ranks, 10)
        values[f"{name}_recall@10"] = recall(ranks, 10)
    if model is not None:
        for metric in ("ndcg@10", "recall@10"):
            values[f"cascade_minus_llm_{metric}"] = (
                values[f"cascade_{metric}"] - values[f"llm_{metric}"]
            )
    metrics |= {name: float(value.mean()) for name, value in values.items()}
    spans |= {
        name: list(span)
        for name, span in intervals(values, asked.cases.users, resamples, seed).items()
    }
    return metrics, spans, _reranking(material, ranked, ranked.scores(weight), asked, seed)


def _llm_ranks(model: Any, asked: Any) -> np.ndarray:
    """Place of each choice in the language model's own order of the whole catalogue."""
    from llmrec.metrics.metrics import NOT_FOUND, list_ranks
    from llmrec.recommender import Scorer, recommend_from_scores

    histories = asked.cases.histories
    n = min(1000, model.model.n_items)
    ranks = np.full(len(asked.cases), NOT_FOUND, dtype=np.int64)
    for start in range(0, len(ranks), 256):
        part = histories.select(np.arange(start, min(start + 256, len(ranks))))
        if isinstance(model.model, Scorer):
            found = recommend_from_scores(model.model, part, n)
        else:
            found = model.model.recommend(part, min(n, 50))
        ranks[start : start + len(part)] = list_ranks(
            found.items, asked.cases.targets[start : start + len(part)]
        )
    return ranks


def _recall_table(
    config: CtrConfig, folders: Folders, material: Material, model: Any, asked: Any,
    resamples: int, seed: int,
) -> Any:  # fmt: skip
    """How many of the choices each source proposes, as of the beginning of the test part."""
    from llmrec.bench.retrieval import retrieval_table

    sources = make_sources(config, folders, material.shop, model)
    at = int(material.snapshots.of(np.array([material.shop.bounds.test]))[0])
    made = sources(material.snapshots.snapshots[max(at, 0)])
    return retrieval_table(made, asked.cases, _SHOWN, resamples=resamples, seed=seed)


def _reranking(
    material: Material, ranked: Any, scores: np.ndarray, asked: Any, seed: int
) -> list[dict[str, Any]]:
    """What each way of re-ranking costs and brings."""
    from llmrec.bench.rerank import measure
    from llmrec.ranking.rerank.settings import RerankConfig

    shelf = material.shelf
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
    age = (asked.times[some][:, None] - shelf.arrived[np.maximum(items, 0)]) / 86_400
    rows = measure(
        ways, items, scores[some], asked.cases.targets[some], shelf.fused, shelf.category,
        np.where((items >= 0) & (age >= 0), age, np.nan), n_items=shelf.n_items,
        users=asked.cases.users[some], seed=seed,
    )  # fmt: skip
    return json.loads(json.dumps(rows, default=float))
