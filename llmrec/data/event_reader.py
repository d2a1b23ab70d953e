"""Events while ``ingest`` reads them: chunks of raw columns -> an :class:`EventTable`.

A distinct user or item takes some 150 bytes of memory; texts go to disk at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data import splitting
from llmrec.data.columns import (
    WholeNumbers,
    as_texts,
    context_texts,
    identifiers,
    texts_of,
)
from llmrec.data.drops import Drops
from llmrec.data.event_table import EventTable
from llmrec.data.external_sort import ExternalSort
from llmrec.data.raw_files import Chunk
from llmrec.data.settings import BASKETS, IngestConfig
from llmrec.data.source import Source
from llmrec.data.timestamps import Plausibility, UnreadableTimeError, to_seconds
from llmrec.data.values import DecimalMark, number
from llmrec.errors import DataError

_DIGITS = re.compile(r"\d[\d.,]*|[.,]\d+")


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
        drops: what was dropped, and why.
        times: whether they are plausible.
    """

    def __init__(
        self,
        config: IngestConfig,
        source: Source,
        items: dict[str, int],
        texts: ExternalSort,
        again: Callable[[], Source],
    ) -> None:
        """
        Args:
            items: code of every item; gets those that are added.
            texts: gets the texts of events.
            again: opens the source once more, for a look at a whole column.
        """
        self._config, self._texts = config, texts
        self._reading = source.event_reading
        self._default_type = config.default_type or source.default_type
        self._adds_items = source.items is None or config.unknown_items == "add"
        self._types = config.types
        self._learned = [self._types.index(name) for name in config.event_types or self._types]
        # of each type, the rating of events without one
        self._weight = np.array([config.own_types.get(name, np.nan) for name in self._types])
        self.users, self.items = IdCodes({}), IdCodes(items)
        self.read = self.bad_times = self.bad_ratings = 0
        self.drops, self.times = Drops(), Plausibility()
        self._decimal = DecimalMark("rating", self._reading.options.decimal)
        self._whole = {
            name: WholeNumbers(partial(self._whole_column, again, name))
            for name in ("user_id", "item_id")
        }
        self._sessions: dict[str, int] = {}
        self._parts: list[tuple[np.ndarray, ...]] = []

    def is_learned(self, kind: np.ndarray) -> np.ndarray:
        """bool ``[n]``: whether events are of the types that sequence models learn from."""
        return np.isin(kind, self._learned)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk.

        Raises:
            DataError: for an unreadable time, rating, context or split, and, if set so, an unknown
                item.
        """
        self.read += len(chunk.rows)
        chunk = self._identified(chunk, "user_id", "no_user")
        chunk = self._identified(chunk, "item_id", "no_item")
        chunk, kind = self._typed(chunk)
        item = self._items_of(chunk)
        known = item >= 0
        self.drops.count("unknown_item", ~known, chunk.columns["item_id"])
        self.items.learn(item[known & self.is_learned(kind)])
        chunk, kind, item = _where(known, chunk, kind, item)
        chunk, good, rating, time = self._readable(chunk)
        kind, item, split = kind[good], item[good], self._splits(chunk)
        rating = np.where(np.isnan(rating), self._weight[kind], rating)
        if self._config.min_rating is not None:
            # an event without a rating stays
            high = ~((rating < self._config.min_rating) & self.is_learned(kind))
            self.drops.count("low_rating", ~high)
            columns = (chunk, kind, item, rating, time, split)
            chunk, kind, item, rating, time, split = _where(high, *columns)
        user = self.users.encode(chunk.columns["user_id"], grow=True)
        self.users.learn(user[self.is_learned(kind)])
        texts = {name: texts_of(chunk.columns.get(name)) for name in ("text", "session", "context")}
        session = self._session_codes(len(user), texts["session"])
        self._parts.append((user, item, kind, time, rating, split, session))
        self._texts.add(len(user), texts)

    def count_skipped(self) -> None:
        """Count the rows that did not get here, since they could not be read."""
        n = self._reading.all_skipped() - self.drops.counts["unreadable"]
        self.read += n
        self.drops.count("unreadable", np.ones(n, dtype=bool))

    def table(self) -> EventTable:
        """All events that stayed, in the order they came; the reader is empty afterwards."""
        types = (np.int32, np.int32, np.int8, np.float64, np.float64, np.int8, np.int32)
        columns = [list(part) for part in zip(*self._parts, strict=True)] or [[] for _ in types]
        self._parts.clear()
        joined = []
        for parts, dtype in zip(columns, types, strict=True):
            joined.append(np.concatenate([np.empty(0, dtype), *parts]))
            parts.clear()
        user, item, kind, time, rating, split, session = joined
        table = EventTable(user, item, kind, time, rating, split, row=np.arange(len(user)))
        if self._config.split == BASKETS:
            table.basket = session
        return table

    def _identifiers(self, chunk: Chunk, name: str) -> pa.Array:
        column = chunk.columns[name]
        if pa.types.is_nested(column.type):
            raise _not_one_text(chunk, name)
        return identifiers(column, self._reading.options.missing)

    def _whole_column(self, again: Callable[[], Source], name: str) -> Iterator[pa.Array]:
        return (self._identifiers(chunk, name) for chunk in again().events())

    def _identified(self, chunk: Chunk, name: str, reason: str) -> Chunk:
        """With the identifiers as text; rows without one are dropped."""
        ids = self._whole[name].shortened(self._identifiers(chunk, name))
        there = ids.is_valid().to_numpy(zero_copy_only=False)
        self.drops.count(reason, ~there, chunk.columns[name])
        return Chunk(chunk.path, chunk.rows, {**chunk.columns, name: ids}).where(there)

    def _typed(self, chunk: Chunk) -> tuple[Chunk, np.ndarray]:
        """With int8 ``[n]`` positions in the settings' types; rows of others are dropped."""
        column = chunk.columns.get("type")
        if column is None or column.null_count == len(column):
            column = pa.repeat(pa.scalar(self._default_type), len(chunk.rows))
        if pa.types.is_nested(column.type):
            raise _not_one_text(chunk, "type")
        encoded = pc.fill_null(as_texts(column), self._default_type).dictionary_encode()
        codes = [self._type_code(name) for name in encoded.dictionary.to_pylist()]
        kind = np.asarray(codes, np.int8)[encoded.indices.to_numpy(zero_copy_only=False)]
        self.drops.count("unknown_type", kind < 0, encoded)
        return _where(kind >= 0, chunk, kind)

    def _type_code(self, name: str) -> int:
        """Position in the settings' types, however the name is written; -1 for none of them."""
        given, name = self._config.type_names, name.strip()
        ours = given.get(name) or given.get(name.removesuffix(".0")) or name.lower()
        if ours not in self._types and (not name or name in self._reading.options.missing):
            ours = self._default_type
        return self._types.index(ours) if ours in self._types else -1

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

    def _readable(self, chunk: Chunk) -> tuple[Chunk, np.ndarray, np.ndarray, np.ndarray]:
        """The rows whose cells can all be read.

        Returns:
            them, with contexts as JSON text; a bool mask of them; their ratings and times.
        """
        wrong: dict[int, DataError] = {}
        rating, time = self._ratings(chunk, wrong), self._times(chunk, wrong)
        context, unreadable = context_texts(chunk)
        wrong |= unreadable
        good = np.ones(len(chunk.rows), dtype=bool)
        for at in sorted(wrong):
            self._reading.skip(wrong[at])
            good[at] = False
        self.drops.count("unreadable", ~good)
        if wrong:
            chunk = chunk.where(good)
            rating, time = self._ratings(chunk, wrong), self._times(chunk, wrong)
            context, _ = context_texts(chunk)
        self.bad_ratings += rating[1]
        self.bad_times += time[1]
        column = chunk.columns.get("timestamp")
        if column is not None:
            self.times.see(time[0], column, lambda at: f"{chunk.path}: row {chunk.rows[at]}")
        if context is not None:
            chunk = Chunk(chunk.path, chunk.rows, {**chunk.columns, "context": context})
        return chunk, good, rating[0], time[0]

    def _times(self, chunk: Chunk, wrong: dict[int, DataError]) -> tuple[np.ndarray, int]:
        """float64 seconds, NaN where unknown, and how many were given and are unusable.

        Args:
            wrong: gets what is wrong, by place in the chunk.
        """
        column = chunk.columns.get("timestamp")
        if column is None:
            return np.full(len(chunk.rows), np.nan), 0
        config = self._config
        try:
            return to_seconds(
                column,
                config.timestamp_unit,
                config.timestamp_format,
                self._reading.options.missing,
            )
        except UnreadableTimeError as error:
            for at in error.indices:
                wrong[at] = DataError(
                    f"{chunk.path}: row {chunk.rows[at]}: timestamp {error}; write seconds since "
                    "1970 or ISO 8601, or set timestamp_unit or timestamp_format"
                )
            return np.full(len(chunk.rows), np.nan), 0

    def _ratings(self, chunk: Chunk, wrong: dict[int, DataError]) -> tuple[np.ndarray, int]:
        """float64 ratings, NaN where there is none, and how many were given as NaN or infinite.

        Args:
            wrong: gets what is wrong, by place in the chunk.
        """
        column = chunk.columns.get("rating")
        if column is None:
            return np.full(len(chunk.rows), np.nan), 0
        if pa.types.is_string(column.type):
            column = identifiers(column, self._reading.options.missing)
        try:
            numbers = column.cast(pa.float64(), safe=False)
        except pa.ArrowException:
            numbers = self._read_ratings(chunk, column, wrong)
        else:
            self._see_point(chunk, column)
        values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
        unusable = ~np.isfinite(values)
        return np.where(unusable, np.nan, values), int(unusable.sum()) - numbers.null_count

    def _see_point(self, chunk: Chunk, column: pa.Array) -> None:
        """Take note of the first decimal point, beside which no later rating has a comma."""
        if pa.types.is_string(column.type):
            at = pc.index(pc.match_substring(column, "."), True).as_py()
            if at >= 0:
                self._decimal.see(column[at].as_py(), f"{chunk.path}: row {chunk.rows[at]}")

    def _read_ratings(
        self, chunk: Chunk, column: pa.Array, wrong: dict[int, DataError]
    ) -> pa.Array:
        """Ratings that Arrow cannot read, of which some may have a decimal comma."""
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        for at, text in enumerate(texts):
            if text is not None and _DIGITS.fullmatch(text):
                self._decimal.see(text, f"{chunk.path}: row {chunk.rows[at]}")
        mark = self._decimal.decide()
        found: list[float | None] = []
        for at, text in enumerate(texts):
            value = number(text, mark) if text is not None and _DIGITS.fullmatch(text) else None
            found.append(value)
            if text is not None and value is None:
                wrong[at] = DataError(
                    f"{chunk.path}: row {chunk.rows[at]}: rating {text[:80]!r} is not a number; "
                    "correct it or leave it empty"
                )
        return pa.array(found, pa.float64())

    def _session_codes(self, n: int, sessions: pa.Array | None) -> np.ndarray:
        """int32 ``[n]``, the session of each event where sessions are baskets; -1 for none.

        Empty where events are not split by baskets.
        """
        if self._config.split != BASKETS:
            return np.empty(0, np.int32)
        if self._config.basket != "session" or sessions is None:
            return np.full(n, -1, np.int32)
        encoded = sessions.fill_null("").dictionary_encode()
        known = self._sessions
        codes = [
            known.setdefault(name, len(known)) if name else -1
            for name in encoded.dictionary.to_pylist()
        ]
        return np.array(codes, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]

    def _splits(self, chunk: Chunk) -> np.ndarray:
        """int8 ``[n]``, the split that the data gives each event; 0 where it is made by ingest."""
        if self._config.split != "given":
            return np.zeros(len(chunk.rows), np.int8)
        column = chunk.columns.get("split")
        if column is None:
            return np.full(len(chunk.rows), splitting.code_of_file(chunk.path), np.int8)
        encoded = as_texts(column).fill_null("").dictionary_encode()
        codes = [splitting.code_of(name) for name in encoded.dictionary.to_pylist()]
        split = np.array(codes, np.int8)[encoded.indices.to_numpy(zero_copy_only=False)]
        unknown = np.flatnonzero(split == splitting.UNKNOWN)
        if len(unknown):
            at = int(unknown[0])
            raise DataError(
                f"{chunk.path}: row {chunk.rows[at]}: split {column[at].as_py()!r} is none of "
                "train, validation, test and history"
            )
        return split


def _not_one_text(chunk: Chunk, name: str) -> DataError:
    kind = chunk.columns[name].type
    return DataError(
        f"{chunk.path}: row {chunk.rows[0]}: {name} is a {kind}, not one text or number"
    )


def _where(mask: np.ndarray, chunk: Chunk, *columns: np.ndarray) -> Any:
    """The chunk and the columns where a mask is true."""
    if mask.all():
        return chunk, *columns
    return chunk.where(mask), *(column[mask] for column in columns)
