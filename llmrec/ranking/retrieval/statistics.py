"""Sources that count: ``together`` and ``popular``, both as of a snapshot's time."""

from __future__ import annotations

import numpy as np

from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import Snapshot, check_size
from llmrec.ranking.retrieval.sources import Answer, Dense, Limits, Source, shortlist
from llmrec.ranking.retrieval.vectors import newest_weighted
from llmrec.types import Histories, Ranking


class Together(Source):
    """What people took together with the items of the history, the newest counting most.

    The score is the sum of the cosines with the newest items of the history, each counting
    ``together_decay`` times as much as the one after it. An item that was never taken together with
    any has 0 and is not proposed; to users without a history nothing is said.

    Args:
        snapshot: what was known.
        n_items: items of the catalogue, those that came after the snapshot included.

    Raises:
        DataError: if the catalogue is smaller than what the snapshot knows.
    """

    name = "together"

    def __init__(
        self, snapshot: Snapshot, n_items: int, settings: RetrievalConfig | None = None
    ) -> None:
        check_size(snapshot, n_items)
        self.snapshot, self.n_items = snapshot, n_items
        self.settings = settings or RetrievalConfig()
        self._similarity = snapshot.similarity(n_items)

    def with_size(self, n_items: int) -> Together:
        """The same source for a catalogue that has grown."""
        return Together(self.snapshot, n_items, self.settings)

    def _ask(self, histories: Histories) -> Answer:
        settings = self.settings
        asked = newest_weighted(
            histories, settings.together_decay, settings.together_events, self.n_items
        )
        scores = (asked @ self._similarity).toarray()
        scores[histories.lengths() == 0] = -np.inf
        return Dense(scores, floor=0.0)


class Popular(Source):
    """What most people took lately, the same for everybody.

    The score is ``log(1 + count)``, where an event counts half as much for every half-life that
    lies between it and the snapshot. An item without events has 0 and is not proposed.

    Args:
        snapshot: what was known.
        n_items: items of the catalogue, those that came after the snapshot included.

    Raises:
        DataError: if the catalogue is smaller than what the snapshot knows.
    """

    name = "popular"

    def __init__(self, snapshot: Snapshot, n_items: int) -> None:
        check_size(snapshot, n_items)
        self.snapshot, self.n_items = snapshot, n_items
        self.scores = np.zeros(n_items, dtype=np.float32)
        self.scores[: snapshot.n_items] = np.log1p(snapshot.popularity)
        order = np.argsort(-self.scores, kind="stable")
        self._order = order[self.scores[order] > 0]

    def with_size(self, n_items: int) -> Popular:
        """The same source for a catalogue that has grown."""
        return Popular(self.snapshot, n_items)

    def _ask(self, histories: Histories) -> Answer:
        return _Everybody(self.scores, self._order, len(histories))


class _Everybody(Answer):
    """One ranking for all users: scores ``[n_items]`` and the items in their order."""

    def __init__(self, scores: np.ndarray, order: np.ndarray, n_users: int) -> None:
        self.scores, self.order, self.n_users = scores, order, n_users

    def best(self, k: int, limits: Limits) -> Ranking:
        order = self.order if limits.allowed is None else self.order[limits.allowed[self.order]]
        # as many further ones as a user may be denied are enough
        order = order[: k + int(limits.counts(self.n_users).max(initial=0))]
        items = np.tile(order, (self.n_users, 1))
        return shortlist(items, self.scores[items], k, limits, len(self.scores))[0]

    def of(self, items: np.ndarray) -> np.ndarray:
        return np.where(items >= 0, self.scores[items], np.float32(-np.inf))
