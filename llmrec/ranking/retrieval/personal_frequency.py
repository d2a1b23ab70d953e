"""Personal frequency: what a user took most often before, then what everybody takes.

Where things are bought again, few methods for the next basket do better (Hu et al., SIGIR 2020,
"Modeling personalized item frequency information for next-basket recommendation"; Li et al., TOIS
2023, "A next basket recommendation reality check").
"""

from __future__ import annotations

import numpy as np

from llmrec.config import check_ranges
from llmrec.errors import CatalogError
from llmrec.ranking.retrieval.vectors import newest_weighted
from llmrec.types import Histories

_OF_EQUALS = np.float32(1e-4)  # popularity decides between items that were taken equally often


class PersonalFrequency:
    """A :class:`~llmrec.recommender.Scorer` that counts each user's own events.

    Args:
        decay: weight of an event relative to the one after it, in (0, 1]; 1 counts all alike.
    """

    def __init__(self, decay: float = 1.0) -> None:
        self.decay = decay
        check_ranges(self, "(0, 1]", "decay")
        self.n_items = 0
        self._popularity = np.zeros(0, dtype=np.float32)

    def fit(self, train: Histories, n_items: int) -> PersonalFrequency:
        """Count what everybody takes, which ranks what a user never took.

        Raises:
            CatalogError: if the catalogue is empty.
        """
        if n_items < 1:
            raise CatalogError("the catalogue is empty; there is nothing to rank")
        self.n_items = n_items
        counts = np.bincount(train.items, minlength=n_items)
        # in [0, 1)
        self._popularity = (counts / (counts.max() + 1.0)).astype(np.float32)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """float32 ``[users, items]``: positive where the user took the item, else negative."""
        events = len(histories.items)
        weights = newest_weighted(histories, self.decay, events, self.n_items, np.float64)
        own = weights.toarray().astype(np.float32)
        return np.where(own > 0, own + _OF_EQUALS * self._popularity, self._popularity - 1)
