"""What a source of candidates is: it proposes items to users, scores given ones and explains them.

:meth:`Source.query` reads a batch of histories once; its :class:`SourceScores` then rank the
catalogue and score given items, so a language model runs once for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from llmrec.errors import ConfigError, DataError
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.recommender import check_known, history_mask, top_n
from llmrec.types import Histories, Ranking

if TYPE_CHECKING:
    from llmrec.generation.constraints import Constraints, ItemFilter
    from llmrec.ranking.retrieval.catalogue import Catalogue

_CELLS = 1 << 22  # (user, item) cells held at once
_FEW = 1024  # items: a smaller catalogue does not mean more users at once, their lists are as long


@dataclass(frozen=True, eq=False)
class Limits:
    """What may not be proposed to a batch of users.

    Attributes:
        users, items: int64 ``[pairs]``: the item is excluded for the user (a row of the batch).
        allow: the items that alone may be proposed, to anybody; None for all.
    """

    users: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    items: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    allow: ItemFilter | None = None

    @classmethod
    def of_requests(
        cls, histories: Histories, catalogue: Catalogue, *, exclude_history: bool = True
    ) -> Limits:
        """Without what the user has in the history, or what comes only after the request."""
        users, items = catalogue.unavailable(histories.now)
        if exclude_history:
            rows, known = history_mask(histories)
            users, items = np.concatenate([users, rows]), np.concatenate([items, known])
        return cls(users, items.astype(np.int64))

    def within(self, constraints: Sequence[Constraints] | None) -> Limits:
        """These and those of requests, one a user, all of one filter."""
        if not constraints:
            return self
        exclude = [np.asarray(own.exclude, dtype=np.int64) for own in constraints]
        users = np.repeat(np.arange(len(exclude)), [len(own) for own in exclude])
        return Limits(
            np.concatenate([self.users, users]),
            np.concatenate([self.items, *exclude]),
            constraints[0].allow,
        )

    def of_users(self, rows: np.ndarray, n_users: int) -> Limits:
        """Those of some users, who are then numbered as in ``rows``.

        Args:
            rows: int64, rows of the batch, each at most once.
        """
        new_row = np.full(n_users, -1)
        new_row[rows] = np.arange(len(rows))
        kept = new_row[self.users] >= 0
        return Limits(new_row[self.users[kept]], self.items[kept], self.allow)

    def counts(self, n_users: int) -> np.ndarray:
        """How many items at most are excluded for each user: int64 ``[users]``."""
        return np.bincount(self.users, minlength=n_users)

    def admits(self, items: np.ndarray, n_items: int) -> np.ndarray:
        """Which of given items may be proposed.

        Args:
            items: int64 ``[users, c]``; -1 pads.

        Returns:
            bool ``[users, c]``, False at padding.
        """
        admitted = np.ones((len(items), n_items + 1), dtype=bool)
        if self.allow is not None:
            admitted[:, :n_items] = self.allow.passes
        admitted[self.users, self.items] = False
        admitted[:, -1] = False  # padding, -1, picks the last
        return np.take_along_axis(admitted, items, axis=1)


class SourceScores(ABC):
    """A source's scores of the catalogue for a batch of users."""

    @abstractmethod
    def best(self, k: int, limits: Limits) -> Ranking:
        """The best k items of each user within the limits; ties go to the smaller index."""

    @abstractmethod
    def of(self, items: np.ndarray) -> np.ndarray:
        """float32 ``[users, c]`` of given items int64 ``[users, c]``, each at most once a user;
        -inf at padding (-1) and where the source has no score."""


