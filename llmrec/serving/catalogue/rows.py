"""Whole rows of a bundle's catalogue, read when they are needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from llmrec.data.catalogue import empty_row
from llmrec.data.source import ITEM_FIELDS, MEDIA_FIELDS
from llmrec.stage import reading

Row = dict[str, Any]
_UNKNOWN = dict.fromkeys(("price", "available_from", *MEDIA_FIELDS))
# What an item's vectors are made of
CONTENT_FIELDS = ("title", "description", "brand", "categories", "attributes")


def whole_row(item_id: str, known: Mapping[str, Any]) -> Row:
    """A row with all fields of a catalogue; those that are not known, or null, have their default.

    >>> row = whole_row("sku-1", {"title": "Lamp", "brand": None})
    >>> row["title"], row["brand"], row["categories"], row["price"]
    ('Lamp', '', [], None)
    """
    given = {name: value for name, value in known.items() if value is not None}
    return {**empty_row(item_id), **_UNKNOWN, **given, "item_id": item_id}


def own_file(name: str) -> str:
    """What stands for the file that a bundle's row names, whose path is nobody else's business.

    >>> own_file("image")
    'bundle:image'
    """
    return f"bundle:{name}"


def with_own_files(fields: Row, base: Row | None) -> Row:
    """Fields with the bundle's own files in the place of what stands for them.

    Args:
        base: row of the bundle; None for an item that it does not have, and so no file.
    """
    named = [name for name in MEDIA_FIELDS if fields.get(name) == own_file(name)]
    return fields | {name: None if base is None else base[name] for name in named}


def same_content(one: Row, other: Row) -> bool:
    """Whether two rows have the same vectors."""
    return all(one[name] == other[name] for name in CONTENT_FIELDS)


class BundleRows:
    """The rows of ``items.parquet``, of which a row group at a time is in memory.

    Args:
        path: the file.

    Raises:
        ArtifactError: if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        with reading(path, "llmrec bundle"):
            about = pq.read_metadata(path)
            names = pq.read_schema(path).names
        sizes = [about.row_group(at).num_rows for at in range(about.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._names = [name for name in ITEM_FIELDS if name in names]

    def read(self, items: Sequence[int]) -> dict[int, Row]:
        """The rows of some items, by their indices."""
        found: dict[int, Row] = {}
        groups = np.searchsorted(self._starts, items, side="right") - 1
        with self._lock, reading(self._path, "llmrec bundle"), pq.ParquetFile(self._path) as file:
            for group in np.unique(groups).tolist():
                table = file.read_row_group(group, columns=self._names)
                mine = [item for item, of in zip(items, groups, strict=True) if of == group]
                places = [item - int(self._starts[group]) for item in mine]
                for item, row in zip(mine, table.take(places).to_pylist(), strict=True):
                    found[item] = whole_row(row["item_id"], row)
        return found
