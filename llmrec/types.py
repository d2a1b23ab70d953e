"""The types of llmrec: one vocabulary for code, CLI, API and documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EVENT_TYPES = ("view", "click", "cart", "purchase", "rating", "review", "return")


@dataclass(frozen=True)
class Item:
    """One thing of the catalogue.

    Attributes:
        item_id: the shop's own identifier, unique in a catalogue.
        price: in the shop's currency, or None when unknown.
        image, video, audio: path or URL, or None.
        attributes: free fields such as ``{"colour": "red"}``.
        domain: the shop or department it belongs to, for cross-domain data.
        available_from: when it came into the catalogue, seconds since 1970 UTC; None when unknown.
    """

    item_id: str
    title: str = ""
    description: str = ""
    brand: str = ""
    categories: tuple[str, ...] = ()
    price: float | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    in_stock: bool = True
    domain: str = ""
    available_from: float | None = None


@dataclass(frozen=True)
class Event:
    """One thing a user did. ``timestamp`` is in seconds since 1970 UTC, or None."""

    user_id: str
    item_id: str
    type: str = "purchase"
    timestamp: float | None = None
    rating: float | None = None
    text: str = ""
    session: str = ""
    context: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Histories:
    """Many users' item sequences, oldest first, packed into flat arrays.

    Attributes:
        items: int32 ``[total]``, item indices (rows of the catalogue table).
        offsets: int64 ``[users + 1]``; user ``u`` owns ``items[offsets[u]:offsets[u + 1]]``.
        timestamps: float64 ``[total]`` seconds since 1970 UTC, NaN where unknown; or None.
        now: float64 ``[users]``, the time of the request for recommendations; or None.
    """

    items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray | None = None
    now: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[user] for user in range(len(self)))

    def times(self, user: int) -> np.ndarray | None:
        """Timestamps of one user's history, or None when the data has none."""
        if self.timestamps is None:
            return None
        return self.timestamps[self.offsets[user] : self.offsets[user + 1]]

    def lengths(self) -> np.ndarray:
        """int64 ``[users]``."""
        return np.diff(self.offsets)

    def select(self, users: np.ndarray | Sequence[int]) -> Histories:
        """The histories of some users, in the order asked for (or where a mask is true)."""
        users = _rows(users, len(self))
        starts, ends = self.offsets[:-1][users], self.offsets[1:][users]
        now = None if self.now is None else self.now[users]
        return Histories.from_spans(self.items, starts, ends, self.timestamps, now)

    @classmethod
    def from_spans(
        cls,
        items: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        timestamps: np.ndarray | None = None,
        now: np.ndarray | None = None,
    ) -> Histories:
        """Histories that are spans of one long sequence; they may overlap.

        Args:
            items, timestamps: of the sequence.
            starts, ends: int ``[users]``, half-open.

        >>> h = Histories.from_spans(np.array([5, 6, 7]), np.array([0, 1]), np.array([2, 3]))
        >>> [row.tolist() for row in h]
        [[5, 6], [6, 7]]
        """
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # position of every event: the start of its span plus a running index
        positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        times = None if timestamps is None else timestamps[positions]
        return cls(items[positions], offsets, times, now)

    @classmethod
    def concatenate(cls, parts: Sequence[Histories]) -> Histories:
        """The users of several, in their order; a time that a part does not have is NaN.

        >>> parts = [Histories.from_lists([[3]], now=[9.0]), Histories.from_lists([[1, 2]])]
        >>> joined = Histories.concatenate(parts)
        >>> [row.tolist() for row in joined], joined.timestamps, joined.now.tolist()
        ([[3], [1, 2]], None, [9.0, nan])
        """

        def times(name: str, sizes: list[int]) -> np.ndarray | None:
            known = [getattr(part, name) for part in parts]
            if all(one is None for one in known):
                return None
            pairs = zip(known, sizes, strict=True)
            return np.concatenate([np.full(n, np.nan) if t is None else t for t, n in pairs])

        items = np.concatenate([part.items for part in parts])
        lengths = np.concatenate([part.lengths() for part in parts])
        return cls(
            items,
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            times("timestamps", [len(part.items) for part in parts]),
            times("now", [len(part) for part in parts]),
        )

    @classmethod
    def from_lists(
        cls,
        items: Sequence[Sequence[int]],
        timestamps: Sequence[Sequence[float]] | None = None,
        now: Sequence[float] | None = None,
    ) -> Histories:
        """Pack Python lists.

        >>> h = Histories.from_lists([[3, 1], [], [2]])
        >>> [list(map(int, row)) for row in h]
        [[3, 1], [], [2]]
        """
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in items])]).astype(np.int64)
        flat = np.asarray([i for row in items for i in row], dtype=np.int32)
        times = None
        if timestamps is not None:
            times = np.asarray([t for row in timestamps for t in row], dtype=np.float64)
        request = None if now is None else np.asarray(now, dtype=np.float64)
        return cls(flat, offsets, times, request)


