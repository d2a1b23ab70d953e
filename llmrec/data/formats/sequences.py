"""Lines of ``user item item ...`` in time order, and items with any fields beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.settings import IngestConfig
from llmrec.data.source import ITEM_FIELDS, RawItem, Source
from llmrec.errors import DataError


def open_source(config: IngestConfig) -> Source:
    """One file of sequences, with or without an item file.

    Raises:
        DataError: if a file is missing.
    """
    return Source.of_files(config.items, config.events, _items, _events)


def _items(path: Path) -> Iterator[RawItem]:
    """Our fields as they are; any other key is an attribute."""
    for row, record in raw_files.rows(path, (), {"item_id": "give every item one"}):
        fields = {name: record[name] for name in ITEM_FIELDS if name in record}
        others = {name: value for name, value in record.items() if name not in ITEM_FIELDS}
        own = fields.get("attributes")
        fields["attributes"] = {**own, **others} if isinstance(own, dict) else others
        yield RawItem(path, row, fields)


def _events(path: Path) -> Iterator[raw_files.Chunk]:
    return raw_files.packed(path, _pairs(path), ("user_id", "item_id"))


def _pairs(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, line in raw_files.text_lines(path):
        user, *items = line.split()
        if not items:
            raise DataError(
                f"{path}: row {row}: user {user!r} has no items; "
                "write  user item item ...  or remove the line"
            )
        for item in items:
            yield row, {"user_id": user, "item_id": item}
