"""Settings of the retrieval of candidates."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.content.search.settings import Kind


@dataclass(frozen=True)
class RetrievalConfig:
    """Settings of the sources and of what joins them.

    Attributes:
        k: items that each source proposes to a user.
        limit: candidates of a user at most, over all sources.
        decay: how much an event of the history counts in the user's vector relative to the one
            after it, in (0, 1]; of ``nearest`` and ``cold``.
        events: newest events that make the user's vector.
        index: kind of the index over item vectors; ``auto`` chooses by the number of items.
        window: two events of a user are together when they are at most this many events apart.
        neighbours: items kept for each item by ``together``.
        shrink: added to the denominator of the cosine of ``together``, in users: pairs that few
            people took count less.
        together_decay: the same as ``decay``, of ``together``.
        together_events: newest events that ``together`` looks at.
        half_life_days: an event counts half as much for ``popular`` for every such span that has
            passed since.
        min_events: an item with fewer events is cold.
    """

    k: int = 200
    limit: int = 1000
    decay: float = 0.85
    events: int = 50
    index: Kind = "auto"
    window: int = 10
    neighbours: int = 200
    shrink: float = 10.0
    together_decay: float = 0.85
    together_events: int = 20
    half_life_days: float = 14.0
    min_events: int = 5

    def __post_init__(self) -> None:
        for name in ("k", "limit", "events", "window", "neighbours", "together_events"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")
        for name in ("shrink", "min_events"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be 0 or more, got {getattr(self, name)}")
        for name in ("decay", "together_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: must lie in (0, 1], got {getattr(self, name)}")
        if not self.half_life_days > 0:
            raise ValueError(f"half_life_days: must be above 0, got {self.half_life_days}")
