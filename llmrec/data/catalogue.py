"""The catalogue while ``ingest`` runs: any shop's item rows -> ``items.parquet``.

Rows are made uniform and go to a file on disk at once; memory holds only the identifiers. Prices
wait there as they are written, since only the whole column says which mark its decimals have.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.columns import WholeNumbers
from llmrec.data.reading import Reading
from llmrec.data.source import ITEM_FIELDS, MEDIA_FIELDS, TEXT_FIELDS, RawItem
from llmrec.data.timestamps import UnreadableTimeError, to_seconds
from llmrec.data.values import DecimalMark, amount, number, to_list, to_pairs, to_text
from llmrec.errors import DataError

_TYPES = {
    "categories": pa.list_(pa.string()),
    "price": pa.float64(),
    "attributes": pa.list_(pa.string()),
    "in_stock": pa.bool_(),
    "available_from": pa.float64(),
}
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in ITEM_FIELDS])
_WRITTEN_PRICE = (pa.field("digits", pa.string()), pa.field("currency", pa.string()))
_SPILLED = pa.schema([*SCHEMA, *_WRITTEN_PRICE])
_FLUSH = 20_000  # rows
_YES, _NO = {"true", "1", "yes", "y", "t"}, {"false", "0", "no", "n", "f"}


class CatalogueWriter:
    """Items by identifier, in the order they came.

    Attributes:
        index: position of every identifier.
        described: how many items the file has; further ones are those that only events name.
        counts: what there is to say of them.
        unreadable: values that could not be read, by the field.
        currencies: of prices, as they are written.
    """

    def __init__(
        self,
        spill: Path,
        separator: str,
        keep_first: bool,
        media_files: Mapping[str, str],
        reading: Reading,
        whole: WholeNumbers,
    ) -> None:
        """
        Args:
            spill: a file to keep the rows in until they are written.
            separator: what parts categories and attributes in a text cell.
            keep_first: skip an identifier that occurs again instead of refusing it.
            media_files: field to the path, with ``{item_id}``, of files that are named by item.
            reading: how the items are read; takes note of rows that are skipped.
            whole: looks at the whole column of identifiers.
        """
        self._media_files = media_files
        self.index: dict[str, int] = {}
        fields = ("prices", "categories", "attributes")
        self.counts: Counter[str] = Counter(dict.fromkeys((f"{n}_unreadable" for n in fields), 0))
        self.unreadable: dict[str, Counter[str]] = {}
        self._separator, self._keep_first, self._spill = separator, keep_first, spill
        self._reading, self._whole = reading, whole
        self._missing = frozenset(["", *self._reading.options.missing])
        self._mark = DecimalMark("price", self._reading.options.decimal)
        self.currencies: Counter[str] = Counter()
        self._pending: list[dict[str, Any]] = []
        self.described = 0
        self._writer: Any = None

    def add(self, item: RawItem) -> None:
        """Take one row.

        Raises:
            DataError: for an item without or with a repeated identifier, or a row that cannot be
                read.
        """
        try:
            item_id = self._identifier(item)
            row = self._uniform(item_id, item)
        except DataError as error:
            self._reading.skip(error)
            return
        if item_id in self.index:
            if not self._keep_first:
                raise DataError(
                    f"{item.path}: row {item.row}: item_id {item_id[:80]!r} occurs a second "
                    "time; remove one row, or set duplicate_items: first"
                )
            self.counts["items_repeated"] += 1
            return
        self.index[item_id] = len(self.index)
        self._pending.append(row)
        if len(self._pending) == _FLUSH:
            self._flush()

    def _identifier(self, item: RawItem) -> str:
        value = item.fields.get("item_id")
        if isinstance(value, list | tuple | dict):
            kind = type(value).__name__
            raise DataError(f"{item.path}: row {item.row}: item_id is a {kind}, not one text")
        item_id = to_text(value)
        if item_id in self._missing:
            raise DataError(f"{item.path}: row {item.row}: no item_id; every item needs one")
        if item_id.endswith(".0"):
            item_id = self._whole.shortened(pa.array([item_id]))[0].as_py()
        return item_id

    def end(self) -> None:
        """No more rows come; later identifiers are items of which nothing else is known.

        Raises:
            DataError: if the mark of the decimals of prices is not clear.
        """
        self._flush()
        if self._writer is not None:
            self._writer.close()
        self._mark.decide()
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
                writer.write_table(self._priced(part))
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
            self._writer = pa.ipc.new_stream(str(self._spill), _SPILLED)
        self._writer.write_table(pa.Table.from_pylist(self._pending, _SPILLED))
        self._pending.clear()

    def _priced(self, rows: pa.Table) -> pa.Table:
        """Rows as they are written: prices as numbers; currencies, if there are several, beside."""
        digits, currency = rows["digits"].to_pylist(), rows["currency"].to_pylist()
        prices, attributes = rows["price"].to_pylist(), rows["attributes"].to_pylist()
        mark = self._mark.decide()
        for at, text in enumerate(digits):
            if text is None:
                continue
            prices[at] = number(text, mark)
            if prices[at] is None:
                self._unreadable("prices", text)
            elif currency[at] and len(self.currencies) > 1:
                attributes[at].append(f"currency={currency[at]}")
        rows = rows.drop_columns(["digits", "currency"])
        for name, values in (("price", prices), ("attributes", attributes)):
            rows = rows.set_column(
                SCHEMA.get_field_index(name), SCHEMA.field(name), pa.array(values, _TYPES[name])
            )
        return rows

    def _uniform(self, item_id: str, item: RawItem) -> dict[str, Any]:
        fields, folder = item.fields, item.path.parent
        return {
            "item_id": item_id,
            **{name: to_text(fields.get(name)) for name in TEXT_FIELDS},
            "categories": self._categories(fields.get("categories")),
            **self._price(item),
            "attributes": self._attributes(fields.get("attributes"), item.more),
            **{
                name: self._media(fields.get(name), folder) or self._named_by_item(name, item_id)
                for name in MEDIA_FIELDS
            },
            "in_stock": self._in_stock(item),
            "available_from": self._available_from(item),
        }

    def _unreadable(self, field: str, value: Any) -> None:
        self.counts[f"{field}_unreadable"] += 1
        self.unreadable.setdefault(field, Counter())[to_text(value)[:80]] += 1

    def _is_missing(self, value: Any) -> bool:
        return value is None or (isinstance(value, str) and value.strip() in self._missing)

    def _price(self, item: RawItem) -> dict[str, Any]:
        """The price as a number, or its digits and currency as they are written."""
        value: Any = item.fields.get("price")
        if self._is_missing(value):
            return {}
        if isinstance(value, str):
            found = amount(value)
            if found is not None:
                digits, currency = found
                self._mark.see(digits, f"{item.path}: row {item.row}")
                if currency:
                    self.currencies[currency] += 1
                return {"digits": digits, "currency": currency}
        else:
            try:
                price = float(value)
            except (ValueError, TypeError, OverflowError):
                price = math.nan
            if math.isfinite(price) and price >= 0:
                return {"price": price}
        self._unreadable("prices", value)
        return {}

    def _categories(self, value: Any) -> list[str]:
        if self._is_missing(value):
            return []
        try:
            return to_list(value, self._separator)
        except ValueError:
            self._unreadable("categories", value)
            return [to_text(value)]  # the brackets may be part of a name

    def _attributes(self, value: Any, more: Mapping[str, Any]) -> list[str]:
        found = to_pairs(more, self._separator)
        if self._is_missing(value):
            return found
        try:
            own = to_pairs(value, self._separator)
        except ValueError:
            self._unreadable("attributes", value)
            return found
        return [pair for pair in own if pair.split("=", 1)[0] not in more] + found

    def _media(self, value: Any, folder: Path) -> str | None:
        """A URL as it is; a path from the item file's folder as an absolute path."""
        text = "" if self._is_missing(value) else to_text(value)
        if not text:
            return None
        return text if "://" in text else os.path.abspath(folder / text)

    def _available_from(self, item: RawItem) -> float | None:
        """A time in any usual notation as seconds since 1970 UTC."""
        value = item.fields.get("available_from")
        if self._is_missing(value):
            return None
        try:
            seconds = float(to_seconds(pa.array([value]))[0][0])
        except (UnreadableTimeError, pa.ArrowException) as error:
            raise DataError(
                f"{item.path}: row {item.row}: available_from is no time ({error}); write ISO 8601 "
                "or seconds since 1970, or leave it out"
            ) from None
        return None if math.isnan(seconds) else seconds

    def _in_stock(self, item: RawItem) -> bool:
        value = item.fields.get("in_stock")
        text = "" if self._is_missing(value) else to_text(value).lower()
        if text in _YES or not text:
            return True
        if text in _NO:
            return False
        raise DataError(
            f"{item.path}: row {item.row}: in_stock is {str(value)[:80]!r}; write true or false, "
            "or leave it out"
        )

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


def empty_row(item_id: str) -> dict[str, Any]:
    """The row of an item of which nothing else is known."""
    text = dict.fromkeys(TEXT_FIELDS, "")
    return {"item_id": item_id, **text, "categories": [], "attributes": [], "in_stock": True}
