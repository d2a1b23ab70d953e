"""The sources of candidates, in one table: training, serving and benchmarks have the same."""

from __future__ import annotations

import importlib

from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.ranking.retrieval.source import Source

_HERE = "llmrec.ranking.retrieval"

# Name -> "module:class". The click model reads the features of sources in this order.
SOURCES: dict[str, str] = {
    "generated": f"{_HERE}.generated:Generated",
    "content": f"{_HERE}.content:ContentNeighbours",
    "item_to_item": f"{_HERE}.item_to_item:ItemToItem",
    "popular": f"{_HERE}.popular:Popular",
    "cold_start": f"{_HERE}.cold_start:ColdStart",
}


def source_class(name: str) -> type[Source]:
    """The class of a source, by its name in :data:`SOURCES`."""
    module, found = SOURCES[name].split(":")
    cls: type[Source] = getattr(importlib.import_module(module), found)
    return cls


def source_names(catalogue: Catalogue) -> tuple[str, ...]:
    """Of the sources that a catalogue has what they need for."""
    return tuple(name for name in SOURCES if source_class(name).available(catalogue))


def make_sources(catalogue: Catalogue, snapshot: Snapshot) -> list[Source]:
    """The sources as of a snapshot.

    Raises:
        DataError: if the snapshot knows more items than there are.
    """
    return [source_class(name)(catalogue, snapshot) for name in source_names(catalogue)]
