"""The items as sources of candidates see them, whatever the time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from llmrec.errors import ConfigError, DataError
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.vectors import VectorIndex, check_vectors
from llmrec.recommender import Scorer
from llmrec.types import Histories, Ranking


class Generator(Protocol):
    """A language model with semantic IDs; see :class:`llmrec.generation.llm.Llm`."""

    @property
    def n_items(self) -> int: ...

    def recommend(
        self,
        histories: Histories,
        n: int,
        *,
        exclude_history: bool = True,
        constraints: Sequence[Any] | None = None,
    ) -> Ranking: ...

    def score_items(self, histories: Histories, items: np.ndarray) -> np.ndarray: ...


class Catalogue:
    """Items by index, with what sources read of them.

    Args:
        vectors: float32 ``[n_items, dim]``, fused embeddings for instance; zeros where an item has
            none.
        config: of the sources.
        model: the language model, or None for no ``generated`` source.
        available_from: float64 ``[n_items]``, when each item came into the catalogue, seconds since
            1970 UTC; NaN where unknown: it counts as always there. None: all are unknown.

    Raises:
        ConfigError: if the model knows more items than there are.
        DataError: if a vector is not of numbers, or the times are not one an item.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        config: RetrievalConfig | None = None,
        *,
        model: Scorer | Generator | None = None,
        available_from: np.ndarray | None = None,
    ) -> None:
        self.config = config or RetrievalConfig()
        self.vectors = check_vectors(vectors)
        self.available_from = _times(available_from, self.n_items)
        self.model = self._checked(model)

    @property
    def n_items(self) -> int:
        return len(self.vectors)

    @cached_property
    def index(self) -> VectorIndex:
        """Of all items that have a vector."""
        items = np.flatnonzero(self.vectors.any(axis=1))
        return VectorIndex(items, self.vectors[items], self.config.index)

    def unavailable(self, now: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Items that come only after a request: int64 rows of requests, and item indices.

        Args:
            now: float64 ``[requests]``, NaN unknown; None: all are.
        """
        if now is None or not (now < self._newest).any():
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        requests, items = np.nonzero(self.available_from > now[:, None])  # False for NaN
        return requests, items

    @cached_property
    def _newest(self) -> float:
        return float(np.nan_to_num(self.available_from, nan=-np.inf).max(initial=-np.inf))

    def with_model(self, model: Scorer | Generator | None) -> Catalogue:
        """The same with another language model.

        Raises:
            ConfigError: if it knows more items than there are.
        """
        changed = copy.copy(self)
        changed.model = self._checked(model)
        return changed

    def with_items(
        self, vectors: np.ndarray, available_from: np.ndarray | None = None
    ) -> Catalogue:
        """The same with more items, which follow those that are there; these are not indexed again.

        The language model has no scores for them until it is replaced by one that knows them.

        Args:
            vectors: float32 ``[new, dim]``.
            available_from: float64 ``[new]``; None when unknown.

        Raises:
            DataError: if a vector is not of numbers or of another length.
        """
        added, dim = check_vectors(vectors), self.vectors.shape[1]
        if added.shape[1] != dim:
            raise DataError(f"vectors: of {added.shape[1]} numbers, the catalogue's have {dim}")
        items = np.flatnonzero(added.any(axis=1))
        changed = copy.copy(self)
        changed.__dict__.pop("_newest", None)
        changed.index = self.index.with_items(self.n_items + items, added[items])
        changed.vectors = np.concatenate([self.vectors, added])
        times = _times(available_from, len(added))
        changed.available_from = np.concatenate([self.available_from, times])
        return changed

    def _checked(self, model: Scorer | Generator | None) -> Scorer | Generator | None:
        if model is not None and model.n_items > self.n_items:
            raise ConfigError(
                f"the model knows {model.n_items} items, the catalogue has {self.n_items}"
            )
        return model


def _times(available_from: np.ndarray | None, n_items: int) -> np.ndarray:
    if available_from is None:
        return np.full(n_items, np.nan)
    times = np.asarray(available_from, dtype=np.float64)
    if times.shape != (n_items,):
        raise DataError(f"available_from: has {times.shape} times for {n_items} items")
    return times
