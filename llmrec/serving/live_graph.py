"""The item graph of a bundle with what people did since, exact after every event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from llmrec.data.item_graph import ItemGraph
from llmrec.types import Histories

_NOBODY = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32)


class LiveGraph:
    """Counts each user's stored events into an item graph, once.

    The graph is at any time what the bundle brought and, of each user, the edges that the last
    :meth:`count` made, however often events came, in which order, or were taken back. One thread
    at a time may change it; others may read the graph meanwhile.

    Args:
        graph: of the bundle; it is changed.
    """

    def __init__(self, graph: ItemGraph) -> None:
        self._graph = graph
        self._counted: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def users(self) -> set[str]:
        """Whose events are counted."""
        return set(self._counted)

    @property
    def n_items(self) -> int:
        """Of the catalogue as the graph knows it."""
        return self._graph.n_items

    def use(self, graph: ItemGraph) -> None:
        """Go on with a copy of the graph, which has more items; whoever reads the one before
        reads it as it is now."""
        self._graph = graph

    def count(self, user_id: str, known: Sequence[int], stored: Sequence[int]) -> None:
        """Put a user's stored events in place of those that were counted before.

        Args:
            known: item indices that the bundle's graph may know the user by, oldest first; only
                the edges from them to stored events are counted.
            stored: item indices of the stored events, oldest first; none forgets the user.

        Raises:
            CatalogError: for an item outside the catalogue.
        """
        prefix = np.asarray(known[-self._graph.config.window :], dtype=np.int32)
        items = np.asarray(stored, dtype=np.int32)
        old_prefix, old_items = self._counted.get(user_id, _NOBODY)
        if len(old_items) and not np.array_equal(prefix, old_prefix):
            self._replace(np.concatenate([old_prefix, old_items]), old_prefix)
            old_items = _NOBODY[1]
        self._replace(np.concatenate([prefix, old_items]), np.concatenate([prefix, items]))
        self._counted.pop(user_id, None)
        if len(items):
            self._counted[user_id] = prefix, items

    def count_all(self, users: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
        """:meth:`count` for many, none of whom was counted before, in a fraction of the time.

        Args:
            users: name, known and stored items of each.

        Raises:
            CatalogError: for an item outside the catalogue.
        """
        window = self._graph.config.window
        counted = {
            user_id: (np.asarray(known[-window:], np.int32), np.asarray(stored, np.int32))
            for user_id, known, stored in users
            if len(stored)
        }
        both = [np.concatenate(pair) for pair in counted.values()]
        self._graph.merge(self._fitted(both))
        self._graph.merge(self._fitted([prefix for prefix, _ in counted.values()]), -1)
        self._counted |= counted

    def _fitted(self, rows: list[np.ndarray]) -> ItemGraph:
        items = np.concatenate([_NOBODY[0], *rows])
        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        graph = self._graph
        return ItemGraph.fit(Histories(items, offsets), graph.n_items, graph.config)

    def _replace(self, before: np.ndarray, after: np.ndarray) -> None:
        """As :meth:`ItemGraph.replace`, without what both begin with."""
        shorter = min(len(before), len(after))
        different = np.flatnonzero(before[:shorter] != after[:shorter])
        same = int(different[0]) if len(different) else shorter
        start = max(0, same - self._graph.config.window)  # edges reach back so far
        self._graph.replace(before[start:], after[start:])
