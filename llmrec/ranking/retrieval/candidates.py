"""The candidates of a moment: what all sources propose together, and what each says of it.

When there are more than ``limit``, the sum over the sources of ``1 / (60 + place)`` decides, where
the place counts from 1 in what the source proposes to this request: reciprocal rank fusion
(Cormack, Clarke and Buettcher, SIGIR 2009). Candidates are in that order, ties by item index.

A filter (``passing``, ``exclude``) is applied to each source's list; a source that is left with
fewer than k proposes further items that pass. Those have rank -1, since they are beyond its own
best k (see :mod:`llmrec.ranking.retrieval.describe`); that they were proposed is in ``proposed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.errors import CatalogError
from llmrec.ranking.retrieval.describe import Described, described_by
from llmrec.ranking.retrieval.sources import (
    Answer,
    Limits,
    Source,
    blocks,
    check_mask,
    check_sources,
    shortlist,
)
from llmrec.types import Histories, Ranking

FUSION = 60.0  # the constant of reciprocal rank fusion, as in the paper


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of one moment.

    Attributes:
        items: int64 ``[c]``, item indices, best by reciprocal rank fusion first.
        described: rank and score ``[c, sources]``, as :class:`Described` has them of a user.
        sources: names, in the order of the last axis.
        proposed: bool ``[c, sources]``, who proposed it, within the filter.
        fused: float64 ``[c]``, the sum that orders them.
    """

    items: np.ndarray
    described: Described
    sources: tuple[str, ...]
    proposed: np.ndarray
    fused: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def sources_of(self, row: int) -> list[str]:
        """Names of the sources that proposed a candidate."""
        return [name for name, own in zip(self.sources, self.proposed[row], strict=True) if own]


def candidates(
    sources: Sequence[Source],
    histories: Histories,
    k: int = 200,
    limit: int = 1000,
    passing: np.ndarray | None = None,
    exclude: Sequence[np.ndarray] | None = None,
) -> list[Candidates]:
    """The candidates of each user, none of which is in the history.

    Args:
        k: items that each source proposes.
        limit: candidates of a user at most.
        passing: bool ``[n_items]``, items that may be proposed; None for all.
        exclude: for each user, item indices that may not be.

    Raises:
        CatalogError: if an item of a history or of ``exclude`` is not in the catalogue, or
            ``passing`` and ``exclude`` do not fit it and the users.
        ConfigError: if the sources cannot be asked together.
    """
    n_items = check_sources(sources)
    passing = check_mask(passing, n_items)
    _check_exclude(exclude, len(histories), n_items)
    made: list[Candidates] = []
    for rows in blocks(len(histories), n_items):
        own = None if exclude is None else [exclude[row] for row in rows]
        made += _of_block(sources, histories.select(rows), k, limit, passing, own)
    return made


def _of_block(
    sources: Sequence[Source],
    histories: Histories,
    k: int,
    limit: int,
    passing: np.ndarray | None,
    exclude: Sequence[np.ndarray] | None,
) -> list[Candidates]:
    n_items = sources[0].n_items
    answers = [source.ask(histories) for source in sources]
    seen = Limits.of_history(histories)
    lists = [answer.best(k, seen) for answer in answers]
    limits = seen.beside(exclude, passing)
    shown = [
        _within(answer, ranking, k, limits, n_items)
        for answer, ranking in zip(answers, lists, strict=True)
    ]
    items, fused, proposed = fuse([ranking.items for ranking in shown], limit, n_items)
    if n_items:
        described = described_by(answers, lists, items, n_items)
    else:
        described = Described.nothing(items.shape, len(sources))
    names = tuple(source.name for source in sources)
    counts = (items >= 0).sum(axis=1)
    return [
        Candidates(
            items[user, :count],
            Described(described.rank[user, :count], described.score[user, :count]),
            names,
            proposed[user, :count],
            fused[user, :count],
        )
        for user, count in enumerate(counts)
    ]


def _within(answer: Answer, ranking: Ranking, k: int, limits: Limits, n_items: int) -> Ranking:
    """What a source proposes to a request: its list, or a longer one where a filter cuts it."""
    kept, counts = shortlist(ranking.items, ranking.scores, k, limits, n_items)
    complete = (counts == (ranking.items >= 0).sum(axis=1)) | (counts == k)
    return kept if complete.all() else answer.best(k, limits)


def fuse(
    lists: Sequence[np.ndarray], limit: int, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join ranked lists by reciprocal rank fusion.

    Args:
        lists: a source each, int64 ``[users, k]``, each item at most once a user; -1 pads.
        limit: items of a user at most.

    Returns:
        items int64 ``[users, c]``, best first, -1 pads; the sums float64 ``[users, c]``, 0 at
        padding; and bool ``[users, c, lists]``, whose list an item is on.

    >>> items, fused, proposed = fuse([np.array([[3, 1]]), np.array([[1, -1]])], 5, 4)
    >>> items.tolist(), proposed.tolist()
    ([[1, 3]], [[[True, True], [True, False]]])
    """
    n_users = len(lists[0])
    users, place = np.indices(lists[0].shape)
    filled = [own >= 0 for own in lists]
    keys = [(users * n_items + own)[on] for own, on in zip(lists, filled, strict=True)]
    gains = [1.0 / (FUSION + 1 + place[on]) for on in filled]
    joined, row = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(row, weights=np.concatenate(gains), minlength=len(joined))
    owner, item = joined // max(n_items, 1), joined % max(n_items, 1)
    on_list = np.zeros((len(joined), len(lists)), dtype=bool)
    on_list[row, np.repeat(np.arange(len(lists)), [len(own) for own in keys])] = True
    order = np.lexsort((item, -sums, owner))
    owner = owner[order]
    column = np.arange(len(owner)) - np.searchsorted(owner, owner)
    within = column < limit
    order, owner, column = order[within], owner[within], column[within]
    width = int(column.max(initial=-1)) + 1
    items = np.full((n_users, width), -1, dtype=np.int64)
    fused = np.zeros((n_users, width))
    proposed = np.zeros((n_users, width, len(lists)), dtype=bool)
    items[owner, column], fused[owner, column] = item[order], sums[order]
    proposed[owner, column] = on_list[order]
    return items, fused, proposed


def _check_exclude(exclude: Sequence[np.ndarray] | None, n_users: int, n_items: int) -> None:
    if exclude is None:
        return
    if len(exclude) != n_users:
        raise CatalogError(f"exclude: has {len(exclude)} lists for {n_users} users")
    for own in map(np.asarray, exclude):
        if own.dtype == bool:
            raise CatalogError("exclude: items are given by their indices, not by a mask")
        if len(own) and not (own.min() >= 0 and own.max() < n_items):
            raise CatalogError(f"exclude: an item is not among the {n_items} of the catalogue")