@dataclass(frozen=True)
class Cases:
    """The cases of an evaluation: after this history, which item came next?

    Attributes:
        users: int32 ``[cases]``, user indices (a user may occur more than once).
        histories: everything the user did before the target, ``[cases]``.
        targets: int32 ``[cases]``, item indices.
        basket: int64 ``[cases]`` rising from 0 without gaps, where what came next is a set of
            items: cases of one number have one history and differ in their target. None where
            each stands for itself.
    """

    users: np.ndarray
    histories: Histories
    targets: np.ndarray
    basket: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def starts(self) -> np.ndarray:
        """int64 ``[baskets]``, the first case of each basket; every case without baskets."""
        if self.basket is None:
            return np.arange(len(self))
        return np.flatnonzero(np.diff(self.basket, prepend=-1))

    def select(self, rows: np.ndarray | Sequence[int]) -> Cases:
        """Some of the cases, in the order asked for (or where a mask is true)."""
        rows = _rows(rows, len(self))
        basket = None
        if self.basket is not None:
            basket = np.cumsum(np.diff(self.basket[rows], prepend=self.basket[rows[:1]]) != 0)
        return Cases(self.users[rows], self.histories.select(rows), self.targets[rows], basket)

    def select_whole(self, baskets: np.ndarray) -> Cases:
        """All cases of some baskets, rising numbers; without baskets, those cases."""
        if self.basket is None:
            return self.select(baskets)
        return self.select(np.flatnonzero(np.isin(self.basket, baskets)))


@dataclass(frozen=True)
class Ranking:
    """Ranked items for a batch of users, best first.

    Attributes:
        items: int64 ``[users, n]`` item indices; -1 pads a list that is shorter than n.
        scores: float32 ``[users, n]``, never increasing along a row; -inf where padded.
    """

    items: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Recommendation:
    """One recommended item, as the API returns it. ``rank`` starts at 1.

    The others are known where a click model ranks; see :mod:`llmrec.serving`.

    Attributes:
        p_click: probability of a click at this rank, in (0, 1).
        p_purchase: probability of a click and then a purchase.
        expected_rating: stars, 1 to 5.
        llm_logp: the item's log-likelihood after the history, as the language model has it.
        sources: names of the sources that proposed it.
    """

    item_id: str
    title: str
    rank: int
    score: float
    reason: str = ""
    p_click: float | None = None
    p_purchase: float | None = None
    expected_rating: float | None = None
    llm_logp: float | None = None
    sources: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it, without what is not known.

        >>> Recommendation("sku-1", "Lamp", 1, -0.5).as_dict()
        {'item_id': 'sku-1', 'title': 'Lamp', 'rank': 1, 'score': -0.5, 'reason': ''}
        """
        known = {name: value for name, value in vars(self).items() if value is not None}
        if not self.sources:
            del known["sources"]
        return known


def _rows(chosen: np.ndarray | Sequence[int], total: int) -> np.ndarray:
    """Row numbers; a boolean mask would otherwise silently mean rows 0 and 1."""
    rows = np.asarray(chosen)
    if rows.dtype != bool:
        return rows.astype(np.int64)
    if len(rows) != total:
        raise IndexError(f"a mask of {len(rows)} for {total} rows")
    return np.flatnonzero(rows)
