"""Popularity: the floor under every other recommender.

With a half-life, an event counts half as much for every half-life that lies between it and
the last event of training. The time of the request does not matter: letting more time pass
scales every item alike and leaves the order as it is.
"""

from __future__ import annotations

import numpy as np

from llmrec.errors import CatalogError, ConfigError
from llmrec.types import Histories

DAY = 86_400.0  # seconds


class Popularity:
    """A :class:`~llmrec.recommender.Scorer` that gives everybody the same ranking.

    Args:
        half_life_days: None counts all events alike.
    """

    def __init__(self, half_life_days: float | None = None) -> None:
        if half_life_days is not None and half_life_days <= 0:
            raise ConfigError(f"half_life_days: {half_life_days} must be positive or left out")
        self.half_life_days = half_life_days
        self.n_items = 0
        self._scores = np.zeros(0, dtype=np.float32)

    def fit(self, train: Histories, n_items: int) -> Popularity:
        """Count events.

        Raises:
            CatalogError: if the catalogue is empty.
            ConfigError: if a half-life is set and the data has no timestamps.
        """
        if n_items < 1:
            raise CatalogError("the catalogue is empty; there is nothing to rank")
        self.n_items = n_items
        if self.half_life_days is None:
            counts = np.bincount(train.items, minlength=n_items)
        else:
            weights = self._weights(train.timestamps, self.half_life_days)
            counts = np.bincount(train.items, weights=weights, minlength=n_items)
        # logarithms keep apart what float32 would round to 0 after many half-lives
        counted = counts > 0
        scores = np.zeros(n_items)
        scores[counted] = np.log(counts[counted])
        if counted.any():
            scores[~counted] = scores[counted].min() - 1.0
        self._scores = scores.astype(np.float32)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, items]``: the logarithm of the (decayed) count."""
        return np.tile(self._scores, (len(histories), 1))

    @staticmethod
    def _weights(timestamps: np.ndarray | None, half_life_days: float) -> np.ndarray:
        if timestamps is None or np.isnan(timestamps).any():
            raise ConfigError(
                "half_life_days: needs a timestamp on every training event; leave it out"
            )
        ages = timestamps.max(initial=0.0) - timestamps if len(timestamps) else timestamps
        return np.exp2(-ages / (half_life_days * DAY))
