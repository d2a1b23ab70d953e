"""What each way of re-ranking costs and brings, on lists whose outcome is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrec.loop.bars import ProgressBar
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.metrics import coverage, list_ranks, ndcg, recall
from llmrec.ranking.ctr.item_features import ItemFeatures
from llmrec.ranking.rerank.diversity import unit_rows
from llmrec.ranking.rerank.order import rerank
from llmrec.ranking.rerank.settings import RerankConfig

OFF = "off"


def measure(
    config_by_name: Mapping[str, RerankConfig],
    items: np.ndarray,
    logits: np.ndarray,
    targets: np.ndarray,
    item_features: ItemFeatures,
    age_days: np.ndarray,
    users: np.ndarray,
    *,
    k: int = 10,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Re-rank every list in every way, and compare each with the order of the scores.

    Args:
        config_by_name: the ways; the order of the scores is measured first, named "off".
        items: int ``[cases, c]``, the candidates; -1 where a list is short.
        logits: float ``[cases, c]``.
        targets: int ``[cases]``, the item that was right; negative where none of them was.
        item_features: vectors (zeros where an item has none) and categories (negative where
            unknown) are read.
        age_days: ``[cases, c]``, of the candidates at the case's time; NaN where unknown.
        users: int ``[cases]``, who is resampled.
        k: length of a list.

    Returns:
        A row a way: ``name``; ``options`` that are on; ``cases``; ``metrics``, ``intervals`` (95%)
        and, but for the first, ``differences`` to it with ``difference_intervals`` (95%, paired
        bootstrap). Metrics: ``recall@k``, ``ndcg@k``; ``cosine@k``, the mean over the pairs of
        a list; ``categories@k``, different ones a list; ``age_days@k``, their mean; and
        ``coverage@k``, the share of the catalogue that anybody is recommended, which has no
        interval. Lists of which nothing is known do not count for a metric (two vectors, a
        category, an age).

    Raises:
        ConfigError, LlmrecError: as :func:`llmrec.ranking.rerank.rerank`.
    """
    vectors, category = item_features.fused, item_features.category
    units = unit_rows(vectors)
    rows: list[dict[str, Any]] = []
    plain: dict[str, np.ndarray] = {}
    for name, config in {OFF: RerankConfig(), **config_by_name}.items():
        places = np.full((len(items), k), -1, dtype=np.int64)
        for case, candidates in enumerate(ProgressBar(items, unit="list", desc=name)):
            order = rerank(
                config,
                logits[case],
                k,
                None if config.diversity is None else vectors[candidates],
                category[candidates],
                age_days[case],
                candidates >= 0,
            )
            places[case, : len(order)] = order
        lists = np.where(places >= 0, np.take_along_axis(items, places, axis=1), -1)
        ranks = list_ranks(lists, np.where(targets < 0, -2, targets))  # short lists end with -1
        values = {
            f"cosine@{k}": np.array([_cosine(units[row[row >= 0]]) for row in lists]),
            f"categories@{k}": np.array([_categories(category[row[row >= 0]]) for row in lists]),
            f"age_days@{k}": _mean_age(age_days, places),
            f"ndcg@{k}": ndcg(ranks, k),
            f"recall@{k}": recall(ranks, k),
        }
        row = _row(values, users, seed)
        row["metrics"][f"coverage@{k}"] = coverage(lists, item_features.n_items)
        if rows:
            differences = {metric: values[metric] - plain[metric] for metric in values}
            compared = _row(differences, users, seed)
            row["differences"] = compared["metrics"]
            row["difference_intervals"] = compared["intervals"]
            row["differences"][f"coverage@{k}"] = (
                row["metrics"][f"coverage@{k}"] - rows[0]["metrics"][f"coverage@{k}"]
            )
        plain = plain or values
        rows.append({"name": name, "options": list(config.options), "cases": len(items)} | row)
    return rows


def _mean_age(age_days: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float64 ``[cases]``, of the items at some places of the candidates; NaN where unknown."""
    ages = np.maximum(np.take_along_axis(age_days, places, axis=1), 0.0)
    has = (places >= 0) & np.isfinite(ages)
    counts = has.sum(axis=1)
    sums = np.where(has, ages, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _categories(codes: np.ndarray) -> float:
    """How many different ones a list has; NaN where none is known."""
    return float(len(np.unique(codes[codes >= 0]))) or np.nan


def _cosine(rows: np.ndarray) -> float:
    """Mean cosine of the pairs of rows of length 1; rows of zeros are left out."""
    rows = rows[np.any(rows, axis=1)].astype(np.float64)
    pairs = len(rows) * (len(rows) - 1)
    if not pairs:
        return np.nan
    total = rows.sum(axis=0)
    return float((total @ total - (rows * rows).sum()) / pairs)


def _row(values: Mapping[str, np.ndarray], users: np.ndarray, seed: int) -> dict[str, Any]:
    """Mean and 95% interval of every metric, over the cases that have it."""
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}
    for metric, per_case in values.items():
        has = np.isfinite(per_case)
        if has.any():
            metrics[metric] = float(per_case[has].mean())
            spans |= intervals({metric: per_case[has]}, users[has], seed=seed)
    return {"metrics": metrics, "intervals": spans}
