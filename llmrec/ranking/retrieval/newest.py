"""The newest items, for users of whom nothing is known."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from llmrec.ranking.retrieval.sources import Answer, Limits, shortlist
from llmrec.types import Ranking


class Newest:
    """Items by when they came into the catalogue.

    Args:
        first_seen: float64 ``[n_items]``, seconds since 1970 UTC, NaN where unknown.
        proposed: bool ``[n_items]``, the items that are meant.
        half_life: seconds in which the score halves.
    """

    def __init__(self, first_seen: np.ndarray, proposed: np.ndarray, half_life: float) -> None:
        known = proposed & ~np.isnan(first_seen)
        self.first_seen = np.where(known, first_seen, np.nan)
        self.half_life = half_life
        order = np.argsort(-self.first_seen, kind="stable")  # what is unknown comes last
        self.order = order[: np.count_nonzero(known)]

    def best(self, k: int, now: np.ndarray, limits: Limits) -> Ranking:
        """The newest k that are there at each moment.

        Args:
            now: float64 ``[users]``.
            limits: of these users.
        """
        order = self.order if limits.allowed is None else self.order[limits.allowed[self.order]]
        # where the items that came after each moment end
        skipped = np.searchsorted(-self.first_seen[order], -now, side="left")
        depth = min(k + int(limits.counts(len(now)).max(initial=0)), len(order))
        places = skipped[:, None] + np.arange(depth)
        inside = places < len(order)
        items = np.where(inside, np.append(order, -1)[np.where(inside, places, -1)], -1)
        scores = self.of(items, now)
        return shortlist(items, scores, k, limits, len(self.first_seen))[0]

    def of(self, items: np.ndarray, now: np.ndarray) -> np.ndarray:
        """float32 ``[users, c]``: 1 for an item of this moment, halved for every half-life of age;
        -inf where it is not there yet, not meant, or padding."""
        newest = self.first_seen[self.order[0]] if len(self.order) else 0.0
        asked = np.where(np.isinf(now), newest, now)[:, None]
        ages = asked - np.where(items >= 0, self.first_seen[items], np.nan)
        there = ages >= 0  # False for NaN
        scores = np.exp2(-np.where(there, ages, 0.0) / self.half_life)
        return np.where(there, scores, -np.inf).astype(np.float32)


class _Content(Protocol):
    known: np.ndarray
    now: np.ndarray

    def best(self, k: int, limits: Limits) -> Ranking: ...

    def of(self, items: np.ndarray) -> np.ndarray: ...


class NewestElse(Answer):
    """What content says to users of whom something is known, and the newest items to the others."""

    def __init__(self, content: _Content, newest: Newest) -> None:
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
