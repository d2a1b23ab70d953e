"""Lines of ``user item item ...`` in time order, and items with any fields beside them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.reading import Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import ITEM_FIELDS, RawItem, Source
from llmrec.errors import DataError


def open_source(config: IngestConfig) -> Source:
    """One file of sequences, with or without an item file.

    Raises:
        DataError: if a file is missing.
    """
    item_reading, event_reading = Reading(config.item_reading), Reading(config.event_reading)
    return Source.of_files(
        config.items,
        config.events,
        partial(read_items, reading=item_reading),
        partial(_events, reading=event_reading),
        item_reading=item_reading,
        event_reading=event_reading,
        order="file",
    )


def read_items(path: Path, reading: Reading) -> Iterator[RawItem]:
    """Items of one file: our fields as they are; any other key is an attribute."""
    for row, record in raw_files.rows(path, (), {"item_id": "give every item one"}, reading):
        fields = {name: record[name] for name in ITEM_FIELDS if name in record}
        others = {name: value for name, value in record.items() if name not in ITEM_FIELDS}
        yield RawItem(path, row, fields, others)


def _events(path: Path, reading: Reading) -> Iterator[raw_files.Chunk]:
    return raw_files.packed(path, _pairs(path, reading), ("user_id", "item_id"))


def _pairs(path: Path, reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, line in raw_files.text_lines(path, reading):
        user, *items = line.split()
        if not items:
            reading.skip(
                DataError(
                    f"{path}: row {row}: user {user[:80]!r} has no items; "
                    "write  user item item ...  or remove the line"
                )
            )
        for item in items:
            yield row, {"user_id": user, "item_id": item}
