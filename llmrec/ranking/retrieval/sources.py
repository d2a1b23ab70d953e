"""What a source of candidates is: something that proposes items to a user and scores given ones.

``ask`` reads the histories once; its :class:`Answer` then proposes and scores, so that a language
model runs once for both. ``propose`` and ``score_items`` are the same in one call each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmrec.errors import CatalogError, ConfigError, DataError
from llmrec.recommender import check_known, history_mask, top_n
from llmrec.types import Histories, Ranking

SOURCES = ("generated", "nearest", "together", "popular", "cold")
_CELLS = 1 << 22  # (user, item) cells held at once
_FEW = 1024  # items: a smaller catalogue does not mean more users at once, their lists are as long


def no_pairs() -> np.ndarray:
    """No user and no item."""
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Limits:
    """What may not be proposed to a batch of users.

    Attributes:
        users, items: int64 ``[pairs]``: the item is not for the user (a row of the batch).
        allowed: bool ``[n_items]``, items that may be proposed to anybody; None for all.
    """

    users: np.ndarray = field(default_factory=no_pairs)
    items: np.ndarray = field(default_factory=no_pairs)
    allowed: np.ndarray | None = None

    @classmethod
    def of_history(cls, histories: Histories) -> Limits:
        """Nothing that the user already has in the history."""
        users, items = history_mask(histories)
        return cls(users, items.astype(np.int64))

    def beside(self, exclude: Sequence[np.ndarray] | None, passing: np.ndarray | None) -> Limits:
        """These and a request's own.

        Args:
            exclude: item indices for each user.
            passing: bool ``[n_items]``, items that may be proposed.
        """
        if exclude is None:
            return Limits(self.users, self.items, passing)
        lists = [np.asarray(own, dtype=np.int64) for own in exclude]
        users = np.repeat(np.arange(len(lists)), [len(own) for own in lists])
        return Limits(
            np.concatenate([self.users, users]), np.concatenate([self.items, *lists]), passing
        )

    def of_users(self, rows: np.ndarray, n_users: int) -> Limits:
        """Those of some users, who are then numbered as in ``rows``.

        Args:
            rows: int64, rows of the batch, each at most once.
        """
        place = np.full(n_users, -1)
        place[rows] = np.arange(len(rows))
        theirs = place[self.users] >= 0
        return Limits(place[self.users[theirs]], self.items[theirs], self.allowed)

    def counts(self, n_users: int) -> np.ndarray:
        """How many items at most are not for each user: int64 ``[users]``."""
        return np.bincount(self.users, minlength=n_users)

    def admit(self, items: np.ndarray, n_items: int) -> np.ndarray:
        """Which of given items may be proposed.

        Args:
            items: int64 ``[users, c]``; -1 pads.

        Returns:
            bool ``[users, c]``, False at padding.
        """
        there = np.ones((len(items), n_items + 1), dtype=bool)
        if self.allowed is not None:
            there[:, :n_items] = self.allowed
        there[self.users, self.items] = False
        there[:, -1] = False  # padding, -1, picks the last
        return np.take_along_axis(there, items, axis=1)


class Answer(ABC):
    """What a source says of the catalogue to a batch of users."""

    @abstractmethod
    def best(self, k: int, limits: Limits) -> Ranking:
        """The best k items of each user within the limits; ties go to the smaller index."""

    @abstractmethod
    def of(self, items: np.ndarray) -> np.ndarray:
        """float32 ``[users, c]`` of given items int64 ``[users, c]``, each at most once a user;
        -inf at padding (-1) and where the source has nothing to say."""


class Source(ABC):
    """Proposes items to users and scores given ones.

    Attributes:
        name: one of :data:`SOURCES`, or another that no other source of the same request has.
        n_items: items of the catalogue. Of those that came after what the source learned from it
            has little or nothing to say; none is an error.
    """

    name: str
    n_items: int

    def ask(self, histories: Histories) -> Answer:
        """Read the histories of a batch of users.

        Raises:
            CatalogError: if a history holds an item that is not in the catalogue.
        """
        check_known(histories, self.n_items)
        return self._ask(histories)

    @abstractmethod
    def _ask(self, histories: Histories) -> Answer: ...

    def propose(
        self,
        histories: Histories,
        k: int,
        *,
        exclude_history: bool = True,
        passing: np.ndarray | None = None,
    ) -> Ranking:
        """The best k items for each user, padded with -1 where there are fewer.

        Args:
            exclude_history: leave out what a user already has in the history.
            passing: bool ``[n_items]``, items that may be proposed; None for all.

        Raises:
            CatalogError: if a history holds an item that is not in the catalogue.
        """
        items = np.full((len(histories), k), -1, dtype=np.int64)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        for rows in blocks(len(histories), self.n_items):
            part = histories.select(rows)
            limits = Limits.of_history(part) if exclude_history else Limits()
            found = self.ask(part).best(k, limits.beside(None, passing))
            items[rows], scores[rows] = found.items, found.scores
        return Ranking(items, scores)

    def score_items(self, histories: Histories, items: np.ndarray) -> np.ndarray:
        """The source's score of given items.

        Args:
            items: int64 ``[users, c]``, each at most once a user; -1 pads.

        Returns:
            float32 ``[users, c]``; -inf at padding and where the source has nothing to say.

        Raises:
            CatalogError: if an item, or one of a history, is not in the catalogue.
        """
        items = check_items(items, len(histories), self.n_items)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        if not self.n_items:
            return scores
        for rows in blocks(len(histories), self.n_items):
            scores[rows] = self.ask(histories.select(rows)).of(items[rows])
        return scores


class Dense(Answer):
    """Scores of the whole catalogue.

    Args:
        scores: float32 ``[users, n_items]``, -inf where there is nothing to say.
        floor: only items above it are proposed.
    """

    def __init__(self, scores: np.ndarray, floor: float = -np.inf) -> None:
        self.scores, self.floor = scores, floor

    def best(self, k: int, limits: Limits) -> Ranking:
        n_items = self.scores.shape[1]
        worth = self.scores > self.floor
        if limits.allowed is not None:
            worth &= limits.allowed
        worth[limits.users, limits.items] = False
        # Most items have nothing to do with the user: only columns that somebody has are ranked.
        columns = np.flatnonzero(worth.any(axis=0))
        if len(columns) == n_items:
            return top_n(np.where(worth, self.scores, -np.inf), k)
        found = top_n(np.where(worth[:, columns], self.scores[:, columns], -np.inf), k)
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
    admitted = limits.admit(items, n_items) & (scores > -np.inf)
    nth = np.cumsum(admitted, axis=1)
    admitted &= nth <= k
    users = np.nonzero(admitted)[0]
    place = nth[admitted] - 1
    best = np.full((len(items), k), -1, dtype=np.int64)
    values = np.full((len(items), k), -np.inf, dtype=np.float32)
    best[users, place], values[users, place] = items[admitted], scores[admitted]
    return Ranking(best, values), np.count_nonzero(admitted, axis=1)


def blocks(n_users: int, n_items: int) -> Iterator[np.ndarray]:
    """Row numbers of some users at a time, so that ``[users, n_items]`` stays small."""
    size = max(1, _CELLS // max(n_items, _FEW))
    for start in range(0, n_users, size):
        yield np.arange(start, min(start + size, n_users))


def check_items(items: np.ndarray, n_users: int, n_items: int) -> np.ndarray:
    """Given items as int64 ``[users, c]``.

    Raises:
        CatalogError: if they are not as many rows as users, or one is not in the catalogue.
    """
    items = np.asarray(items, dtype=np.int64)
    if items.ndim != 2 or len(items) != n_users:
        raise CatalogError(f"items: of shape {items.shape}; expected a row for each of {n_users}")
    if items.size and not (items.min() >= -1 and items.max() < n_items):
        raise CatalogError(f"items: one is not among the {n_items} of the catalogue")
    return items


def check_mask(passing: np.ndarray | None, n_items: int) -> np.ndarray | None:
    """A mask of the catalogue.

    Raises:
        CatalogError: if it is no mask, or of another catalogue.
    """
    if passing is None:
        return None
    passing = np.asarray(passing)
    if passing.dtype != bool or passing.shape != (n_items,):
        raise CatalogError(f"passing: must say yes or no for each of {n_items} items")
    return passing


def check_sources(sources: Sequence[Source]) -> int:
    """Check that sources can be asked together; the size of their catalogue.

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


def check_first_seen(first_seen: np.ndarray | None, n_items: int) -> np.ndarray | None:
    """When items came into the catalogue, float64 ``[n_items]``, NaN where unknown.

    Raises:
        DataError: if they are not one an item.
    """
    if first_seen is None:
        return None
    first_seen = np.asarray(first_seen, dtype=np.float64)
    if first_seen.shape != (n_items,):
        raise DataError(f"first_seen: has {first_seen.shape} times for {n_items} items")
    return first_seen
