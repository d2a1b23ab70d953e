"""Settings of ``llmrec search index``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.config import check_ranges

Kind = Literal["auto", "flat", "hnsw", "ivfpq"]


@dataclass(frozen=True)
class SearchIndexConfig:
    """Settings of ``llmrec search index``.

    Attributes:
        kind: of the index. ``flat`` compares with every item and is exact; ``hnsw`` walks a graph;
            ``ivfpq`` looks into some lists of short codes. ``auto`` chooses by the number of items.
        text_weight: how much of an item's vector is its title's, 0 to 1. 0: the picture alone. 1:
            the title alone, so that items without a picture are found too. Between them the two
            are mixed, for items that have both: this helps where words say what a picture does
            not show, and hurts queries by picture.
        recall_queries: titles that an approximate index is compared with the exact answer on.
        device: auto, cpu, cuda, cuda:1, ...
        batch_size: titles a forward pass.
    """

    kind: Kind = "auto"
    text_weight: float = 0.0
    recall_queries: int = 500
    device: str = "auto"
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_ranges(self, "[0, 1]", "text_weight")
        check_ranges(self, "[1, inf)", "recall_queries", "batch_size")
