"""A long table of item properties, a row each, joined to the items: a column for each property.

Shops keep such tables where items have few properties of many: ``item_id, property, value`` and
perhaps ``timestamp``. The values of a property's latest time count, which may be after an event;
where there are no times, all of its values do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data import raw_files
from llmrec.data.columns import as_texts, identifiers, times
from llmrec.data.raw_files import Chunk, files_at
from llmrec.data.reading import Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import PROPERTY_FIELDS
from llmrec.errors import DataError


class ItemProperties:
    """The properties of all items.

    Attributes:
        files: what they are read from.
        names: of all properties, wanted or not.
    """

    def __init__(self, config: IngestConfig, wanted: Iterable[str], reading: Reading) -> None:
        """Read them.

        Args:
            wanted: the properties that are read.

        Raises:
            DataError: for a missing file or column, or a time that cannot be read.
        """
        assert config.properties is not None
        self.path, self.files = config.properties, files_at(config.properties)
        self._config, self._wanted = config, pa.array(list(wanted), pa.string())
        self._missing = reading.options.missing
        self.names: set[str] = set()
        self._rows: dict[str, tuple[Path, int]] = {}  # of every item, where it stands first
        self._values: dict[str, dict[str, tuple[float, list[str]]]] = {}
        for file in self.files:
            for chunk in self._chunks(file, reading):
                self._add(chunk)

    def _chunks(self, path: Path, reading: Reading) -> Iterator[Chunk]:
        theirs = {name: name for name in PROPERTY_FIELDS} | self._config.property_columns
        required = {
            column: f"name the column in property_columns: {{{name}: ...}}"
            for name, column in theirs.items()
            if name != "timestamp" or name in self._config.property_columns
        }
        for chunk in raw_files.chunks(path, list(theirs.values()), required, reading):
            yield chunk.named(theirs)

    def _add(self, chunk: Chunk) -> None:
        item_ids, names = (
            identifiers(chunk.columns[name], self._missing) for name in ("item_id", "property")
        )
        for row, item_id in zip(chunk.rows, item_ids.to_pylist(), strict=True):
            if item_id is not None and item_id not in self._rows:
                self._rows[item_id] = (chunk.path, int(row))
        self.names.update(name for name in names.unique().to_pylist() if name is not None)
        columns = {**chunk.columns, "item_id": item_ids, "property": names}
        keep = pc.and_(pc.is_in(names, self._wanted), item_ids.is_valid())
        chunk = Chunk(chunk.path, chunk.rows, columns).where(keep.to_numpy(zero_copy_only=False))
        time = np.full(len(chunk.rows), -np.inf)
        if "timestamp" in chunk.columns:
            unit, form = self._config.timestamp_unit, self._config.timestamp_format
            time = times(chunk, "timestamp", unit, form, self._missing)
            time = np.nan_to_num(time, nan=-np.inf)
        lists = [as_texts(chunk.columns[name]).to_pylist() for name in PROPERTY_FIELDS[:3]]
        for item_id, name, value, when in zip(*lists, time.tolist(), strict=True):
            known = self._values.setdefault(item_id, {})
            latest, values = known.get(name, (when, []))
            if when > latest:
                latest, values = when, []
            if when == latest and value is not None:
                values.append(value)
            known[name] = (latest, values)

    def check(self, names: Iterable[str], option: str) -> None:
        """Refuse a name that no row has.

        Raises:
            DataError: naming it.
        """
        for name in names:
            if name not in self.names:
                some = ", ".join(map(repr, sorted(self.names)[:20]))
                raise DataError(
                    f"{self.path}: no property {name!r} (it has {some}); correct {option}"
                )

    def of(self, item_id: str) -> dict[str, Any]:
        """What is known of an item: a text for each property, or a list of several."""
        found = self._values.get(item_id, {})
        return {
            name: values[0] if len(values) == 1 else values
            for name, (_, values) in found.items()
            if values
        }

    def rows(self) -> Iterator[tuple[Path, int, str]]:
        """Every item, and where it stands first."""
        for item_id, (path, row) in self._rows.items():
            yield path, row, item_id
