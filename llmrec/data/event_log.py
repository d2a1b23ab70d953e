"""Events while ``ingest`` runs: chunks of raw columns -> small integer columns in memory.

An event takes 33 bytes of memory, a distinct user or item some 150; texts go to disk at once
(:mod:`llmrec.data.text_spill`). Ten million events of a million users fit into 1 GiB.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec.data import raw_files
from llmrec.data.text_spill import TextSpill
from llmrec.data.timestamps import Unit, UnreadableTimeError, to_seconds
from llmrec.errors import DataError
from llmrec.types import EVENT_TYPES

EVENT_FIELDS = (
    "user_id",
    "item_id",
    "type",
    "timestamp",
    "rating",
    "text",
    "session",
    "context",
)
SCHEMA = pa.schema(
    [
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("type", pa.string()),
        ("timestamp", pa.float64()),
        ("rating", pa.float64()),
        ("text", pa.string()),
        ("session", pa.string()),
        ("context", pa.string()),
        ("split", pa.int8()),
    ]
)
_PART = 500_000  # rows a row group


@dataclass(frozen=True)
class EventChunk:
    """Some events as a source gives them.

    Attributes:
        rows: row number in the file, ``[n]``.
        columns: our field name -> values ``[n]``; ``user_id`` and ``item_id`` always.
    """

    path: Path
    rows: Sequence[int]
    columns: dict[str, pa.Array]

    def where(self, keep: np.ndarray) -> EventChunk:
        """Only the rows of a bool mask."""
        if keep.all():
            return self
        rows = np.asarray(self.rows)[keep]
        mask = pa.array(keep)
        return EventChunk(self.path, rows, {k: v.filter(mask) for k, v in self.columns.items()})


@dataclass
class EventTable:
    """The numbers of all events; ``row`` counts the events that were read and kept."""

    user: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    time: np.ndarray
    rating: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: np.ndarray) -> None:
        """Keep or reorder, in place, one column at a time so that memory holds no second table."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[index])


@dataclass(frozen=True)
class Rules:
    """What an event must be like to stay; see ``llmrec.data.settings.IngestConfig``."""

    default_type: str
    type_names: dict[str, str]
    event_types: tuple[str, ...]
    min_rating: float | None
    timestamp_unit: Unit
    unknown_items: Literal["skip", "error", "add"]


