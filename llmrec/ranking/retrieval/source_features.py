"""The rank and score of given items by each source: features of candidates in the click model.

A rank is the item's position in the source's own list without any filter, the history left out: a
filter moves no rank, so a filtered request has the features that training had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.errors import CatalogError, DataError
from llmrec.loop.bars import ProgressBar
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.snapshot import Snapshots
from llmrec.ranking.retrieval.source import (
    Limits,
    Source,
    SourceScores,
    blocks,
    check_sources,
)
from llmrec.ranking.retrieval.sources import make_sources, source_names
from llmrec.types import Histories, Ranking


@dataclass(frozen=True, eq=False)
class SourceFeatures:
    """Rank and score of items by each source.

    Attributes:
        names: of the sources, in the order of the last axis.
        rank: int32 ``[users, c, sources]``, the position in the source's own best k, 0 is the top;
            -1 where it is not among them.
        score: float32 ``[users, c, sources]``, the source's score, also of items that it did not
            propose; NaN where it has none.
    """

    names: tuple[str, ...]
    rank: np.ndarray
    score: np.ndarray

    @classmethod
    def empty(cls, names: tuple[str, ...], shape: tuple[int, ...]) -> SourceFeatures:
        """Of items ``[users, c]`` that no source knows."""
        shape = (*shape, len(names))
        missing = np.full(shape, np.nan, dtype=np.float32)
        return cls(names, np.full(shape, -1, dtype=np.int32), missing)

    def __getitem__(self, rows: Any) -> SourceFeatures:
        """Those of some users or items."""
        return SourceFeatures(self.names, self.rank[rows], self.score[rows])

    @classmethod
    def stacked(cls, parts: Sequence[SourceFeatures]) -> SourceFeatures:
        """Of users each, ``[c, sources]``: one of all, ``[users, most, sources]``, padded as
        :meth:`empty` is."""
        width = max(len(part.rank) for part in parts)
        joined = cls.empty(parts[0].names, (len(parts), width))
        for row, part in enumerate(parts):
            joined.rank[row, : len(part.rank)] = part.rank
            joined.score[row, : len(part.rank)] = part.score
        return joined

    def put(self, rows: np.ndarray, values: SourceFeatures) -> None:
        """Write those of some users."""
        self.rank[rows], self.score[rows] = values.rank, values.score


def source_features(
    sources: Sequence[Source],
    histories: Histories,
    items: np.ndarray,
    k: int = 200,
    *,
    progress: bool = False,
) -> SourceFeatures:
    """Rank and score of given items by each source.

    Args:
        items: int64 ``[users, c]``, each at most once a user; -1 pads.
        k: items that each source proposes.
        progress: show a bar.

    Raises:
        CatalogError: if an item, or one of a history, is not in the catalogue.
        ConfigError: if the sources cannot be queried together.
    """
    n_items = check_sources(sources)
    items = np.asarray(items, dtype=np.int64)
    if items.ndim != 2 or len(items) != len(histories):
        raise CatalogError(
            f"items: of shape {items.shape}; expected a row for each of {len(histories)}"
        )
    if items.size and not (items.min() >= -1 and items.max() < n_items):
        raise CatalogError(f"items: one is not among the {n_items} of the catalogue")
    features = SourceFeatures.empty(tuple(source.name for source in sources), items.shape)
    if not n_items:
        return features
    with ProgressBar(total=len(items), unit="list", desc="sources", disable=not progress) as bar:
        for rows in blocks(len(histories), n_items):
            part = histories.select(rows)
            own = Limits.of_requests(part, sources[0].catalogue)
            scores = [source.query(part) for source in sources]
            lists = [one.best(k, own) for one in scores]
            features.put(rows, features_from(features.names, scores, lists, items[rows], n_items))
            bar.update(len(rows))
    return features


def source_features_as_of(
    snapshots: Snapshots,
    catalogue: Catalogue,
    histories: Histories,
    items: np.ndarray,
    k: int = 200,
    *,
    progress: bool = False,
) -> SourceFeatures:
    """The same, point in time: each request by the newest snapshot that is not later than it.

    Before the first snapshot nothing is known.

    Args:
        histories: with ``now``, no NaN.

    Raises:
        DataError: if a request has no time.
        CatalogError, ConfigError: as for :func:`source_features`.
    """
    now = histories.now
    if now is None or np.isnan(now).any():
        raise DataError("histories.now: a request has no time, so no snapshot can be chosen for it")
    items = np.asarray(items, dtype=np.int64)
    chosen = snapshots.of(now)
    features = SourceFeatures.empty(source_names(catalogue), items.shape)
    with ProgressBar(total=len(items), unit="list", desc="sources", disable=not progress) as bar:
        for number in np.unique(chosen):
            rows = np.flatnonzero(chosen == number)
            sources = make_sources(catalogue, snapshots.at(number))
            features.put(rows, source_features(sources, histories.select(rows), items[rows], k))
            bar.update(len(rows))
    return features


def features_from(
    names: tuple[str, ...],
    scores: Sequence[SourceScores],
    lists: Sequence[Ranking],
    items: np.ndarray,
    n_items: int,
) -> SourceFeatures:
    """Features of given items, of sources that were queried already.

    Args:
        lists: each source's best k.
    """
    features = SourceFeatures.empty(names, items.shape)
    for number, (one, ranking) in enumerate(zip(scores, lists, strict=True)):
        features.rank[:, :, number] = positions_in(ranking.items, items, n_items)
        values = one.of(items)
        features.score[:, :, number] = np.where(np.isneginf(values), np.nan, values)
    return features


def positions_in(lists: np.ndarray, items: np.ndarray, n_items: int) -> np.ndarray:
    """Positions of items in ranked lists, -1 where they are not in them: int32 ``[users, c]``.

    Args:
        lists: int64 ``[users, k]``, each item at most once; -1 pads.
        items: int64 ``[users, c]``; -1 pads.

    >>> positions_in(np.array([[4, 2, -1]]), np.array([[2, 3, -1]]), 5).tolist()
    [[1, -1, -1]]
    """
    position = np.full((len(lists), n_items + 1), -1, dtype=np.int32)
    # padding is written to, and read from, one column behind the last
    np.put_along_axis(position, lists % (n_items + 1), np.arange(lists.shape[1])[None], axis=1)
    position[:, -1] = -1
    return np.take_along_axis(position, items % (n_items + 1), axis=1)
