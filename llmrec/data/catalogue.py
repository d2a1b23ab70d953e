"""The catalogue while ``ingest`` runs: any shop's item rows -> ``items.parquet``.

Rows are made uniform and go to a file on disk at once; memory holds only the identifiers.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.source import ITEM_FIELDS, MEDIA_FIELDS, TEXT_FIELDS, RawItem
from llmrec.data.timestamps import UnreadableTimeError, to_seconds
from llmrec.errors import DataError

_TYPES = {
    "categories": pa.list_(pa.string()),
    "price": pa.float64(),
    "attributes": pa.list_(pa.string()),
    "in_stock": pa.bool_(),
    "available_from": pa.float64(),
}
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in ITEM_FIELDS])
_FLUSH = 20_000  # rows
_YES, _NO = {"true", "1", "yes", "y", "t"}, {"false", "0", "no", "n", "f"}


class CatalogueWriter:
    """Items by identifier, in the order they came."""

    def __init__(
        self,
        spill: Path,
        separator: str,
        keep_first: bool,
        media_files: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            spill: a file to keep the rows in until they are written.
            separator: what parts categories and attributes in a text cell.
            keep_first: skip an identifier that occurs again instead of refusing it.
            media_files: field to the path, with ``{item_id}``, of files that are named by item.
        """
        self._media_files = dict(media_files or {})
        self.index: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self._separator, self._keep_first, self._spill = separator, keep_first, spill
        self._pending: list[dict[str, Any]] = []
        self.described = 0  # items of the file; further codes are of items that only events name
        self._writer: Any = None

    def add(self, item: RawItem) -> None:
        """Take one row.

        Raises:
            DataError: for an item without or with a repeated identifier.
        """
        item_id = _text(item.fields.get("item_id"))
        if not item_id:
            raise DataError(f"{item.path}: row {item.row}: no item_id; every item needs one")
        if item_id in self.index:
            if not self._keep_first:
                raise DataError(
                    f"{item.path}: row {item.row}: item_id {item_id!r} occurs a second time; "
                    "remove one row, or set duplicate_items: first"
                )
            self.counts["items_repeated"] += 1
            return
        self.index[item_id] = len(self.index)
        self._pending.append(self._uniform(item_id, item))
        if len(self._pending) == _FLUSH:
            self._flush()

    def end(self) -> None:
        """No more rows come; later identifiers are items of which nothing else is known."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
        self.described = len(self.index)

    def write(self, path: Path, kept: np.ndarray) -> None:
        """Write some items; row number = position in ``kept``.

        Args:
            kept: codes, those of the file first and ascending.
        """
        keep = np.zeros(self.described, dtype=bool)
        keep[kept[kept < self.described]] = True
        names = list(self.index)
        bare = [names[code] for code in kept[kept >= self.described]]
        untitled = 0
        with pq.ParquetWriter(path, SCHEMA) as writer:
            for start, table in self._stored():
                part = table.filter(pa.array(keep[start : start + table.num_rows]))
                untitled += sum(not title for title in part["title"].to_pylist())
                writer.write_table(part)
            for start in range(0, len(bare), _FLUSH):
                rows = [empty_row(name) for name in bare[start : start + _FLUSH]]
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        self.counts["items_without_title"] = untitled + len(bare)
        self.counts["items_not_in_file"] = len(bare)

    def _stored(self) -> Iterator[tuple[int, pa.Table]]:
        if self._writer is None:
            return
        start = 0
        with pa.memory_map(str(self._spill)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                yield start, pa.Table.from_batches([batch])
                start += batch.num_rows

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._writer is None:
            self._writer = pa.ipc.new_stream(str(self._spill), SCHEMA)
        self._writer.write_table(pa.Table.from_pylist(self._pending, SCHEMA))
        self._pending.clear()

    def _uniform(self, item_id: str, item: RawItem) -> dict[str, Any]:
        fields, folder = item.fields, item.path.parent
        price, readable = to_price(fields.get("price"))
        self.counts["prices_unreadable"] += not readable
        return {
            "item_id": item_id,
            **{name: _text(fields.get(name)) for name in TEXT_FIELDS},
            "categories": to_list(fields.get("categories"), self._separator),
            "price": price,
            "attributes": self._pairs(item),
            **{
                name: _media(fields.get(name), folder) or self._named_by_item(name, item_id)
                for name in MEDIA_FIELDS
            },
            "in_stock": _in_stock(fields.get("in_stock"), item),
            "available_from": _time(fields.get("available_from"), item),
        }

    def _named_by_item(self, name: str, item_id: str) -> str | None:
        """The file of an item whose row names none, if there is one."""
        pattern = self._media_files.get(name)
        if pattern is None:
            return None
        path = os.path.abspath(pattern.replace("{item_id}", item_id))
        if not os.path.isfile(path):
            return None
        self.counts[f"{name}_files"] += 1
        return path

    def _pairs(self, item: RawItem) -> list[str]:
        value = item.fields.get("attributes")
        try:
            return to_pairs(value, self._separator)
        except (ValueError, TypeError, AttributeError):
            raise DataError(
                f"{item.path}: row {item.row}: attributes are {value!r}; "
                'write {"colour": "red"} or colour=red'
            ) from None


def to_price(value: Any) -> tuple[float | None, bool]:
    """A price, and whether the value could be read (an absent one can).

    >>> to_price("$1,234.50"), to_price(float("nan")), to_price(None), to_price("3 - 5")
    ((1234.5, True), (None, False), (None, True), (None, False))
    """
    if value is None or value == "":
        return None, True
    try:
        price = float(
            value.strip().lstrip("$€£").replace(",", "") if isinstance(value, str) else value
        )
    except (ValueError, TypeError):
        return None, False
    return (price, True) if math.isfinite(price) and price >= 0 else (None, False)


def to_list(value: Any, separator: str) -> list[str]:
    """A list of distinct texts out of a list, nested lists, a JSON list or separated text.

    >>> to_list([["Beauty", "Hair"], ["Beauty"]], "|"), to_list("a | b", "|")
    (['Beauty', 'Hair'], ['a', 'b'])
    """
    if isinstance(value, str):
        value = _json_or(value, "[", value.split(separator))
    elif not isinstance(value, list | tuple):
        value = [] if value is None else [value]
    flat: list[str] = []
    for entry in value:
        flat += to_list(entry, separator) if isinstance(entry, list | tuple) else [_text(entry)]
    return list(dict.fromkeys(text for text in flat if text))


def to_pairs(value: Any, separator: str) -> list[str]:
    """Attributes as ``name=value`` texts out of a mapping, pairs, a JSON object or such texts.

    Raises:
        ValueError, TypeError or AttributeError: for anything else.

    >>> to_pairs({"colour": "red", "sizes": [1, 2], "none": None}, "|"), to_pairs("a=1|b=2", "|")
    (['colour=red', 'sizes=1,2'], ['a=1', 'b=2'])
    """
    if isinstance(value, str):
        value = _json_or(value, "{", value.split(separator))
    if isinstance(value, list | tuple):
        value = dict(
            entry.split("=", 1) if isinstance(entry, str) else entry
            for entry in value
            if not isinstance(entry, str) or "=" in entry
        )
    pairs = []
    for name, content in (value or {}).items():
        text = ",".join(map(_text, content)) if isinstance(content, list) else _text(content)
        if text:  # the first "=" parts name and value, so a name must not hold one
            pairs.append(f"{_text(name).replace('=', '_')}={text}")
    return pairs


def empty_row(item_id: str) -> dict[str, Any]:
    """The row of an item of which nothing else is known."""
    text = dict.fromkeys(TEXT_FIELDS, "")
    return {"item_id": item_id, **text, "categories": [], "attributes": [], "in_stock": True}


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(_text, value)))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _json_or(text: str, opening: str, otherwise: Any) -> Any:
    if text.lstrip().startswith(opening):
        try:
            return json.loads(text)
        except ValueError:
            pass  # not JSON after all: plain text that starts with a bracket
    return otherwise


def _media(value: Any, folder: Path) -> str | None:
    """A URL as it is; a path from the item file's folder as an absolute path."""
    text = _text(value)
    if not text:
        return None
    return text if "://" in text else os.path.abspath(folder / text)


def _time(value: Any, item: RawItem) -> float | None:
    """A time in any usual notation as seconds since 1970 UTC."""
    if value is None or value == "":
        return None
    try:
        seconds = float(to_seconds(pa.array([value]))[0][0])
    except (UnreadableTimeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{item.path}: row {item.row}: available_from is no time ({error}); write ISO 8601 or "
            "seconds since 1970, or leave it out"
        ) from None
    return None if math.isnan(seconds) else seconds


def _in_stock(value: Any, item: RawItem) -> bool:
    text = _text(value).lower()
    if text in _YES or not text:
        return True
    if text in _NO:
        return False
    raise DataError(
        f"{item.path}: row {item.row}: in_stock is {value!r}; write true or false, or leave it out"
    )
