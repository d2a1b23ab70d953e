"""A language model that says how long it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.types import Histories, Ranking


class Timed:
    """The same answers as a language model; each thread has a clock of its own.

    Args:
        model: with item IDs of any kind.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.trie = model.trie
        self._spent = threading.local()

    @property
    def n_items(self) -> int:
        """Items that the model knows."""
        known: int = self.model.n_items
        return known

    def spent_ms(self) -> float:
        """Milliseconds that this thread has waited for the model so far."""
        return float(getattr(self._spent, "ms", 0.0))

    def recommend(
        self,
        histories: Histories,
        n: int,
        *,
        exclude_history: bool = True,
        constraints: Sequence[Any] | None = None,
    ) -> Ranking:
        """See :meth:`llmrec.generation.llm.Llm.recommend`."""
        found: Ranking = self._timed(
            self.model.recommend, histories, n, exclude_history=exclude_history,
            constraints=constraints,
        )  # fmt: skip
        return found

    def score_items(self, histories: Histories, items: np.ndarray) -> np.ndarray:
        """See :meth:`llmrec.generation.llm.Llm.score_items`."""
        scores: np.ndarray = self._timed(self.model.score_items, histories, items)
        return scores

    def _timed(self, ask: Any, *given: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return ask(*given, **more)
        finally:
            self._spent.ms = self.spent_ms() + (time.perf_counter() - started) * 1000


class TimedScorer(Timed):
    """One that scores the whole catalogue."""

    def score(self, histories: Histories) -> np.ndarray:
        """See :meth:`llmrec.generation.llm.AtomicLlm.score`."""
        scores: np.ndarray = self._timed(self.model.score, histories)
        return scores


def timed(model: Any) -> Timed:
    """A model with a clock; one that scores the whole catalogue stays one that does."""
    from llmrec.generation.llm import AtomicLlm

    return TimedScorer(model) if isinstance(model, AtomicLlm) else Timed(model)
