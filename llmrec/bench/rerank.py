"""What each way of re-ranking costs and brings, on lists whose outcome is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.metrics import coverage, list_ranks, ndcg, recall
from llmrec.ranking.rerank.diversity import unit_rows
from llmrec.ranking.rerank.order import rerank
from llmrec.ranking.rerank.settings import RerankConfig

OFF = "off"


def measure(
    config_by_name: Mapping[str, RerankConfig],
    items: np.ndarray,
    logits: np.ndarray,
    targets: np.ndarray,
    vectors: np.ndarray | None = None,
    category: np.ndarray | None = None,
    age_days: np.ndarray | None = None,
    *,
    n_items: int,
    users: np.ndarray | None = None,
    k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Re-rank every list in every way, and compare each with the order of the scores.

    Args:
        config_by_name: the ways; the name "off" is kept for the order of the scores, which is
            measured first whether or not it is named.
        items: int ``[cases, c]``, the candidates; -1 where a list is short.
        logits: float ``[cases, c]``.
        targets: int ``[cases]``, the item that was right; negative where none of them was.
        vectors: ``[n_items, d]``, zeros where an item has none.
        category: int ``[n_items]``, negative where unknown.
        age_days: ``[cases, c]``, of the candidates at the case's moment; NaN where unknown.
        n_items: the catalogue's size.
        users: int ``[cases]``, who is resampled; None takes every case as its own user.
        k: length of a list.

    Returns:
        A row a way: ``name``; ``options`` that are on; ``cases``; ``metrics``, ``intervals`` (95%)
        and, but for the first, ``differences`` to it with ``difference_intervals`` (95%, paired
        bootstrap). Metrics: ``recall@k``, ``ndcg@k``; ``cosine@k``, the mean over the pairs of
        a list; ``categories@k``, different ones a list; ``age_days@k``, their mean; and
        ``coverage@k``, the share of the catalogue that anybody is shown, which has no interval.
        What was not given is left out; lists of which nothing is known do not count for a metric
        (two vectors, a category, an age).

    Raises:
        ValueError: for the name "off" with an option on, or no candidates.
        ConfigError, LlmrecError: as :func:`llmrec.ranking.rerank.rerank`.
    """
    if not items.size:
        raise ValueError("no lists to measure")
    if config_by_name.get(OFF, RerankConfig()).options:
        raise ValueError(f"the name {OFF!r} is of the order of the scores; take another")
    ways = {OFF: RerankConfig(), **config_by_name}
    known = _Known(None if vectors is None else unit_rows(vectors), category, age_days)
    rows: list[dict[str, Any]] = []
    plain: dict[str, np.ndarray] = {}
    for name, config in ways.items():
        places = _places(config, items, logits, vectors, category, age_days, k, name)
        lists = np.where(places >= 0, np.take_along_axis(items, places, axis=1), -1)
        values = known.values(lists, places) | _accuracy(lists, targets, k)
        values = {f"{metric}@{k}": per_case for metric, per_case in values.items()}
        covered = coverage(lists, n_items)
        row = _row(values, users, resamples, seed)
        row["metrics"][f"coverage@{k}"] = covered
        if rows:
            differences = {metric: values[metric] - plain[metric] for metric in values}
            compared = _row(differences, users, resamples, seed)
            row["differences"] = compared["metrics"]
            row["difference_intervals"] = compared["intervals"]
            row["differences"][f"coverage@{k}"] = covered - rows[0]["metrics"][f"coverage@{k}"]
        plain = plain or values
        rows.append({"name": name, "options": list(config.options), "cases": len(items)} | row)
    return rows


class _Known:
    """What is known of items, and what lists are like by it."""

    def __init__(
        self,
        units: np.ndarray | None,
        category: np.ndarray | None,
        age_days: np.ndarray | None,
    ) -> None:
        self.units, self.category, self.age_days = units, category, age_days

    def values(self, lists: np.ndarray, places: np.ndarray) -> dict[str, np.ndarray]:
        """float64 ``[cases]`` by metric; NaN where nothing is known of a list."""
        values = {}
        if self.units is not None:
            values["cosine"] = np.array([_cosine(self.units[row[row >= 0]]) for row in lists])
        if self.category is not None:
            shown = [self.category[row[row >= 0]] for row in lists]
            different = np.array([len(np.unique(row[row >= 0])) for row in shown], dtype=float)
            values["categories"] = np.where(different > 0, different, np.nan)
        if self.age_days is not None:
            ages = np.maximum(np.take_along_axis(self.age_days, places, axis=1), 0.0)
            has = (places >= 0) & np.isfinite(ages)
            sums = np.where(has, ages, 0.0).sum(axis=1)
            counts = has.sum(axis=1)
            values["age_days"] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return values


def _places(
    config: RerankConfig,
    items: np.ndarray,
    logits: np.ndarray,
    vectors: np.ndarray | None,
    category: np.ndarray | None,
    age_days: np.ndarray | None,
    k: int,
    name: str,
) -> np.ndarray:
    """int64 ``[cases, k]``, where in its candidates each shown item is; -1 behind the last."""
    places = np.full((len(items), k), -1, dtype=np.int64)
    diverse = config.diversity is not None
    for case, candidates in enumerate(tqdm(items, unit="list", desc=name, disable=None)):
        order = rerank(
            config,
            logits[case],
            k,
            vectors[candidates] if diverse and vectors is not None else None,
            None if category is None else category[candidates],
            None if age_days is None else age_days[case],
            candidates >= 0,
        )
        places[case, : len(order)] = order
    return places


def _accuracy(lists: np.ndarray, targets: np.ndarray, k: int) -> dict[str, np.ndarray]:
    targets = np.where(np.asarray(targets) < 0, -2, targets)  # -1 would be found in short lists
    ranks = list_ranks(lists, targets)
    return {"ndcg": ndcg(ranks, k), "recall": recall(ranks, k)}


def _cosine(rows: np.ndarray) -> float:
    """Mean cosine of the pairs of rows of length 1; rows of zeros are left out."""
    rows = rows[np.any(rows, axis=1)].astype(np.float64)
    pairs = len(rows) * (len(rows) - 1)
    if not pairs:
        return np.nan
    total = rows.sum(axis=0)
    return float((total @ total - (rows * rows).sum()) / pairs)


def _row(
    values: Mapping[str, np.ndarray], users: np.ndarray | None, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Mean and 95% interval of every metric, over the cases that have it."""
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}
    for metric, per_case in values.items():
        has = np.isfinite(per_case)
        if has.any():
            of = None if users is None else np.asarray(users)[has]
            metrics[metric] = float(per_case[has].mean())
            spans |= intervals({metric: per_case[has]}, of, resamples, seed)
    return {"metrics": metrics, "intervals": spans}
