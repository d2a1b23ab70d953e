"""Events while ``ingest`` reads them: chunks of raw columns -> an :class:`EventTable`.

A distinct user or item takes some 150 bytes of memory; texts go to disk at once.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data import raw_files
from llmrec.data.event_table import EventTable
from llmrec.data.external_sort import ExternalSort
from llmrec.data.raw_files import Chunk
from llmrec.data.settings import IngestConfig
from llmrec.data.source import Source
from llmrec.data.timestamps import UnreadableTimeError, to_seconds
from llmrec.errors import DataError
from llmrec.types import EVENT_TYPES


class IdCodes:
    """Integer codes of users or items, and the order in which learned events name them.

    Attributes:
        index: code of every identifier; grows.
    """

    def __init__(self, index: dict[str, int]) -> None:
        self.index = index
        self._learned = [np.arange(len(index))]
        self._is_learned = np.ones(len(index), dtype=bool)

    def encode(self, values: pa.Array, grow: bool) -> np.ndarray:
        """int32 ``[n]`` code of every value; -1, or a new code, for one that has none."""
        encoded = values.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        if grow:
            codes = [self.index.setdefault(name, len(self.index)) for name in names]
        else:
            codes = [self.index.get(name, -1) for name in names]
        return np.asarray(codes, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]

    def learn(self, codes: np.ndarray) -> None:
        """Take note of the codes of the next events that sequence models learn from."""
        more = len(self.index) - len(self._is_learned)
        self._is_learned = np.append(self._is_learned, np.zeros(more, dtype=bool))
        new = codes[~self._is_learned[codes]]
        new = new[np.sort(np.unique(new, return_index=True)[1])]
        self._is_learned[new] = True
        self._learned.append(new)

    def order(self) -> np.ndarray:
        """int64 ``[size]``: the first codes, then learned ones as events named them, then others.

        It does not depend on events of other types, except for the others at its end.
        """
        self.learn(np.empty(0, np.int32))
        return np.concatenate([*self._learned, np.flatnonzero(~self._is_learned)])


class EventReader:
    """Takes chunks, drops what the settings drop, counts everything.

    Attributes:
        users, items: their codes.
        read: events so far; bad_times, bad_ratings: those that could not be used.
        dropped, unknown_types: how many, by reason and by name.
    """

    def __init__(
        self, config: IngestConfig, source: Source, items: dict[str, int], texts: ExternalSort
    ) -> None:
        """
        Args:
            items: code of every item; gets those that are added.
            texts: gets the texts of events.
        """
        self._config, self._texts = config, texts
        self._default_type = config.default_type or source.default_type
        self._adds_items = source.items is None or config.unknown_items == "add"
        self._learned = [EVENT_TYPES.index(name) for name in config.event_types or EVENT_TYPES]
        self.users, self.items = IdCodes({}), IdCodes(items)
        self.read = self.bad_times = self.bad_ratings = 0
        self.dropped: Counter[str] = Counter()
        self.unknown_types: Counter[str] = Counter()
        self._parts: list[tuple[np.ndarray, ...]] = []

    def is_learned(self, kind: np.ndarray) -> np.ndarray:
        """bool ``[n]``: whether events are of the types that sequence models learn from."""
        return np.isin(kind, self._learned)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk.

        Raises:
            DataError: for an unreadable time, rating or context, and, if set so, an unknown item.
        """
        self.read += len(chunk.rows)
        chunk = self._identified(chunk, "user_id", "no_user")
        chunk = self._identified(chunk, "item_id", "no_item")
        chunk, kind = self._typed(chunk)
        item = self._items_of(chunk)
        known = item >= 0
        self.items.learn(item[known & self.is_learned(kind)])
        chunk, kind, item = self._keep(known, "unknown_item", chunk, kind, item)
        rating, unusable = _ratings(chunk)
        self.bad_ratings += unusable
        if self._config.min_rating is not None:
            # an event without a rating stays
            high = ~((rating < self._config.min_rating) & self.is_learned(kind))
            chunk, kind, item, rating = self._keep(high, "low_rating", chunk, kind, item, rating)
        time = self._times(chunk)
        user = self.users.encode(chunk.columns["user_id"], grow=True)
        self.users.learn(user[self.is_learned(kind)])
        self._parts.append((user, item, kind, time, rating))
        texts = {name: _texts(chunk.columns.get(name)) for name in ("text", "session")}
        self._texts.add(len(user), {**texts, "context": _contexts(chunk)})

    def table(self) -> EventTable:
        """All events that stayed, in the order they came; the reader is empty afterwards."""
        types = (np.int32, np.int32, np.int8, np.float64, np.float64)
        columns = [list(part) for part in zip(*self._parts, strict=True)] or [[] for _ in types]
        self._parts.clear()
        joined = []
        for parts, dtype in zip(columns, types, strict=True):
            joined.append(np.concatenate([np.empty(0, dtype), *parts]))
            parts.clear()
        user, item, kind, time, rating = joined
        return EventTable(user, item, kind, time, rating, row=np.arange(len(user)))

    def _keep(self, mask: np.ndarray, reason: str, chunk: Chunk, *columns: np.ndarray) -> Any:
        """The chunk and the columns where a mask is true, the others counted as dropped."""
        self.dropped[reason] += int((~mask).sum())
        return chunk.where(mask), *(column[mask] for column in columns)

    def _identified(self, chunk: Chunk, name: str, reason: str) -> Chunk:
        texts = _as_strings(chunk.columns[name])
        present = np.asarray(pc.fill_null(pc.not_equal(texts, ""), False))
        chunk = Chunk(chunk.path, chunk.rows, {**chunk.columns, name: texts})
        return self._keep(present, reason, chunk)[0]

    def _typed(self, chunk: Chunk) -> tuple[Chunk, np.ndarray]:
        names, default = self._config.type_names, self._default_type
        column = chunk.columns.get("type")
        if column is None or column.null_count == len(column):
            column = pa.repeat(pa.scalar(default), len(chunk.rows))
        encoded = _as_strings(column).fill_null(default).dictionary_encode()
        index = encoded.indices.to_numpy(zero_copy_only=False)
        codes = []
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            ours = names.get(name, name) or default
            codes.append(EVENT_TYPES.index(ours) if ours in EVENT_TYPES else -1)
            if ours not in EVENT_TYPES:
                self.unknown_types[name] += int((index == code).sum())
        kind = np.asarray(codes, np.int8)[index]
        return self._keep(kind >= 0, "unknown_type", chunk, kind)

    def _items_of(self, chunk: Chunk) -> np.ndarray:
        """int32 ``[n]`` codes of items, -1 unknown."""
        ids = chunk.columns["item_id"]
        item = self.items.encode(ids, grow=self._adds_items)
        missing = np.flatnonzero(item < 0)
        if len(missing) and self._config.unknown_items == "error":
            at = int(missing[0])
            raise DataError(
                f"{chunk.path}: row {chunk.rows[at]}: item {ids[at].as_py()!r} is not among the "
                "items; add it there, or set unknown_items: skip"
            )
        return item

    def _times(self, chunk: Chunk) -> np.ndarray:
        column = chunk.columns.get("timestamp")
        if column is None:
            return np.full(len(chunk.rows), np.nan)
        try:
            seconds, unusable = to_seconds(column, self._config.timestamp_unit)
        except UnreadableTimeError as error:
            raise DataError(
                f"{chunk.path}: row {chunk.rows[error.index]}: timestamp {error}; "
                "write seconds since 1970 or ISO 8601, or set timestamp_unit"
            ) from None
        self.bad_times += unusable
        return seconds


