"""What is learned of items from events, for new items: as content suggests.

The rows of a language model and fused vectors are learned, and a new item has no events. A ridge
regression of the known ones on content gives it a direction from their mean. The regression's own
length is shrunk: an item so near to the mean is never among the best of anybody, so the length is
the usual one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.content.features.models import unit_rows
from llmrec.errors import require

PENALTIES = np.logspace(-3, 3, 7)  # of which leave-one-out validation chooses
FITTED_ON = 20_000  # items at most, evenly spread


def joined_blocks(blocks: Mapping[str, np.ndarray], n_items: int) -> np.ndarray:
    """Every feature block with a vector an item, side by side.

    Args:
        blocks: by name; empty without features.
        n_items: items of each.

    Returns:
        float32 ``[n_items, sum of dims]``.
    """
    vectors = [block for _, block in sorted(blocks.items()) if block.ndim == 2]
    return np.concatenate(vectors, axis=1) if vectors else np.zeros((n_items, 0), np.float32)


@dataclass(frozen=True, eq=False)
class ContentRegression:
    """What content says of values that are learned; called with the content of new items.

    Attributes:
        mean: float64 ``[d]``, of the known values.
        length: how far these are from it, on average.
        model: from content to a direction; None where content says nothing.
    """

    mean: np.ndarray
    length: float
    model: Any

    @classmethod
    def fit(cls, known: np.ndarray, values: np.ndarray) -> ContentRegression:
        """Learn from items whose values are known; see :func:`values_by_content`."""
        mean = values.mean(axis=0, dtype=np.float64)
        if not known.any() or len(known) < 3:
            return cls(mean, 0.0, None)
        rows = np.unique(np.linspace(0, len(known) - 1, min(len(known), FITTED_ON)).astype(int))
        apart = values[rows].astype(np.float64) - mean
        linear = require("sklearn.linear_model", "train")
        model = linear.RidgeCV(alphas=PENALTIES).fit(known[rows].astype(np.float64), apart)
        return cls(mean, float(np.linalg.norm(apart, axis=1).mean()), model)

    def __call__(self, new: np.ndarray) -> np.ndarray:
        """float32 ``[new items, d]`` of content float ``[new items, c]``."""
        if self.model is None or not len(new):
            return np.tile(self.mean, (len(new), 1)).astype(np.float32)
        found = self.model.predict(new.astype(np.float64)).reshape(len(new), len(self.mean))
        return np.asarray(self.mean + self.length * unit_rows(found), np.float32)


def values_by_content(known: np.ndarray, values: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Values of new items, as far from the mean as known ones usually are.

    Args:
        known: float ``[items, c]``, content of the items whose values are known; c is 0 for none.
        values: float ``[items, d]``.
        new: float ``[new items, c]``, content of the others, in the same space.

    Returns:
        float32 ``[new items, d]``; the mean of the known ones where content says nothing.

    >>> known = np.array([[0.0], [1.0], [2.0]])
    >>> values_by_content(known, 3 * known + 1, np.array([[4.0]])).round(2).tolist()
    [[6.0]]
    >>> values_by_content(np.zeros((3, 0)), 3 * known + 1, np.zeros((1, 0))).tolist()
    [[4.0]]
    """
    return ContentRegression.fit(known, values)(new)
