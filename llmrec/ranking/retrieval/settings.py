"""Settings of the retrieval of candidates."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.config import check_ranges
from llmrec.content.search.settings import Kind


@dataclass(frozen=True)
class RetrievalConfig:
    """Settings of the sources of candidates and of their union.

    Attributes:
        k: items that each source proposes to a user.
        limit: candidates of a user at most, over all sources.
        decay: weight of an event of the history in the user's vector relative to the one after it,
            in (0, 1]; of ``content`` and ``cold_start``.
        events: newest events that make the user's vector.
        index: kind of the index over item vectors; ``auto`` chooses by the number of items.
        window: two events of a user co-occur when they are at most this many events apart.
        neighbours: items kept for each item by ``item_to_item``.
        shrink: added to the denominator of its cosine, in users: pairs of few people count less.
        item_to_item_decay: the same as ``decay``, of ``item_to_item``.
        item_to_item_events: newest events that ``item_to_item`` looks at.
        half_life_days: an event counts half as much for ``popular`` for every such span that has
            passed since.
        min_events: an item with fewer events is cold.

    Raises:
        ConfigError: naming the field.
    """

    k: int = 200
    limit: int = 1000
    decay: float = 0.85
    events: int = 50
    index: Kind = "auto"
    window: int = 10
    neighbours: int = 200
    shrink: float = 10.0
    item_to_item_decay: float = 0.85
    item_to_item_events: int = 20
    half_life_days: float = 14.0
    min_events: int = 5

    def __post_init__(self) -> None:
        check_ranges(
            self, "[1, inf)", "k", "limit", "events", "window", "neighbours", "item_to_item_events"
        )
        check_ranges(self, "[0, inf)", "shrink", "min_events")
        check_ranges(self, "(0, 1]", "decay", "item_to_item_decay")
        check_ranges(self, "(0, inf)", "half_life_days")
