"""The candidates of a request: what all sources propose, with each source's features of it.

When there are more than ``limit``, the sum over the sources of ``1 / (60 + position)`` decides,
positions counting from 1 in what the source proposes to this request: reciprocal rank fusion
(Cormack, Clarke and Buettcher, SIGIR 2009). Candidates are in that order, ties by item index.

The constraints of a request are applied to each source's list; a source that is left with
fewer than k proposes further items that pass. Those have rank -1, since they are beyond its own
best k (see :mod:`llmrec.ranking.retrieval.source_features`); that they were proposed is in
``proposed``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmrec.errors import CatalogError, ConfigError
from llmrec.ranking.retrieval.source import (
    Limits,
    Source,
    SourceScores,
    blocks,
    check_sources,
    shortlist,
)
from llmrec.ranking.retrieval.source_features import SourceFeatures, features_from
from llmrec.types import Histories, Ranking

if TYPE_CHECKING:
    from llmrec.generation.constraints import Constraints

FUSION = 60.0  # the constant of reciprocal rank fusion, as in the paper


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of one request.

    Attributes:
        items: int64 ``[c]``, item indices, best by reciprocal rank fusion first.
        features: rank and score ``[c, sources]``, of :class:`SourceFeatures`.
        proposed: bool ``[c, sources]``, who proposed it, within the filter.
        fused: float64 ``[c]``, the sum that orders them.
    """

    items: np.ndarray
    features: SourceFeatures
    proposed: np.ndarray
    fused: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def proposed_by(self, names: Sequence[str]) -> Candidates:
        """Those that one of some sources proposed, in their order.

        Raises:
            ConfigError: for a name that no source has.
        """
        known = self.features.names
        for name in names:
            if name not in known:
                raise ConfigError(f"sources: {name!r} is not one of {', '.join(known)}")
        rows = np.flatnonzero(self.proposed[:, [known.index(name) for name in names]].any(axis=1))
        return Candidates(
            self.items[rows], self.features[rows], self.proposed[rows], self.fused[rows]
        )

    def sources_of(self, row: int) -> list[str]:
        """Names of the sources that proposed a candidate."""
        names, own = self.features.names, self.proposed[row].tolist()
        return [name for name, proposed in zip(names, own, strict=True) if proposed]


def explain(
    sources: Sequence[Source],
    found: Candidates,
    row: int,
    history: np.ndarray,
    title: Callable[[int], str],
) -> str:
    """Why a candidate is recommended: the reason of the source that ranks it highest and has one.

    Args:
        sources: that proposed the candidates.
        row: of the candidate.
        history: int ``[events]``, item indices, oldest first.
        title: an item's title in quotes, by its index.

    Returns:
        a few words, or nothing where no source has a reason.
    """
    rank, proposed = found.features.rank[row].tolist(), found.proposed[row].tolist()
    beyond = math.inf  # proposed within a filter alone
    proposers = sorted(
        (at for at in range(len(sources)) if proposed[at]),
        key=lambda at: (rank[at] if rank[at] >= 0 else beyond, sources[at].reason_priority),
    )
    reasons = (sources[at].reason(int(found.items[row]), history, title) for at in proposers)
    return next(filter(None, reasons), "")


def candidates(
    sources: Sequence[Source],
    histories: Histories,
    k: int = 200,
    limit: int = 1000,
    constraints: Constraints | Sequence[Constraints] | None = None,
    *,
    exclude_history: bool = True,
) -> list[Candidates]:
    """The candidates of each user.

    Args:
        k: items that each source proposes.
        limit: candidates of a user at most.
        constraints: what may be proposed to each of the users, or one a user, all of them with
            the same filter; None for everything.
        exclude_history: leave out what a user already has in the history. Ranks are always
            those of lists without it, as in training.

    Raises:
        CatalogError: if an item of a history is not in the catalogue, or ``constraints`` are of
            another one.
        ConfigError: if the sources cannot be queried together, or filters differ.
    """
    n_items = check_sources(sources)
    own = _one_a_user(constraints, len(histories))
    for one in own or ():
        _check(one, n_items)
    if own and any(one.allow is not own[0].allow for one in own):
        raise ConfigError("constraints: users who are answered together need the same filter")
    made: list[Candidates] = []
    for rows in blocks(len(histories), n_items):
        part, theirs = histories.select(rows), own and [own[row] for row in rows]
        made += _of_block(sources, part, k, limit, theirs, exclude_history)
    return made


def _one_a_user(
    constraints: Constraints | Sequence[Constraints] | None, n_users: int
) -> list[Constraints] | None:
    if constraints is None:
        return None
    return list(constraints) if isinstance(constraints, Sequence) else [constraints] * n_users


def _check(constraints: Constraints, n_items: int) -> None:
    exclude, allow = np.asarray(constraints.exclude), constraints.allow
    if len(exclude) and not (exclude.min() >= 0 and exclude.max() < n_items):
        raise CatalogError(f"exclude: an item is not among the {n_items} of the catalogue")
    if allow is not None and len(allow.passes) != n_items:
        raise CatalogError(f"allow: is a filter of {len(allow.passes)} items, not of {n_items}")


def _of_block(
    sources: Sequence[Source],
    histories: Histories,
    k: int,
    limit: int,
    constraints: Sequence[Constraints] | None,
    exclude_history: bool,
) -> list[Candidates]:
    n_items = sources[0].n_items
    names = tuple(source.name for source in sources)
    scores = [source.query(histories) for source in sources]
    catalogue = sources[0].catalogue
    own = Limits.of_requests(histories, catalogue)
    lists = [one.best(k, own) for one in scores]
    if not exclude_history:
        own = Limits.of_requests(histories, catalogue, exclude_history=False)
    limits = own.within(constraints)
    if exclude_history:
        proposals = [
            _within(one, ranking, k, limits, n_items).items
            for one, ranking in zip(scores, lists, strict=True)
        ]
    else:
        proposals = [one.best(k, limits).items for one in scores]
    items, fused, proposed = fuse(proposals, limit, n_items)
    if n_items:
        features = features_from(names, scores, lists, items, n_items)
    else:
        features = SourceFeatures.empty(names, items.shape)
    return [
        Candidates(
            items[user, :count],
            features[user, :count],
            proposed[user, :count],
            fused[user, :count],
        )
        for user, count in enumerate((items >= 0).sum(axis=1))
    ]


def _within(scores: SourceScores, ranking: Ranking, k: int, limits: Limits, n: int) -> Ranking:
    """What a source proposes to a request: its list, or a longer one where a filter cuts it."""
    kept, counts = shortlist(ranking.items, ranking.scores, k, limits, n)
    complete = (counts == (ranking.items >= 0).sum(axis=1)) | (counts == k)
    return kept if complete.all() else scores.best(k, limits)


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
    users, position = np.indices(lists[0].shape)
    filled = [own >= 0 for own in lists]
    keys = [(users * n_items + own)[on] for own, on in zip(lists, filled, strict=True)]
    gains = [1.0 / (FUSION + 1 + position[on]) for on in filled]
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
