"""Validation while training: the same evaluation as everywhere, on the cases of one split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.dataset import Dataset, Split
from llmrec.data.domains import Domains
from llmrec.errors import DataError
from llmrec.metrics.measure import evaluate
from llmrec.recommender import ListRecommender, Scorer
from llmrec.types import Cases, Histories


def validation_cases(dataset: Dataset, users: int, seed: int) -> Cases:
    """The validation cases, or a seeded sample of ``users`` of them (0 is all), whole baskets.

    Raises:
        DataError: if the split has none.
    """
    return sampled_cases(dataset, "validation", users, seed)


def sampled_cases(dataset: Dataset, split: Split, users: int, seed: int) -> Cases:
    """The cases of a split, or a seeded sample of ``users`` of them (0 is all), whole baskets.

    Raises:
        DataError: if the split has none.
    """
    cases = dataset.cases(split)
    if len(cases) == 0:
        raise DataError(
            f"{dataset.folder}: has no {split} events; ingest with a split that has some"
        )
    if 0 < users < len(cases.starts):
        rows = np.random.default_rng(seed).choice(len(cases.starts), users, replace=False)
        cases = cases.select_whole(np.sort(rows))
    return cases


def validation_metrics(
    recommender: Scorer | ListRecommender, cases: Cases, domains: Domains | None = None
) -> dict[str, float]:
    """``recall@10`` and ``ndcg@10``, the history removed from the ranking (of baskets, not).

    Args:
        domains: rank each case among the items of its target's domain; None: among all items.
    """
    if domains is not None:
        assert isinstance(recommender, Scorer)
        return _in_domains(recommender, cases, domains)
    counts = np.zeros(recommender.n_items, dtype=np.int64)  # popularity plays no part here
    result = evaluate(recommender, cases, counts, ks=(10,), list_length=10, with_history=False)
    return {metric: result.mean(metric) for metric in ("recall@10", "ndcg@10")}


@dataclass(frozen=True)
class InDomain:
    """A Scorer whose best items are those of one domain."""

    scorer: Scorer
    outside: np.ndarray

    @property
    def n_items(self) -> int:
        return self.scorer.n_items

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, n_items]``; items of other domains stand last."""
        scores = self.scorer.score(histories)
        scores[:, self.outside] = scores.min(initial=0) - 1
        return scores


def _in_domains(scorer: Scorer, cases: Cases, domains: Domains) -> dict[str, float]:
    """The metrics of each domain's cases, the mean over all cases."""
    of_case, total = domains.of_item[cases.targets], dict[str, float]()
    for number in np.unique(of_case):
        part = cases.select(of_case == number)
        inside = InDomain(scorer, np.flatnonzero(domains.of_item != number))
        for metric, value in validation_metrics(inside, part).items():
            total[metric] = total.get(metric, 0.0) + value * len(part) / len(cases)
    return total
