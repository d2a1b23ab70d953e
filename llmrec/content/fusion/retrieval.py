"""Item-to-item retrieval: from one item a user liked, find the others they liked.

A case is a user and an item that they liked, the query. The catalogue is ranked by the cosine
with the query, the query left out; relevant is all else that this user liked. Recall@k is the
share found among the first k, of at most k (as in Liang et al. 2018, so that a perfect ranking has
1 also for users who like hundreds of items). The value of a query is the mean over the users who
liked it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.content.features.models import unit_rows
from llmrec.recommender import top_n
from llmrec.types import Histories

_BLOCK = 512  # queries scored at once: memory is this many rows of the catalogue


@dataclass(frozen=True, eq=False)
class RetrievalCases:
    """Queries of users and what is relevant to them.

    Attributes:
        users: int64 ``[cases]``, numbers of users.
        queries: int64 ``[cases]``, item indices.
        relevant: int64 ``[cases]``, how many other items the user liked.
        liked: int64, sorted, ``user * n_items + item`` of everything that somebody liked.
        n_items: items of the catalogue.
    """

    users: np.ndarray
    queries: np.ndarray
    relevant: np.ndarray
    liked: np.ndarray
    n_items: int

    def __len__(self) -> int:
        return len(self.users)

    def where(self, queries: np.ndarray) -> RetrievalCases:
        """The cases of some queries.

        Args:
            queries: bool ``[items]``.
        """
        keep = queries[self.queries]
        return RetrievalCases(
            self.users[keep], self.queries[keep], self.relevant[keep], self.liked, self.n_items
        )


@dataclass(frozen=True, eq=False)
class RetrievalScores:
    """The metrics of every case.

    Attributes:
        cases: the queries.
        values: metric -> float64 ``[cases]``.
    """

    cases: RetrievalCases
    values: dict[str, np.ndarray]

    def where(self, queries: np.ndarray) -> RetrievalScores:
        """The same of some queries: bool ``[items]``."""
        keep = queries[self.cases.queries]
        values = {name: value[keep] for name, value in self.values.items()}
        return RetrievalScores(self.cases.where(queries), values)

    def by_query(self) -> dict[str, np.ndarray]:
        """Metric -> float64 ``[queries]``: the mean over the users of each query."""
        _, owner = np.unique(self.cases.queries, return_inverse=True)
        sizes = np.bincount(owner)
        return {name: np.bincount(owner, value) / sizes for name, value in self.values.items()}


def retrieval_cases(histories: Histories, n_items: int) -> RetrievalCases:
    """Every liked item of every user who liked two items or more.

    >>> cases = retrieval_cases(Histories.from_lists([[3, 1, 3], [2]]), 4)
    >>> cases.users.tolist(), cases.queries.tolist(), cases.relevant.tolist()
    ([0, 0], [1, 3], [1, 1])
    """
    owner = np.repeat(np.arange(len(histories), dtype=np.int64), histories.lengths())
    liked = np.unique(owner * n_items + histories.items)
    users, queries = liked // n_items, liked % n_items
    others = np.bincount(users, minlength=len(histories))[users] - 1
    usable = others > 0
    return RetrievalCases(users[usable], queries[usable], others[usable], liked, n_items)


def measure(vectors: np.ndarray, cases: RetrievalCases, k: int = 10) -> RetrievalScores:
    """Recall@k and NDCG@k of every case.

    Args:
        vectors: float32 ``[items, dim]``; a zero row has cosine 0 with everything. Equal cosines
            are ordered by item index.

    >>> cases = retrieval_cases(Histories.from_lists([[0, 1]]), 3)
    >>> found = measure(np.array([[1, 0], [1, 0.1], [0, 1]], np.float32), cases, 1)
    >>> found.values["recall@1"].tolist()
    [1.0, 1.0]
    """
    queries, place = np.unique(cases.queries, return_inverse=True)
    lists = nearest(vectors, queries, k)[place]
    keys = cases.users[:, None] * cases.n_items + lists
    spot = np.minimum(np.searchsorted(cases.liked, keys), len(cases.liked) - 1)
    hits = (cases.liked[spot] == keys).astype(np.float64)
    discounts = 1 / np.log2(np.arange(hits.shape[1]) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    possible = np.minimum(cases.relevant, hits.shape[1])
    values = {
        f"recall@{k}": hits.sum(axis=1) / possible,
        f"ndcg@{k}": hits @ discounts / ideal[possible],
    }
    return RetrievalScores(cases, values)


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The k items nearest to each query by cosine, itself left out: int64 ``[queries, k]``.

    Fewer columns where the catalogue has fewer other items.
    """
    unit = unit_rows(vectors)
    k = min(k, len(unit) - 1)
    lists = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        scores = unit[block] @ unit.T
        scores[np.arange(len(block)), block] = -np.inf
        lists[start : start + len(block)] = top_n(scores, k).items
    return lists
