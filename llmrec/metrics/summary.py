"""From the outcome of every case to the figures of a result file."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.measure import Evaluation, Outcome
from llmrec.metrics.metrics import (
    coverage,
    invalid_rate,
    popularity_bias,
    short_list_rate,
)
from llmrec.metrics.slices import slice_rows


def metrics_of(evaluation: Evaluation, outcome: Outcome) -> dict[str, float]:
    """Every metric of one protocol, flat.

    ``mrr`` runs over the whole catalogue for exact ranks and over the list otherwise;
    ``mrr@k`` means the same for both.
    """
    n_items = evaluation.n_items
    values = evaluation.values(outcome)
    metrics = {name: float(value.mean()) for name, value in values.items()}
    for k in evaluation.ks:
        lists = outcome.lists[:, :k]
        metrics[f"coverage@{k}"] = coverage(lists, n_items)
        bias = popularity_bias(lists, evaluation.train_counts)
        metrics |= {f"{name}@{k}": value for name, value in bias.items()}
    metrics["invalid_rate"] = invalid_rate(outcome.lists, n_items, outcome.invalid_reported)
    metrics["short_list_rate"] = short_list_rate(outcome.lists)
    metrics["seen_rate"] = outcome.seen / max(int(np.count_nonzero(outcome.lists >= 0)), 1)
    return metrics


def intervals_of(
    evaluation: Evaluation, outcome: Outcome, resamples: int, seed: int
) -> dict[str, list[float]]:
    """95% bootstrap intervals of the metrics that are means over cases."""
    return intervals(evaluation.values(outcome), evaluation.users, resamples, seed)


def slices_of(
    evaluation: Evaluation, outcome: Outcome, resamples: int, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Recall and NDCG of cases that belong together.

    Returns:
        by slice (``item_popularity``, by the target's training count, where bucket "0" is the cold
        items, or of baskets ``basket_size``; ``history_length``; with times
        ``days_since_last_event``; with names ``name_order``), then by bucket: ``cases``,
        ``metrics`` and ``intervals``. Buckets without a case are left out.
    """
    k = 10 if 10 in evaluation.ks else evaluation.ks[0]
    by_case = evaluation.values(outcome, [k])
    kept = {metric: by_case[metric] for metric in (f"recall@{k}", f"ndcg@{k}")}
    sliced: dict[str, dict[str, dict[str, Any]]] = {}
    for name, parts in slice_rows(evaluation.facts, evaluation.basket).items():
        sliced[name] = {}
        for label, rows in parts:
            values = {metric: value[rows] for metric, value in kept.items()}
            sliced[name][label] = {
                "cases": len(rows),
                "metrics": {metric: float(value.mean()) for metric, value in values.items()},
                "intervals": intervals(values, evaluation.users[rows], resamples, seed),
            }
    return sliced
