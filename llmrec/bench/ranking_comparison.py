"""Lists of several engines beside each other, and the scores that say which differences count."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from llmrec.bench.agreement import all_differ, same_order
from llmrec.types import Ranking

TOLERANCE = 1e-4  # of log-probabilities: what rounding in float32 alone makes of them


@dataclass(frozen=True)
class RankingComparison:
    """What was found.

    Attributes:
        scores: float32 ``[users, items]``, of every item as trained; -inf for the history.
        lists: the best items by each way.
        base: those of the base without the adapter.
        tolerance: scores closer than this are ties.
    """

    scores: np.ndarray
    lists: dict[str, Ranking]
    base: Ranking
    tolerance: float = TOLERANCE

    def same(self, one: Ranking, other: Ranking) -> np.ndarray:
        """Which users' lists are the same, ties aside; bool ``[users]``."""
        values, reference = self._trained(one.items), self._trained(other.items)
        different = all_differ(one.items) & all_differ(other.items)
        return same_order(values, reference, self.tolerance) & different

    def error(self, way: str) -> float:
        """Largest difference between a way's scores and those of the trained model."""
        found = self.lists[way]
        there = found.items >= 0
        return float(np.abs(found.scores - self._trained(found.items))[there].max(initial=0))

    @property
    def agree(self) -> bool:
        """Whether all ways give all users the same lists, and the same scores."""
        pairs = combinations(self.lists.values(), 2)
        lists = all(self.same(one, other).all() for one, other in pairs)
        return lists and all(self.error(way) <= self.tolerance for way in self.lists)

    @property
    def moved(self) -> int:
        """Users whom the adapter gives another list than the base does."""
        return int((~self.same(self.base, self.lists["trained"])).sum())

    def rows(self) -> list[dict[str, Any]]:
        """One a pair of ways."""
        return [
            {
                "one": one,
                "other": other,
                "users": len(first.items),
                "same": int(self.same(first, second).sum()),
                "identical": int((first.items == second.items).all(axis=1).sum()),
                "max_score_difference": _difference(first, second),
            }
            for (one, first), (other, second) in combinations(self.lists.items(), 2)
        ]

    def _trained(self, items: np.ndarray) -> np.ndarray:
        """The trained model's scores of listed items; -inf where the list has ended."""
        values = np.take_along_axis(self.scores, items.clip(min=0), axis=1)
        return np.where(items < 0, -np.inf, values)


def _difference(one: Ranking, other: Ranking) -> float:
    """Largest difference between two ways' scores of the same item."""
    same = (one.items[:, :, None] == other.items[:, None]) & (one.items >= 0)[:, :, None]
    user, place, other_place = np.nonzero(same)
    difference = one.scores[user, place].astype(np.float64) - other.scores[user, other_place]
    return float(np.abs(difference).max(initial=0))
