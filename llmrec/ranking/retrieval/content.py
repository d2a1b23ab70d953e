"""Sources that compare vectors: ``nearest`` to what the user took, and ``cold`` among items that
nobody or hardly anybody took yet.

Where it is known when items came into the catalogue, items that came after the moment that is asked
about are neither proposed nor scored.
"""

from __future__ import annotations

import copy
from typing import Self

import numpy as np

from llmrec.content.search.settings import Kind
from llmrec.errors import DataError
from llmrec.ranking.retrieval.newest import Newest, NewestElse
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import DAY, Snapshot, check_size
from llmrec.ranking.retrieval.sources import Answer, Limits, Source, check_first_seen, shortlist
from llmrec.ranking.retrieval.vectors import (
    FLAT_MAX,
    VectorIndex,
    check_vectors,
    cosines,
    depth_of,
    user_vectors,
)
from llmrec.types import Histories, Ranking


class Content(Answer):
    """Cosines of users with some items.

    Args:
        users: float32 ``[users, dim]``, unit rows; zero for users of whom nothing is known.
        index: the items.
        rows: int64 ``[n_items]``, each item's row in the index; -1 where it has none.
        first_seen: float64 ``[n_items]`` or None.
        now: float64 ``[users]``; inf where the moment is not known.
    """

    def __init__(
        self,
        users: np.ndarray,
        index: VectorIndex,
        rows: np.ndarray,
        first_seen: np.ndarray | None,
        now: np.ndarray,
    ) -> None:
        self.users, self.index, self.rows = users, index, rows
        self.first_seen, self.now = first_seen, now
        self.known: np.ndarray = np.asarray(users.any(axis=1))

    def best(self, k: int, limits: Limits) -> Ranking:
        items = np.full((len(self.users), k), -1, dtype=np.int64)
        scores = np.full((len(self.users), k), -np.inf, dtype=np.float32)
        asked = np.flatnonzero(self.known)
        if not (len(asked) and len(self.index)):
            return Ranking(items, scores)
        depths = depth_of(k + limits.counts(len(self.users)) + self._later())
        for depth in np.unique(depths[asked]):
            users = asked[depths[asked] == depth]
            found = self._within(users, int(depth), k, limits)
            items[users], scores[users] = found.items, found.scores
        return Ranking(items, scores)

    def of(self, items: np.ndarray) -> np.ndarray:
        rows = np.where(items >= 0, self.rows[items], -1) if len(self.rows) else items
        rows = np.where(self.known[:, None], rows, -1)
        found = cosines(self.users, self.index.vectors, rows)
        found[~self._there(items, self.now)] = -np.inf
        return found

    def _within(self, users: np.ndarray, depth: int, k: int, limits: Limits) -> Ranking:
        """The best k of some users."""
        if limits.allowed is None:
            return self._search(users, depth, k, limits)[0]
        passing = np.flatnonzero(limits.allowed[self.index.items])
        wide = int(depth_of(np.array(depth * len(self.index) / max(len(passing), 1))))
        if len(passing) <= FLAT_MAX or wide > len(self.index) // 4:
            return self._search(users, depth, k, limits, passing)[0]
        found, counts = self._search(users, wide, k, limits)
        short = counts < k
        if short.any():  # what passes lies far from these users
            among = self._search(users[short], depth, k, limits, passing)[0]
            found.items[short], found.scores[short] = among.items, among.scores
        return found

    def _search(
        self,
        users: np.ndarray,
        depth: int,
        k: int,
        limits: Limits,
        among: np.ndarray | None = None,
    ) -> tuple[Ranking, np.ndarray]:
        """The best k of some users, and how many each has."""
        if among is None:
            items, scores = self.index.search(self.users[users], depth)
        else:
            items, scores = self.index.search_among(self.users[users], among, depth)
        scores = np.where(self._there(items, self.now[users]), scores, -np.inf)
        own = limits.of_users(users, len(self.users))
        return shortlist(items, scores, k, own, len(self.rows))

    def _there(self, items: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Which items ``[users, c]`` are in the catalogue at the users' moments."""
        if self.first_seen is None or not len(self.first_seen):
            return np.ones(items.shape, dtype=bool)
        return ~(self.first_seen[items] > now[:, None])  # unknown times are no reason against

    def _later(self) -> np.ndarray:
        """How many items come after each user's moment."""
        if self.first_seen is None:
            return np.zeros(len(self.users), dtype=np.int64)
        times = np.sort(self.first_seen[self.index.items])
        times = times[~np.isnan(times)]
        return len(times) - np.searchsorted(times, self.now, side="right")


class Nearest(Source):
    """The items nearest to a user: to the mean of what the user took, the newest counting most.

    The score is the cosine. Nothing is said to users without a history, nor of items without a
    vector (a zero row).

    Args:
        vectors: float32 ``[n_items, dim]``, fused embeddings for instance.
        first_seen: float64 ``[n_items]``, when each item came into the catalogue, seconds since
            1970 UTC, NaN where unknown; None when nothing of it is known.

    Raises:
        DataError: if a vector is not of numbers.
    """

    name = "nearest"

    def __init__(
        self,
        vectors: np.ndarray,
        settings: RetrievalConfig | None = None,
        *,
        first_seen: np.ndarray | None = None,
    ) -> None:
        self.settings = settings or RetrievalConfig()
        self.vectors = check_vectors(vectors)
        self.n_items = len(self.vectors)
        self.first_seen = check_first_seen(first_seen, self.n_items)
        items = np.flatnonzero(self._proposable())
        self._use(VectorIndex(items, self.vectors[items], self._index_kind()))

    def with_items(self, vectors: np.ndarray, first_seen: np.ndarray | None = None) -> Self:
        """The same source with more items; what is there is not indexed again.

        Args:
            vectors: float32 ``[new, dim]``, of the items that follow those that are there.
            first_seen: float64 ``[new]``; None when unknown.

        Raises:
            DataError: if a vector is not of numbers or of another length.
        """
        added = check_vectors(vectors)
        dim = self.vectors.shape[1]
        if added.shape[1] != dim:
            raise DataError(f"vectors: of {added.shape[1]} numbers, the catalogue's have {dim}")
        changed = copy.copy(self)
        changed.vectors = np.concatenate([self.vectors, added])
        changed.n_items = len(changed.vectors)
        changed.first_seen = self._joined(check_first_seen(first_seen, len(added)), len(added))
        items = self.n_items + np.flatnonzero(changed._proposable()[self.n_items :])
        changed._use(self.index.with_items(items, changed.vectors[items]))
        return changed

    def _ask(self, histories: Histories) -> Answer:
        settings = self.settings
        users = user_vectors(histories, self.vectors, settings.decay, settings.events)
        now = moments(histories)
        return Content(users, self.index, self._rows, self.first_seen, now)

    def _use(self, index: VectorIndex) -> None:
        self.index = index
        self._rows = np.full(self.n_items, -1, dtype=np.int64)
        self._rows[index.items] = np.arange(len(index))

    def _proposable(self) -> np.ndarray:
        """bool ``[n_items]``."""
        return np.asarray(self.vectors.any(axis=1))

    def _index_kind(self) -> Kind:
        return self.settings.index

    def _joined(self, later: np.ndarray | None, n: int) -> np.ndarray | None:
        """The times of old and new items."""
        if self.first_seen is None and later is None:
            return None
        old = np.full(self.n_items, np.nan) if self.first_seen is None else self.first_seen
        return np.concatenate([old, np.full(n, np.nan) if later is None else later])


class Cold(Nearest):
    """Items with hardly any events, nearest to the user: what they are is known before who likes
    them.

    Users of whom no vector can be made (no history) get the newest of these items, where it is
    known when items came into the catalogue; their score is then 1 for an item of this moment,
    halved for every half-life of its age. Otherwise it is the cosine. Nothing is said of items that
    are not cold.

    Args:
        snapshot: whose counts say what is cold; items that it does not know are.
        vectors, first_seen: as for :class:`Nearest`.

    Raises:
        DataError: if a vector is not of numbers, or there are fewer than the snapshot knows items.
    """

    name = "cold"

    def __init__(
        self,
        snapshot: Snapshot,
        vectors: np.ndarray,
        settings: RetrievalConfig | None = None,
        *,
        first_seen: np.ndarray | None = None,
    ) -> None:
        self.snapshot = snapshot
        check_size(snapshot, len(vectors))
        super().__init__(vectors, settings, first_seen=first_seen)

    def _ask(self, histories: Histories) -> Answer:
        content = super()._ask(histories)
        assert isinstance(content, Content)
        return content if self.newest is None else NewestElse(content, self.newest)

    def _use(self, index: VectorIndex) -> None:
        super()._use(index)
        cold = self._cold()
        span = self.settings.half_life_days * DAY
        self.newest = None if self.first_seen is None else Newest(self.first_seen, cold, span)

    def _proposable(self) -> np.ndarray:
        return super()._proposable() & self._cold()

    def _cold(self) -> np.ndarray:
        cold = np.full(self.n_items, self.settings.min_events > 0)
        cold[: self.snapshot.n_items] = self.snapshot.counts < self.settings.min_events
        return cold

    def _index_kind(self) -> Kind:
        return "auto"  # how many are cold is not for the settings to say


def moments(histories: Histories) -> np.ndarray:
    """When each user asks, float64 ``[users]``; inf where that is not known."""
    if histories.now is None:
        return np.full(len(histories), np.inf)
    return np.where(np.isnan(histories.now), np.inf, histories.now)
