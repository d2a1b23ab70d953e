"""Rows of a ``datasets.Dataset`` that are rendered when they are read, and their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Batch = Mapping[str, list[int]]


class LazyRows:
    """A transform for ``Dataset.with_transform``: the dataset itself holds numbers only.

    Args:
        render: from a batch of numbers, by column, to columns of token ids.
        name: what the dataset is named after. ``datasets`` would pickle the transform for that,
            and with it the whole catalogue.
    """

    def __init__(self, render: Callable[[Batch], dict[str, list[list[int]]]], name: str) -> None:
        self.render, self.name = render, name

    def __call__(self, batch: Batch) -> dict[str, list[list[int]]]:
        return self.render(batch)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self.name,)

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyRows:
        return self


def shuffled_epochs(rows: np.ndarray, count: int, seed: int, stream: int) -> np.ndarray:
    """The first ``count`` of all rows, again and again, in a new order each epoch.

    Args:
        stream: tells orders of different data with the same seed apart.
    """
    epochs = range(-(-count // len(rows)))
    orders = [np.random.default_rng([seed, e, stream]).permutation(rows) for e in epochs]
    return np.concatenate(orders)[:count]
