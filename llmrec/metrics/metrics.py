"""Ranking metrics as pure functions.

What decides a metric is the target's *rank*: int64 ``[cases]``, 0 is the top, and
:data:`NOT_FOUND` (or anything from the catalogue's size on) means that the target was not
found. The functions of ranks return one value a case; the metric is their mean, and the
single values are what the bootstrap resamples. A case has one target, or in next-basket
recommendation several, whose ranks :func:`per_case` brings together. The functions
of *lists* look at what was recommended: integers ``[cases, k]``, best first, -1 where a
list is short.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NOT_FOUND = 2**31 - 1  # beyond every cut-off, also where k exceeds a small catalogue


def target_ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Exact rank of every case's target among the whole catalogue.

    Ties are ordered as in :func:`llmrec.recommender.top_n`: the smaller index first. A
    target scored -inf may not be recommended and counts as not found.

    Args:
        scores: float ``[cases, items]`` without NaN.
        targets: int ``[cases]``.

    Returns:
        int64 ``[cases]``.

    >>> target_ranks(np.array([[0.1, 0.5, 0.5], [0.3, 0.2, -np.inf]]), np.array([2, 2]))
    array([         1, 2147483647])
    """
    n_items = scores.shape[1]
    targets = np.asarray(targets, dtype=np.int64)
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    earlier = np.arange(n_items)[None, :] < targets[:, None]
    better = np.count_nonzero(scores > own, axis=1)
    tied = np.count_nonzero((scores == own) & earlier, axis=1)
    return np.where(np.isneginf(own[:, 0]), NOT_FOUND, better + tied).astype(np.int64)


