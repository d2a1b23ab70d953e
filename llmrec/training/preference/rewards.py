"""Rewards of recommended items: plain functions of a list of items and a case.

Every part takes a list of items as it was recommended, best first, and gives a number per item.
-1 pads a list that is too short; padding has no reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CatalogueFacts:
    """Price level and stock of every item of the catalogue.

    Attributes:
        level: float64 ``[items]``, log of the price relative to the median of its category; NaN
            where the price is not known.
        in_stock: bool ``[items]``.
    """

    level: np.ndarray
    in_stock: np.ndarray

    def __len__(self) -> int:
        return len(self.level)


@dataclass(frozen=True)
class RewardCase:
    """A user and the next item, as rewards read them.

    Attributes:
        target: the item that came next.
        low, high: bounds of the user's usual price level, inclusive.
        facts: prices and stock of the catalogue.
    """

    target: int
    low: float
    high: float
    facts: CatalogueFacts


def hit(items: np.ndarray, case: RewardCase) -> np.ndarray:
    """1 for the target.

    >>> facts = CatalogueFacts(np.array([0.5, 2.0, np.nan]), np.array([True, False, True]))
    >>> case = RewardCase(2, 0.0, 1.0, facts)
    >>> hit(np.array([0, 2, -1]), case).tolist()
    [0.0, 1.0, 0.0]
    """
    return (np.asarray(items) == case.target).astype(np.float64)


def rank(items: np.ndarray, case: RewardCase) -> np.ndarray:
    """1 / log2(1 + rank) for the target: summed over a list, its NDCG.

    >>> facts = CatalogueFacts(np.array([0.5, 2.0, np.nan]), np.array([True, False, True]))
    >>> case = RewardCase(2, 0.0, 1.0, facts)
    >>> rank(np.array([0, 1, 2]), case).tolist()
    [0.0, 0.0, 0.5]
    """
    return hit(items, case) / np.log2(np.arange(len(items)) + 2.0)


def stock(items: np.ndarray, case: RewardCase) -> np.ndarray:
    """1 for an item in stock.

    >>> facts = CatalogueFacts(np.array([0.5, 2.0, np.nan]), np.array([True, False, True]))
    >>> case = RewardCase(2, 0.0, 1.0, facts)
    >>> stock(np.array([0, 1, -1]), case).tolist()
    [1.0, 0.0, 0.0]
    """
    return valid(items, case) * case.facts.in_stock[items]


def price(items: np.ndarray, case: RewardCase) -> np.ndarray:
    """1 for an item at the user's usual price level.

    >>> facts = CatalogueFacts(np.array([0.5, 2.0, np.nan]), np.array([True, False, True]))
    >>> case = RewardCase(2, 0.0, 1.0, facts)
    >>> price(np.array([0, 1, 2]), case).tolist()
    [1.0, 0.0, 0.0]
    """
    level = case.facts.level[items]
    return valid(items, case) * ((level >= case.low) & (level <= case.high))


def valid(items: np.ndarray, case: RewardCase) -> np.ndarray:
    """1 for an item of the catalogue.

    >>> facts = CatalogueFacts(np.array([0.5, 2.0, np.nan]), np.array([True, False, True]))
    >>> case = RewardCase(2, 0.0, 1.0, facts)
    >>> valid(np.array([0, 1, -1]), case).tolist()
    [1.0, 1.0, 0.0]
    """
    return (np.asarray(items) >= 0).astype(np.float64)


REWARDS: dict[str, Callable[[np.ndarray, RewardCase], np.ndarray]] = {
    "hit": hit,
    "rank": rank,
    "stock": stock,
    "price": price,
    "valid": valid,
}


def total(parts: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The weighted sum of some parts.

    >>> total({"hit": np.array([0.0, 1.0]), "stock": np.ones(2)}, {"hit": 2.0, "stock": 0.5})
    array([0.5, 2.5])
    """
    return np.sum([weights.get(name, 0.0) * part for name, part in parts.items()], axis=0)