class EventLog:
    """Takes chunks, drops what the rules drop, counts everything."""

    def __init__(self, rules: Rules, items: dict[str, int], texts: TextSpill) -> None:
        self.rules, self._items, self._texts = rules, items, texts
        self.users: dict[str, int] = {}
        self.read = self.bad_times = self.bad_ratings = 0
        self.dropped: Counter[str] = Counter()
        self.unknown_types: Counter[str] = Counter()
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, chunk: EventChunk) -> None:
        """Take a chunk.

        Raises:
            DataError: for an unreadable time, rating or context, and, if so ruled, an unknown item.
        """
        self.read += len(chunk.rows)
        chunk = self._identified(chunk, "user_id", "no_user")
        chunk = self._identified(chunk, "item_id", "no_item")
        chunk, kind = self._typed(chunk)
        chunk, kind, item = self._known(chunk, kind)
        chunk, kind, item, rating = self._rated(chunk, kind, item)
        time = self._times(chunk)
        user = _codes(chunk.columns["user_id"], self.users, grow=True)
        self._parts.append((user, item, kind, time, rating))
        self._texts.add(
            len(user),
            {
                "text": _texts(chunk.columns.get("text")),
                "session": _texts(chunk.columns.get("session")),
                "context": _contexts(chunk),
            },
        )

    def table(self) -> EventTable:
        """All events that stayed, in the order they came; the log is empty afterwards."""
        types = (np.int32, np.int32, np.int8, np.float64, np.float64)
        columns = [list(part) for part in zip(*self._parts, strict=True)] or [[] for _ in types]
        self._parts.clear()
        joined = []
        for parts, dtype in zip(columns, types, strict=True):
            joined.append(np.concatenate([np.empty(0, dtype), *parts]))
            parts.clear()
        user, item, kind, time, rating = joined
        return EventTable(user, item, kind, time, rating, row=np.arange(len(user)))

    def _identified(self, chunk: EventChunk, name: str, reason: str) -> EventChunk:
        texts = _as_strings(chunk.columns[name])
        present = np.asarray(pc.fill_null(pc.not_equal(texts, ""), False))
        self.dropped[reason] += int((~present).sum())
        return EventChunk(chunk.path, chunk.rows, {**chunk.columns, name: texts}).where(present)

    def _typed(self, chunk: EventChunk) -> tuple[EventChunk, np.ndarray]:
        rules, column = self.rules, chunk.columns.get("type")
        if column is None or column.null_count == len(column):
            column = pa.repeat(pa.scalar(rules.default_type), len(chunk.rows))
        encoded = _as_strings(column).fill_null(rules.default_type).dictionary_encode()
        index = encoded.indices.to_numpy(zero_copy_only=False)
        known, kept = [], []
        for place, name in enumerate(encoded.dictionary.to_pylist()):
            ours = rules.type_names.get(name, name) or rules.default_type
            known.append(EVENT_TYPES.index(ours) if ours in EVENT_TYPES else -1)
            kept.append(
                ours in EVENT_TYPES and (not rules.event_types or ours in rules.event_types)
            )
            if ours not in EVENT_TYPES:
                self.unknown_types[name] += int((index == place).sum())
        kind = np.asarray(known, np.int8)[index]
        keep = np.asarray(kept, bool)[index]
        self.dropped["unknown_type"] += int((kind < 0).sum())
        self.dropped["type_not_kept"] += int((~keep & (kind >= 0)).sum())
        return chunk.where(keep), kind[keep]

    def _known(
        self, chunk: EventChunk, kind: np.ndarray
    ) -> tuple[EventChunk, np.ndarray, np.ndarray]:
        ids = chunk.columns["item_id"]
        item = _codes(ids, self._items, grow=self.rules.unknown_items == "add")
        keep = item >= 0
        missing = np.flatnonzero(~keep)
        if len(missing) and self.rules.unknown_items == "error":
            at = int(missing[0])
            raise DataError(
                f"{chunk.path}: row {chunk.rows[at]}: item {ids[at].as_py()!r} is not among the "
                "items; add it there, or set unknown_items: skip"
            )
        self.dropped["unknown_item"] += len(missing)
        return chunk.where(keep), kind[keep], item[keep]

    def _rated(
        self, chunk: EventChunk, kind: np.ndarray, item: np.ndarray
    ) -> tuple[EventChunk, np.ndarray, np.ndarray, np.ndarray]:
        column = chunk.columns.get("rating")
        if column is None:
            return chunk, kind, item, np.full(len(item), np.nan)
        rating, unusable = _numbers(chunk, column)
        self.bad_ratings += unusable
        if self.rules.min_rating is None:
            return chunk, kind, item, rating
        keep = ~(rating < self.rules.min_rating)  # an event without a rating stays
        self.dropped["low_rating"] += int((~keep).sum())
        return chunk.where(keep), kind[keep], item[keep], rating[keep]

    def _times(self, chunk: EventChunk) -> np.ndarray:
        column = chunk.columns.get("timestamp")
        if column is None:
            return np.full(len(chunk.rows), np.nan)
        try:
            seconds, unusable = to_seconds(column, self.rules.timestamp_unit)
        except UnreadableTimeError as error:
            raise DataError(
                f"{chunk.path}: row {chunk.rows[error.index]}: timestamp {error}; "
                "write seconds since 1970 or ISO 8601, or set timestamp_unit"
            ) from None
        self.bad_times += unusable
        return seconds