def list_ranks(lists: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Position of every target in its list; :data:`NOT_FOUND` where it is not there.

    >>> list_ranks(np.array([[4, 2, -1], [4, 2, 0]]), np.array([2, 1]))
    array([         1, 2147483647])
    """
    found = lists == np.asarray(targets)[:, None]
    if not lists.shape[1]:
        return np.full(len(lists), NOT_FOUND, dtype=np.int64)
    return np.where(found.any(axis=1), found.argmax(axis=1), NOT_FOUND).astype(np.int64)


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first k.

    >>> recall(np.array([0, 4, 5]), 5)
    array([1., 1., 0.])
    """
    return (np.asarray(ranks) < k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain: 1 / log2(rank + 2) within the first k.

    The ideal ranking has its one target on top, so the normaliser is 1
    (Jarvelin and Kekalainen, 2002, with one relevant item).

    >>> ndcg(np.array([0, 2, 9]), 5)
    array([1. , 0.5, 0. ])
    """
    ranks = np.asarray(ranks)
    return np.where(ranks < k, 1 / np.log2(np.minimum(ranks, k) + 2.0), 0.0)


def reciprocal_rank(ranks: np.ndarray, limit: int) -> np.ndarray:
    """1 / (rank + 1), and 0 from rank ``limit`` on; its mean is the MRR.

    Args:
        ranks: int ``[cases]``.
        limit: the catalogue's size for the plain MRR, k for MRR@k.

    >>> reciprocal_rank(np.array([0, 3, 7]), 7)
    array([1.  , 0.25, 0.  ])
    """
    ranks = np.asarray(ranks)
    return np.where(ranks < limit, 1 / (np.minimum(ranks, limit) + 1.0), 0.0)


def per_case(
    ranks: np.ndarray, n_items: int, ks: Sequence[int], case: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every metric of ranks, one value a case.

    With one target a case, hit rate is recall, and average precision the reciprocal rank.
    With several, recall is the share of them among the first k, hit rate whether any is there,
    NDCG is normalised by that of the best ranking of so many targets, average precision by how
    many of them k places can hold, and the reciprocal rank is that of the first one found.

    Args:
        ranks: int64 ``[targets]``.
        n_items: the catalogue's size; ranks from there on are misses.
        ks: cut-offs.
        case: int ``[targets]``, the case of each target, rising from 0 without gaps; None: one
            target a case.

    Returns:
        Metric name to float64 ``[cases]``.

    >>> values = per_case(np.array([0, 3]), n_items=10, ks=[2])
    >>> {name: float(value.mean()) for name, value in values.items()}["recall@2"]
    0.5
    >>> list(values)
    ['recall@2', 'hr@2', 'precision@2', 'f1@2', 'ndcg@2', 'map@2', 'mrr@2', 'mrr']
    >>> per_case(np.array([0, 3, 1]), n_items=10, ks=[2], case=np.array([0, 0, 1]))["recall@2"]
    array([0.5, 1. ])
    """
    ranks = np.where(np.asarray(ranks) < n_items, ranks, NOT_FOUND)
    case = np.arange(len(ranks)) if case is None else np.asarray(case)
    order = np.lexsort((ranks, case))  # the targets of a case, best first
    ranks, case = ranks[order], case[order]
    sizes = np.bincount(case)
    starts = np.cumsum(sizes) - sizes
    found = np.arange(len(ranks)) - starts[case] + 1  # targets of the case down to this one

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(case, weights=values, minlength=len(sizes))

    values = {}
    for k in ks:
        hits = total(recall(ranks, k))
        values[f"recall@{k}"] = hits / sizes
        values[f"hr@{k}"] = (hits > 0).astype(np.float64)
        values[f"precision@{k}"] = hits / k
        values[f"f1@{k}"] = 2 * hits / (k + sizes)
        values[f"ndcg@{k}"] = total(ndcg(ranks, k)) / ideal_dcg(sizes, k)
        average = total(found * reciprocal_rank(ranks, k))
        values[f"map@{k}"] = average / np.minimum(sizes, k)
        values[f"mrr@{k}"] = reciprocal_rank(ranks[starts], k)
    values["mrr"] = reciprocal_rank(ranks[starts], n_items)
    return values


def ideal_dcg(sizes: np.ndarray, k: int) -> np.ndarray:
    """Discounted cumulative gain at k of so many targets when all are on top.

    >>> ideal_dcg(np.array([1, 2, 9]), 2).round(3).tolist()
    [1.0, 1.631, 1.631]
    """
    gains = np.cumsum(1 / np.log2(np.arange(k) + 2.0))
    return np.asarray(gains[np.minimum(sizes, k) - 1])


def exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    """How often every item was recommended; places outside the catalogue are left out.

    Returns:
        int64 ``[items]``.

    >>> exposure(np.array([[0, 2], [2, -1]]), 3)
    array([1, 0, 2])
    """
    return np.bincount(lists[(lists >= 0) & (lists < n_items)], minlength=n_items)


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that is recommended to anybody.

    >>> coverage(np.array([[0, 2], [2, -1]]), 4)
    0.5
    """
    return float(np.count_nonzero(exposure(lists, n_items)) / n_items)


def gini(amounts: np.ndarray) -> float:
    """Gini coefficient of non-negative amounts: 0 when all are equal, towards 1 when one has all.

    0 by convention when there is nothing to share.

    >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)
    """
    amounts = np.sort(np.asarray(amounts, dtype=np.float64))
    n, total = len(amounts), amounts.sum()
    if total == 0:
        return 0.0
    return float(2 * (np.arange(1, n + 1) @ amounts) / (n * total) - (n + 1) / n)


def popularity_percentiles(train_counts: np.ndarray) -> np.ndarray:
    """Where every item stands in the order of training counts; ties share their middle.

    Returns:
        float64 ``[items]`` in (0, 1); their mean over the catalogue is 0.5.

    >>> popularity_percentiles(np.array([9, 0, 0, 3]))
    array([0.875, 0.25 , 0.25 , 0.625])
    """
    order = np.sort(train_counts)
    below = np.searchsorted(order, train_counts, side="left")
    not_above = np.searchsorted(order, train_counts, side="right")
    return (below + not_above) / (2 * len(train_counts))


def popularity_bias(lists: np.ndarray, train_counts: np.ndarray) -> dict[str, float]:
    """How much the lists lean on what sells anyway.

    Args:
        lists: int ``[cases, k]``.
        train_counts: int ``[items]``, events of each item in training.

    Returns:
        ``popularity_log``: mean of ln(1 + training count) over recommended places;
        ``popularity_percentile``: mean of :func:`popularity_percentiles`, 0.5 is no bias;
        ``gini``: inequality of exposure over the catalogue.

    >>> popularity_bias(np.array([[0], [0]]), np.array([0, 5]))
    {'popularity_log': 0.0, 'popularity_percentile': 0.25, 'gini': 0.5}
    """
    shown = exposure(lists, len(train_counts))
    places = max(int(shown.sum()), 1)
    return {
        "popularity_log": float(shown @ np.log1p(train_counts) / places),
        "popularity_percentile": float(shown @ popularity_percentiles(train_counts) / places),
        "gini": gini(shown),
    }


def invalid_rate(lists: np.ndarray, n_items: int, reported: int = 0) -> float:
    """Share of the filled places that hold no item.

    Args:
        lists: int ``[cases, k]``; -1 is padding and is neither valid nor invalid.
        n_items: the catalogue's size.
        reported: places that the engine itself dropped because what it generated was no item.

    >>> invalid_rate(np.array([[0, 7, -1, -1]]), n_items=5)
    0.5
    >>> invalid_rate(np.array([[0, 1, -1, -1]]), n_items=5, reported=2)
    0.5
    """
    filled = int(np.count_nonzero(lists != -1)) + reported
    wrong = int(np.count_nonzero((lists < -1) | (lists >= n_items))) + reported
    return wrong / max(filled, 1)


def short_list_rate(lists: np.ndarray) -> float:
    """Share of the lists that have fewer items than requested.

    >>> short_list_rate(np.array([[3, 1], [2, -1]]))
    0.5
    """
    return float((lists == -1).any(axis=1).mean()) if len(lists) else 0.0
