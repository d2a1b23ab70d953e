"""The five sources over a snapshot, in one place, so that training and serving have the same."""

from __future__ import annotations

import copy

import numpy as np

from llmrec.errors import ConfigError
from llmrec.ranking.retrieval.content import Cold, Nearest
from llmrec.ranking.retrieval.generated import Generated, Generator
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.ranking.retrieval.sources import Source
from llmrec.ranking.retrieval.statistics import Popular, Together
from llmrec.recommender import Scorer


class StandardSources:
    """Makes the sources over a snapshot; what does not depend on it is made once.

    ``describe_as_of(snapshots, StandardSources(vectors, model=llm), ...)`` and, in serving,
    ``StandardSources(vectors, model=llm)(snapshot)`` give the same sources in the same order:
    generated (with a model), nearest, together, popular, cold.

    Args:
        vectors: float32 ``[n_items, dim]``, fused embeddings.
        model: the language model, or None for no ``generated``.
        first_seen: float64 ``[n_items]``, when each item came into the catalogue, NaN where
            unknown; None when nothing of it is known.

    Raises:
        ConfigError: if the model knows more items than there are vectors.
        DataError: if a vector is not of numbers.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        settings: RetrievalConfig | None = None,
        *,
        model: Scorer | Generator | None = None,
        first_seen: np.ndarray | None = None,
    ) -> None:
        self.settings = settings or RetrievalConfig()
        self.nearest = Nearest(vectors, self.settings, first_seen=first_seen)
        self.generated = None if model is None else Generated(model, self.n_items)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.nearest.n_items

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources, in their order."""
        first = ("generated",) if self.generated else ()
        return (*first, "nearest", "together", "popular", "cold")

    def __call__(self, snapshot: Snapshot) -> list[Source]:
        """The sources as of a snapshot.

        Raises:
            DataError: if the snapshot knows more items than there are.
        """
        nearest, settings = self.nearest, self.settings
        first: list[Source] = [self.generated] if self.generated else []
        return [
            *first,
            nearest,
            Together(snapshot, self.n_items, settings),
            Popular(snapshot, self.n_items),
            Cold(snapshot, nearest.vectors, settings, first_seen=nearest.first_seen),
        ]

    def with_items(
        self,
        vectors: np.ndarray,
        first_seen: np.ndarray | None = None,
        model: Scorer | Generator | None = None,
    ) -> StandardSources:
        """The same over a catalogue that has grown.

        Args:
            vectors: float32 ``[new, dim]``, of the items that follow those that are there.
            first_seen: float64 ``[new]``.
            model: one that knows them; None keeps the old, which says nothing of them.

        Raises:
            ConfigError, DataError: as for making them.
        """
        changed = copy.copy(self)
        changed.nearest = self.nearest.with_items(vectors, first_seen)
        if model is not None and self.generated is None:
            raise ConfigError("model: there was none; make the sources anew with one")
        if self.generated is not None:
            changed.generated = Generated(model or self.generated.model, changed.n_items)
        return changed
