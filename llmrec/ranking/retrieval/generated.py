"""The language model as a source: items whose IDs it generates after the history.

The score is the item's log-likelihood. With atomic IDs, as with any other model that scores the
whole catalogue, one pass over the history proposes and scores; with semantic IDs a beam search
proposes and a second pass over the trie scores what is given.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from llmrec.errors import ConfigError
from llmrec.ranking.retrieval.sources import Answer, Dense, Limits, Source
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


class Generated(Source):
    """Items that a model generates.

    Args:
        model: one that scores the catalogue, or a language model with semantic IDs.
        n_items: items of the catalogue when it has grown since the model was made; the model does
            not see those it does not know in histories and says nothing of them.

    Raises:
        ConfigError: if the model knows more items than there are.
    """

    name = "generated"

    def __init__(self, model: Scorer | Generator, n_items: int | None = None) -> None:
        self.model = model
        self.n_items = model.n_items if n_items is None else n_items
        if self.n_items < model.n_items:
            raise ConfigError(
                f"n_items: the model knows {model.n_items} items, the catalogue has {n_items}"
            )

    def with_size(self, n_items: int) -> Generated:
        """The same source for a catalogue that has grown."""
        return Generated(self.model, n_items)

    def _ask(self, histories: Histories) -> Answer:
        known = known_part(histories, self.model.n_items)
        if not isinstance(self.model, Scorer):
            return _Searched(self.model, known)
        scores = np.full((len(histories), self.n_items), -np.inf, dtype=np.float32)
        if self.model.n_items:
            scores[:, : self.model.n_items] = self.model.score(known)
            scores[:, : self.model.n_items][:, ~_there(self.model)] = -np.inf
        return Dense(scores)


class _Searched(Answer):
    """What a beam search finds."""

    def __init__(self, model: Generator, histories: Histories) -> None:
        self.model, self.histories = model, histories

    def best(self, k: int, limits: Limits) -> Ranking:
        from llmrec.generation.constraints import Constraints

        n_items = self.model.n_items
        order = np.argsort(limits.users, kind="stable")
        users, items = limits.users[order], limits.items[order]
        inside = items < n_items
        users, items = users[inside], items[inside]
        ends = np.searchsorted(users, np.arange(len(self.histories) + 1))
        allow = None if limits.allowed is None else np.flatnonzero(limits.allowed[:n_items])
        if allow is not None and not len(allow):
            return _nothing(len(self.histories), k)
        own = [
            Constraints(exclude=items[start:end], allow=allow)
            for start, end in itertools.pairwise(ends)
        ]
        return self.model.recommend(self.histories, k, exclude_history=False, constraints=own)

    def of(self, items: np.ndarray) -> np.ndarray:
        return self.model.score_items(
            self.histories, np.where(items < self.model.n_items, items, -1)
        )


def known_part(histories: Histories, n_items: int) -> Histories:
    """The histories without items that come after the first ``n_items``."""
    known = histories.items < n_items
    if known.all():
        return histories
    kept = np.concatenate([[0], np.cumsum(known)])
    times = histories.timestamps
    return Histories(
        histories.items[known],
        kept[histories.offsets].astype(np.int64),
        None if times is None else times[known],
        histories.now,
    )


def _there(model: Any) -> np.ndarray:
    """bool ``[n_items]``, what may be proposed; a model over a changed catalogue scores also
    items that are no longer there."""
    trie = getattr(model, "trie", None)
    if trie is None:
        return np.ones(model.n_items, dtype=bool)
    return trie.leaf_of_item.cpu().numpy() >= 0


def _nothing(n_users: int, k: int) -> Ranking:
    scores = np.full((n_users, k), -np.inf, dtype=np.float32)
    return Ranking(np.full((n_users, k), -1, dtype=np.int64), scores)
