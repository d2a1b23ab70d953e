"""Validation while training: the same evaluation as everywhere, on the cases of one split."""

from __future__ import annotations

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.metrics.measure import evaluate
from llmrec.recommender import ListRecommender, Scorer
from llmrec.types import Cases


def validation_cases(dataset: Dataset, users: int, seed: int) -> Cases:
    """The validation cases, or a seeded sample of ``users`` of them (0 is all), whole baskets.

    Raises:
        DataError: if the split has none.
    """
    cases = dataset.cases("validation")
    if len(cases) == 0:
        raise DataError(
            f"{dataset.folder}: has no validation events; ingest with a split that has some"
        )
    if 0 < users < len(cases.starts):
        rows = np.random.default_rng(seed).choice(len(cases.starts), users, replace=False)
        cases = cases.select_whole(np.sort(rows))
    return cases


def validation_metrics(recommender: Scorer | ListRecommender, cases: Cases) -> dict[str, float]:
    """``recall@10`` and ``ndcg@10``, the history removed from the ranking (of baskets, not)."""
    counts = np.zeros(recommender.n_items, dtype=np.int64)  # popularity plays no part here
    result = evaluate(recommender, cases, counts, ks=(10,), list_length=10, with_history=False)
    return {metric: result.mean(metric) for metric in ("recall@10", "ndcg@10")}
