"""What a recommended item is worth, part by part: plain functions of items and a case.

Every part takes a list of items as it was recommended, best first, and gives a number an item.
-1 pads a list that is too short: nothing was recommended there, and it is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Facts:
    """What the catalogue says of every item.

    Attributes:
        level: float64 ``[items]``, log of the price against what such things cost; NaN where the
            price is not known.
        in_stock: bool ``[items]``.
    """

    level: np.ndarray
    in_stock: np.ndarray

    def __len__(self) -> int:
        return len(self.level)


@dataclass(frozen=True)
class Case:
    """What items are recommended for.

    Attributes:
        target: the item that was taken.
        low, high: bounds of the user's usual price level, inclusive.
        facts: of the catalogue.
    """

    target: int
    low: float
    high: float
    facts: Facts


def hit(items: np.ndarray, case: Case) -> np.ndarray:
    """1 for the item that was taken.

    >>> case = Case(2, 0.0, 1.0, Facts(np.array([0.5, 2.0, np.nan]), np.ones(3, bool)))
    >>> hit(np.array([0, 2, -1]), case).tolist()
    [0.0, 1.0, 0.0]
    """
    return (np.asarray(items) == case.target).astype(np.float64)


def rank(items: np.ndarray, case: Case) -> np.ndarray:
    """1 / log2(1 + place) for the item that was taken: summed over a list, its NDCG.

    >>> case = Case(2, 0.0, 1.0, Facts(np.array([0.5, 2.0, np.nan]), np.ones(3, bool)))
    >>> rank(np.array([0, 1, 2]), case).tolist()
    [0.0, 0.0, 0.5]
    """
    return hit(items, case) / np.log2(np.arange(len(items)) + 2.0)


def stock(items: np.ndarray, case: Case) -> np.ndarray:
    """1 for an item in stock.

    >>> case = Case(2, 0.0, 1.0, Facts(np.zeros(3), np.array([True, False, True])))
    >>> stock(np.array([0, 1, -1]), case).tolist()
    [1.0, 0.0, 0.0]
    """
    return valid(items, case) * case.facts.in_stock[items]


def price(items: np.ndarray, case: Case) -> np.ndarray:
    """1 for an item at the user's usual price level.

    >>> case = Case(2, 0.0, 1.0, Facts(np.array([0.5, 2.0, np.nan]), np.ones(3, bool)))
    >>> price(np.array([0, 1, 2]), case).tolist()
    [1.0, 0.0, 0.0]
    """
    level = case.facts.level[items]
    return valid(items, case) * ((level >= case.low) & (level <= case.high))


def valid(items: np.ndarray, case: Case) -> np.ndarray:
    """1 for an item of the catalogue.

    >>> case = Case(2, 0.0, 1.0, Facts(np.zeros(3), np.ones(3, bool)))
    >>> valid(np.array([0, 1, -1]), case).tolist()
    [1.0, 1.0, 0.0]
    """
    return (np.asarray(items) >= 0).astype(np.float64)


REWARDS: dict[str, Callable[[np.ndarray, Case], np.ndarray]] = {
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