class Source(ABC):
    """Proposes items to users and scores given ones, as of a snapshot's time.

    A subclass is one file: its name, its scores (:meth:`_query`), its features of the click model
    (:meth:`features`) and its words for why an item is proposed (:meth:`reason`). A line in
    :data:`llmrec.ranking.retrieval.sources.SOURCES` puts it to use.

    Args:
        catalogue: the items.
        snapshot: the statistics of a time. Of items that came later a source has no or a low score.

    Attributes:
        name: unlike that of any other source.
        feature_group: of its features, one of :data:`llmrec.ranking.ctr.settings.GROUPS`.
        reason_priority: of sources that rank an item alike, the one with the lowest explains it.

    Raises:
        DataError: if the catalogue is smaller than what the snapshot knows.
    """

    name: ClassVar[str]
    feature_group: ClassVar[str] = "sources"
    reason_priority: ClassVar[int] = 9

    def __init__(self, catalogue: Catalogue, snapshot: Snapshot) -> None:
        if catalogue.n_items < snapshot.n_items:
            raise DataError(
                f"the snapshot knows {snapshot.n_items} items, the catalogue has "
                f"{catalogue.n_items}; items may be added to a catalogue but not removed"
            )
        self.catalogue, self.snapshot = catalogue, snapshot
        self.config = catalogue.config
        self.n_items = catalogue.n_items

    @classmethod
    def available(cls, catalogue: Catalogue) -> bool:
        """Whether the catalogue has what the source needs."""
        return True

    def query(self, histories: Histories) -> SourceScores:
        """Read the histories of a batch of users.

        Raises:
            CatalogError: if a history holds an item that is not in the catalogue.
        """
        check_known(histories, self.n_items)
        return self._query(histories)

    @abstractmethod
    def _query(self, histories: Histories) -> SourceScores: ...

    @classmethod
    def features(cls, rank: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
        """The click model's features of candidates: the score, and the logarithm of the rank.

        Args:
            rank: int32 ``[..., c]``, 0 the top, -1 not among the source's best k.
            score: float32 ``[..., c]``, NaN where the source has none.
        """
        log_rank = np.where(rank >= 0, np.log1p(np.maximum(rank, 0)), np.nan)
        return {f"{cls.name}_score": score, f"{cls.name}_rank": log_rank}

    def reason(self, item: int, history: np.ndarray, title: Callable[[int], str]) -> str:
        """Why the item is proposed, a few true words to show to the user; empty if there are none.

        Args:
            history: int ``[events]``, item indices, oldest first.
            title: an item's title in quotes, by its index.
        """
        return ""


class DenseScores(SourceScores):
    """Scores of the whole catalogue.

    Args:
        scores: float32 ``[users, n_items]``, -inf where there is none.
        floor: only items above it are proposed.
    """

    def __init__(self, scores: np.ndarray, floor: float = -np.inf) -> None:
        self.scores, self.floor = scores, floor

    def best(self, k: int, limits: Limits) -> Ranking:
        n_items = self.scores.shape[1]
        eligible = self.scores > self.floor
        if limits.allow is not None:
            eligible &= limits.allow.passes
        eligible[limits.users, limits.items] = False
        # Most items have nothing to do with the user: only columns that somebody has are ranked.
        columns = np.flatnonzero(eligible.any(axis=0))
        if len(columns) == n_items:
            return top_n(np.where(eligible, self.scores, -np.inf), k)
        found = top_n(np.where(eligible[:, columns], self.scores[:, columns], -np.inf), k)
        items = np.append(columns, -1)[found.items]  # the padding, -1, picks the last
        return Ranking(items, found.scores)

    def of(self, items: np.ndarray) -> np.ndarray:
        scores = np.take_along_axis(self.scores, np.maximum(items, 0), axis=1)
        scores[items < 0] = -np.inf
        return scores


def shortlist(
    items: np.ndarray, scores: np.ndarray, k: int, limits: Limits, n_items: int
) -> tuple[Ranking, np.ndarray]:
    """The first k of ranked lists that the limits admit.

    Args:
        items: int64 ``[users, m]``, best first; -1 pads.
        scores: float32 ``[users, m]``.

    Returns:
        the ranking, and how many each user has.
    """
    admitted = limits.admits(items, n_items) & (scores > -np.inf)
    nth = np.cumsum(admitted, axis=1)
    admitted &= nth <= k
    users, column = np.nonzero(admitted)[0], nth[admitted] - 1
    best = no_ranking(len(items), k)
    best.items[users, column], best.scores[users, column] = items[admitted], scores[admitted]
    return best, np.count_nonzero(admitted, axis=1)


def no_ranking(n_users: int, k: int) -> Ranking:
    """Lists of padding alone, to be filled in."""
    scores = np.full((n_users, k), -np.inf, dtype=np.float32)
    return Ranking(np.full((n_users, k), -1, dtype=np.int64), scores)


def blocks(n_users: int, n_items: int) -> Iterator[np.ndarray]:
    """Row numbers of some users at a time, so that ``[users, n_items]`` stays small."""
    size = max(1, _CELLS // max(n_items, _FEW))
    for start in range(0, n_users, size):
        yield np.arange(start, min(start + size, n_users))


def check_sources(sources: Sequence[Source]) -> int:
    """Check that sources can be queried together; the size of their catalogue.

    Raises:
        ConfigError: if there is none, two have the same name, or their catalogues differ.
    """
    if not sources:
        raise ConfigError("sources: there is none; give at least one")
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ConfigError(f"sources: two have the same name ({', '.join(names)})")
    sizes = {source.n_items for source in sources}
    if len(sizes) > 1:
        known = ", ".join(f"{source.name} {source.n_items}" for source in sources)
        raise ConfigError(f"sources: their catalogues differ in size ({known}); make them alike")
    return sizes.pop()
