"""The item graph of a bundle with what people did since, exact after every event."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.data.item_graph import ItemGraph

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

    def _replace(self, before: np.ndarray, after: np.ndarray) -> None:
        """As :meth:`ItemGraph.replace`, without what both begin with."""
        shorter = min(len(before), len(after))
        different = np.flatnonzero(before[:shorter] != after[:shorter])
        same = int(different[0]) if len(different) else shorter
        start = max(0, same - self._graph.config.window)  # edges reach back so far
        self._graph.replace(before[start:], after[start:])
