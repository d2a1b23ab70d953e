"""What the sources say of given items: the features of a candidate, in training and in serving.

A rank is the place in the source's own list without any filter, the history left out: what a filter
hides does not move what it shows, so a filtered request sees the features that training saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from llmrec.errors import DataError
from llmrec.ranking.retrieval.snapshot import Snapshot, Snapshots
from llmrec.ranking.retrieval.sources import (
    Answer,
    Limits,
    Source,
    blocks,
    check_items,
    check_sources,
)
from llmrec.types import Histories, Ranking


@dataclass(frozen=True, eq=False)
class Described:
    """What sources say of some items of some users.

    Attributes:
        rank: int32 ``[users, c, sources]``, the place in the source's own best k, 0 is the top; -1
            where it is not among them.
        score: float32 ``[users, c, sources]``, the source's score, also of items that it did not
            propose; NaN where it has nothing to say.
    """

    rank: np.ndarray
    score: np.ndarray

    @classmethod
    def nothing(cls, items: tuple[int, ...], sources: int) -> Described:
        """No source says anything of items ``[users, c]``."""
        shape = (*items, sources)
        return cls(np.full(shape, -1, dtype=np.int32), np.full(shape, np.nan, dtype=np.float32))


def describe(
    sources: Sequence[Source],
    histories: Histories,
    items: np.ndarray,
    k: int = 200,
    *,
    progress: bool = False,
) -> Described:
    """What each source says of given items.

    Args:
        items: int64 ``[users, c]``, each at most once a user; -1 pads.
        k: items that each source proposes.
        progress: show a bar.

    Raises:
        CatalogError: if an item, or one of a history, is not in the catalogue.
        ConfigError: if the sources cannot be asked together.
    """
    n_items = check_sources(sources)
    items = check_items(items, len(histories), n_items)
    described = Described.nothing(items.shape, len(sources))
    if not n_items:
        return described
    with tqdm(total=len(items), unit="list", desc="describe", disable=not progress) as bar:
        for rows in blocks(len(histories), n_items):
            part = histories.select(rows)
            own = Limits.of_history(part)
            answers = [source.ask(part) for source in sources]
            lists = [answer.best(k, own) for answer in answers]
            found = described_by(answers, lists, items[rows], n_items)
            described.rank[rows], described.score[rows] = found.rank, found.score
            bar.update(len(rows))
    return described


def describe_as_of(
    snapshots: Snapshots,
    make_sources: Callable[[Snapshot], Sequence[Source]],
    histories: Histories,
    items: np.ndarray,
    k: int = 200,
    *,
    progress: bool = False,
) -> Described:
    """The same, each moment by the newest snapshot that is not later than it.

    A moment before the first snapshot is described as one of which nothing was known.

    Args:
        make_sources: the sources over a snapshot, always the same ones in the same order.
        histories: with ``now``, no NaN.

    Raises:
        DataError: if a moment has no time.
        CatalogError, ConfigError: as for :func:`describe`.
    """
    now = histories.now
    if now is None or np.isnan(now).any():
        raise DataError("histories.now: a moment has no time, so what was known cannot be said")
    items = np.asarray(items, dtype=np.int64)
    chosen = snapshots.of(now)
    described: Described | None = None
    with tqdm(total=len(items), unit="list", desc="describe", disable=not progress) as bar:
        for number in np.unique(chosen) if len(chosen) else [-1]:
            known = Snapshot.empty() if number < 0 else snapshots.snapshots[number]
            rows = np.flatnonzero(chosen == number)
            sources = make_sources(known)
            found = describe(sources, histories.select(rows), items[rows], k)
            if described is None:
                described = Described.nothing(items.shape, len(sources))
            described.rank[rows], described.score[rows] = found.rank, found.score
            bar.update(len(rows))
    assert described is not None
    return described


def described_by(
    answers: Sequence[Answer], lists: Sequence[Ranking], items: np.ndarray, n_items: int
) -> Described:
    """What answers say of given items.

    Args:
        lists: each answer's best k.
    """
    described = Described.nothing(items.shape, len(answers))
    for number, (answer, ranking) in enumerate(zip(answers, lists, strict=True)):
        described.rank[:, :, number] = places(ranking.items, items, n_items)
        scores = answer.of(items)
        described.score[:, :, number] = np.where(np.isneginf(scores), np.nan, scores)
    return described


def places(lists: np.ndarray, items: np.ndarray, n_items: int) -> np.ndarray:
    """Where items stand in ranked lists, -1 where they do not: int32 ``[users, c]``.

    Args:
        lists: int64 ``[users, k]``, each item at most once; -1 pads.
        items: int64 ``[users, c]``; -1 pads.

    >>> places(np.array([[4, 2, -1]]), np.array([[2, 3, -1]]), 5).tolist()
    [[1, -1, -1]]
    """
    place = np.full((len(lists), n_items + 1), -1, dtype=np.int32)
    # padding is written to, and read from, one place behind the last
    np.put_along_axis(place, lists % (n_items + 1), np.arange(lists.shape[1])[None], axis=1)
    place[:, -1] = -1
    return np.take_along_axis(place, items % (n_items + 1), axis=1)