def _as_strings(values: pa.Array) -> pa.Array:
    """Identifiers as trimmed text; whole floats (pandas makes them of nullable ints) as ints."""
    if pa.types.is_floating(values.type):
        return raw_files.strings(values.to_pylist())
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    return pc.utf8_trim_whitespace(values.cast(pa.string()))


def _ratings(chunk: Chunk) -> tuple[np.ndarray, int]:
    """float64 ratings, NaN where there is none, and how many were given as NaN or infinite."""
    column = chunk.columns.get("rating")
    if column is None:
        return np.full(len(chunk.rows), np.nan), 0
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    try:
        numbers = column.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        cells = zip(chunk.rows, column.to_pylist(), strict=True)
        numbers = pa.array([_number(chunk, row, text) for row, text in cells], pa.float64())
    values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    unusable = ~np.isfinite(values)
    return np.where(unusable, np.nan, values), int(unusable.sum()) - numbers.null_count


def _number(chunk: Chunk, row: int, text: Any) -> float | None:
    try:
        return None if text is None else float(text)
    except (ValueError, TypeError):
        raise DataError(
            f"{chunk.path}: row {row}: rating {text!r} is not a number; "
            "correct it or leave it empty"
        ) from None


def _texts(column: pa.Array | None) -> pa.Array | None:
    if column is None or column.null_count == len(column):
        return None
    if pa.types.is_nested(column.type):
        return raw_files.strings(column.to_pylist())
    return column.cast(pa.string())


def _contexts(chunk: Chunk) -> pa.Array | None:
    """The context as JSON text, each distinct one checked once."""
    column = _texts(chunk.columns.get("context"))
    if column is None:
        return None
    encoded = column.dictionary_encode()
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            good = isinstance(json.loads(text or "{}"), dict)
        except ValueError:
            good = False
        if not good:
            at = int(np.flatnonzero(encoded.indices.to_numpy(zero_copy_only=False) == code)[0])
            raise DataError(
                f"{chunk.path}: row {chunk.rows[at]}: context {text!r} is not a JSON object; "
                'write it as {"device": "phone"} or leave it empty'
            )
    return pc.if_else(pc.equal(column, ""), pa.scalar("{}"), column)
