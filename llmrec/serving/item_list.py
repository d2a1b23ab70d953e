"""Items in an order that is given before a click model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class ItemList:
    """Items, best first.

    Attributes:
        items: int64 ``[c]``, each once.
        scores: float64 ``[c]``, that they are ranked by.
        reasons: why, a few words each.
        sources: names of who proposed each.
        notes: sentences for the caller.
    """

    items: np.ndarray
    scores: np.ndarray
    reasons: Sequence[str]
    sources: Sequence[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)


def best_first(scores: np.ndarray, allowed: np.ndarray, most: int) -> np.ndarray:
    """Indices of the highest scores above 0, int64; ties go to the smaller index.

    Args:
        scores: float ``[items]``.
        allowed: bool ``[items]``.
        most: so many at most.

    >>> best_first(np.array([0.0, 2.0, 5.0, 2.0]), np.array([True, True, False, True]), 9).tolist()
    [1, 3]
    """
    some = np.flatnonzero(allowed & (scores > 0))
    return some[np.argsort(-scores[some], kind="stable")][:most]
