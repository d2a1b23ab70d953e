"""The source ``cold_start``: items with hardly any events, by content, or the newest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.content import ContentNeighbours, CosineScores
from llmrec.ranking.retrieval.snapshot import DAY, Snapshot
from llmrec.ranking.retrieval.source import Limits, SourceScores, shortlist
from llmrec.ranking.retrieval.vectors import VectorIndex
from llmrec.types import Histories, Ranking


class ColdStart(ContentNeighbours):
    """Items with fewer than ``min_events`` events, nearest to the user.

    Users of whom no vector can be made (no history) get the newest of these items; their score is 1
    for an item that becomes available at the request, halved for every half-life of its age, and
    items whose age is unknown have none. Otherwise the score is the cosine. Items that are not cold
    have no score; those that the snapshot does not know are cold.
    """

    name = "cold_start"
    reason_priority = 3

    def __init__(self, catalogue: Catalogue, snapshot: Snapshot) -> None:
        super().__init__(catalogue, snapshot)
        half_life = self.config.half_life_days * DAY
        self._newest = NewestItems(catalogue.available_from, self._cold(), half_life)

    def _index(self) -> VectorIndex:
        items = np.flatnonzero(self.catalogue.vectors.any(axis=1) & self._cold())
        return VectorIndex(items, self.catalogue.vectors[items])

    def _cold(self) -> np.ndarray:
        """bool ``[n_items]``."""
        least = self.config.min_events
        cold = np.full(self.n_items, least > 0)
        cold[: self.snapshot.n_items] = self.snapshot.counts < least
        return cold

    def _query(self, histories: Histories) -> SourceScores:
        content = self._cosines(histories)
        return NewestFallback(content, self._newest) if len(self._newest.order) else content

    def reason(self, item: int, history: np.ndarray, title: Callable[[int], str]) -> str:
        return "new and close to what you chose" if len(history) else "new"


class NewestItems:
    """Items by when they became available.

    Args:
        available_from: float64 ``[n_items]``, seconds since 1970 UTC, NaN where unknown.
        eligible: bool ``[n_items]``.
        half_life: seconds in which the score halves.
    """

    def __init__(self, available_from: np.ndarray, eligible: np.ndarray, half_life: float) -> None:
        self.available_from = np.where(eligible, available_from, np.nan)
        self.half_life = half_life
        order = np.argsort(-self.available_from, kind="stable")  # NaN comes last
        self.order = order[: np.count_nonzero(~np.isnan(self.available_from))]

    def best(self, k: int, now: np.ndarray, limits: Limits) -> Ranking:
        """The newest k that are available at each request.

        Args:
            now: float64 ``[users]``.
            limits: of these users.
        """
        order = self.order
        if limits.allow is not None:
            order = order[limits.allow.passes[order]]
        # where the items that come after each request end
        skipped = np.searchsorted(-self.available_from[order], -now, side="left")
        depth = min(k + int(limits.counts(len(now)).max(initial=0)), len(order))
        columns = skipped[:, None] + np.arange(depth)
        items = np.append(order, -1)[np.where(columns < len(order), columns, -1)]
        return shortlist(items, self.of(items, now), k, limits, len(self.available_from))[0]

    def of(self, items: np.ndarray, now: np.ndarray) -> np.ndarray:
        """float32 ``[users, c]``: 1 for an item that becomes available now, halved for every
        half-life of age; -inf where it is not available yet, not eligible, or padding."""
        newest = self.available_from[self.order[0]] if len(self.order) else 0.0
        now = np.where(np.isinf(now), newest, now)[:, None]
        ages = now - np.where(items >= 0, self.available_from[items], np.nan)
        available = ages >= 0  # False for NaN
        scores = np.exp2(-np.where(available, ages, 0.0) / self.half_life)
        return np.where(available, scores, -np.inf).astype(np.float32)


class NewestFallback(SourceScores):
    """Cosines for users of whom something is known, the newest items for the others."""

    def __init__(self, content: CosineScores, newest: NewestItems) -> None:
        self.content, self.newest = content, newest
        self.others = np.flatnonzero(~content.known)

    def best(self, k: int, limits: Limits) -> Ranking:
        ranking = self.content.best(k, limits)
        if len(self.others):
            own = limits.of_users(self.others, len(self.content.known))
            found = self.newest.best(k, self.content.now[self.others], own)
            ranking.items[self.others], ranking.scores[self.others] = found.items, found.scores
        return ranking

    def of(self, items: np.ndarray) -> np.ndarray:
        scores = self.content.of(items)
        scores[self.others] = self.newest.of(items[self.others], self.content.now[self.others])
        return scores
