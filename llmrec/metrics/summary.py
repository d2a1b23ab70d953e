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

# Lower bounds; a bucket ends where the next one starts.
POPULARITY_STARTS = (0, 1, 5, 10, 20, 50)
HISTORY_STARTS = (0, 1, 5, 10, 20, 50)
BASKET_STARTS = (1, 2, 5, 10, 20, 50)


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
    """Recall and NDCG for cold and popular targets and for short and long histories.

    Returns:
        ``item_popularity`` (by the target's training count; bucket "0" is the cold items), or of
        baskets ``basket_size``, and ``history_length``: bucket name to ``cases``, ``metrics`` and
        ``intervals``. Buckets without a case are left out.
    """
    k = 10 if 10 in evaluation.ks else evaluation.ks[0]
    keep = (f"recall@{k}", f"ndcg@{k}")
    by_case = evaluation.values(outcome, [k])
    first = ("item_popularity", evaluation.target_counts, POPULARITY_STARTS)
    if evaluation.basket is not None:
        first = ("basket_size", np.bincount(evaluation.basket), BASKET_STARTS)
    sliced: dict[str, dict[str, dict[str, Any]]] = {}
    for name, amounts, starts in (
        first,
        ("history_length", evaluation.history_lengths, HISTORY_STARTS),
    ):
        sliced[name] = {}
        for label, rows in buckets(amounts, starts):
            values = {metric: by_case[metric][rows] for metric in keep}
            sliced[name][label] = {
                "cases": len(rows),
                "metrics": {metric: float(value.mean()) for metric, value in values.items()},
                "intervals": intervals(values, evaluation.users[rows], resamples, seed),
            }
    return sliced


def buckets(amounts: np.ndarray, starts: tuple[int, ...]) -> list[tuple[str, np.ndarray]]:
    """Rows of every non-empty bucket.

    Args:
        amounts: int ``[cases]``, none below ``starts[0]``.
        starts: lower bounds, rising.

    >>> [(name, rows.tolist()) for name, rows in buckets(np.array([0, 3, 9]), (0, 1, 5))]
    [('0', [0]), ('1-4', [1]), ('5+', [2])]
    """
    found = []
    place = np.searchsorted(starts, amounts, side="right") - 1
    for i, start in enumerate(starts):
        rows = np.flatnonzero(place == i)
        if not len(rows):
            continue
        if i + 1 == len(starts):
            label = f"{start}+"
        else:
            label = str(start) if starts[i + 1] == start + 1 else f"{start}-{starts[i + 1] - 1}"
        found.append((label, rows))
    return found