def write_events(path: Path, events: EventTable, split: np.ndarray, texts: TextSpill) -> None:
    """Write ``events.parquet``: ``events`` in their order, joined with their texts."""
    types = pa.array(EVENT_TYPES)
    start = 0
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for table in texts.ordered(events.row, _PART):
            part = slice(start, start + table.num_rows)
            start += table.num_rows
            columns = [
                pa.array(events.user[part]),
                pa.array(events.item[part]),
                types.take(pa.array(events.kind[part])),
                pa.array(events.time[part], from_pandas=True),  # NaN becomes null
                pa.array(events.rating[part], from_pandas=True),
                *table.columns,
                pa.array(split[part]),
            ]
            writer.write_table(pa.table(columns, schema=SCHEMA))


def _codes(values: pa.Array, index: dict[str, int], grow: bool) -> np.ndarray:
    """int32 ``[n]`` code of every value; -1, or a new code, for one not in ``index``."""
    encoded = values.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if grow:
        codes = [index.setdefault(name, len(index)) for name in names]
    else:
        codes = [index.get(name, -1) for name in names]
    return np.asarray(codes, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]


def _as_strings(values: pa.Array) -> pa.Array:
    """Identifiers as trimmed text; whole floats (pandas makes them of nullable ints) as ints."""
    if pa.types.is_floating(values.type):
        return raw_files.strings(values.to_pylist())
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    return pc.utf8_trim_whitespace(values.cast(pa.string()))


def _numbers(chunk: EventChunk, column: pa.Array) -> tuple[np.ndarray, int]:
    """float64 ratings, NaN where there is none, and how many were given as NaN or infinite."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    try:
        numbers = column.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        for row, text in zip(chunk.rows, column.to_pylist(), strict=True):
            if text is not None and not _is_number(text):
                raise DataError(
                    f"{chunk.path}: row {row}: rating {text!r} is not a number; "
                    "correct it or leave it empty"
                ) from None
        numbers = pa.array([None if t is None else float(t) for t in column.to_pylist()])
    values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    unusable = ~np.isfinite(values)
    return np.where(unusable, np.nan, values), int(unusable.sum()) - numbers.null_count


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (ValueError, TypeError):
        return False
    return True


def _texts(column: pa.Array | None) -> pa.Array | None:
    if column is None or column.null_count == len(column):
        return None
    if pa.types.is_nested(column.type):
        return raw_files.strings(column.to_pylist())
    return column.cast(pa.string())


def _contexts(chunk: EventChunk) -> pa.Array | None:
    """The context as JSON text, each distinct one checked once."""
    column = _texts(chunk.columns.get("context"))
    if column is None:
        return None
    encoded = column.dictionary_encode()
    for place, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            good = isinstance(json.loads(text or "{}"), dict)
        except ValueError:
            good = False
        if not good:
            at = int(np.flatnonzero(encoded.indices.to_numpy(zero_copy_only=False) == place)[0])
            raise DataError(
                f"{chunk.path}: row {chunk.rows[at]}: context {text!r} is not a JSON object; "
                'write it as {"device": "phone"} or leave it empty'
            )
    return pc.if_else(pc.equal(column, ""), pa.scalar("{}"), column)


def in_chunks(
    path: Path, events: Iterator[tuple[int, dict[str, Any]]], names: Sequence[str]
) -> Iterator[EventChunk]:
    """Events that a format gives one by one, packed into chunks.

    Args:
        events: ``(row, values by our field names)``.
        names: the fields that it gives.
    """
    rows: list[int] = []
    batch: list[dict[str, Any]] = []

    def chunk() -> EventChunk:
        columns = {name: raw_files.json_column([e.get(name) for e in batch]) for name in names}
        return EventChunk(path, list(rows), columns)

    for row, event in events:
        rows.append(row)
        batch.append(event)
        if len(batch) == raw_files.JSON_CHUNK:
            yield chunk()
            rows.clear()
            batch.clear()
    if batch:
        yield chunk()
