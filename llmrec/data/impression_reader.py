"""Logs of lists that were shown, and what was clicked in them, in any of three forms.

* A row a list: ``user_id``, ``timestamp``, ``items`` and ``clicked``, two lists of one length.
* A row a shown item: ``user_id``, ``timestamp``, ``item_id``, ``clicked``, and where they are known
  ``position`` (the lowest of the log, 0 or 1, is the top) and ``impression_id``. Rows of one user
  and one ``impression_id``, or without such ids of one user and one time, are a list.
* A row a list as MIND has it: ``user_id``, ``timestamp`` and ``impressions``, a text such as
  ``N12-0 N7-1`` from the top down.

All may have a ``context``. Files, identifiers and times are read as ``llmrec ingest`` reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmrec.data.columns import contexts, gathered, identifiers, known_as, times
from llmrec.data.impression_forms import shown_in
from llmrec.data.raw_files import Chunk, chunks, files_at
from llmrec.data.reading import Reading, ReadingOptions
from llmrec.data.timestamps import Plausibility, Unit
from llmrec.errors import ConfigError, DataError

FIELDS = (
    *("user_id", "timestamp", "items", "clicked", "item_id", "position", "impression_id"),
    *("impressions", "context"),
)
_IDENTIFIERS = {"user_id", "item_id", "impression_id"}
MOST_SHOWN = 1000  # items of a list
_EXAMPLES = 5  # in a note


@dataclass(frozen=True)
class LogFormat:
    """How a log of shown lists is written.

    Attributes:
        columns: our field -> their column, where the names differ.
        context_columns: columns to keep together as the context.
        reading: how the files are read.
        timestamp_unit, timestamp_format: as for ``llmrec ingest``.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    context_columns: Sequence[str] = ()
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    timestamp_unit: Unit = "auto"
    timestamp_format: str | None = None

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in FIELDS:
                raise ConfigError(f"columns: {name!r} is not one of {', '.join(FIELDS)}")

    def chunks(self, path: Path, reading: Reading, timed: bool) -> Iterator[Chunk]:
        """A file in chunks, columns named as :data:`FIELDS`, identifiers as text.

        Columns that are empty are left out.
        """
        theirs = {name: self.columns.get(name, name) for name in FIELDS}
        required = {
            theirs[name]: f"name the column in columns: {{{name}: ...}}"
            for name in ("user_id", "timestamp")
            if timed or name == "user_id"
        }
        required |= {name: "correct columns" for name in self.columns.values()}
        required |= dict.fromkeys(self.context_columns, "correct context_columns")
        for chunk in chunks(path, [*theirs.values(), *self.context_columns], required, reading):
            found = {
                ours: chunk.columns[name]
                for ours, name in theirs.items()
                if name in chunk.columns and chunk.columns[name].null_count < len(chunk.rows)
            }
            found["user_id"] = chunk.columns[theirs["user_id"]]
            for name in _IDENTIFIERS & found.keys():
                found[name] = identifiers(found[name], self.reading.missing)
            if self.context_columns:
                found["context"] = gathered(chunk.columns, self.context_columns)
            yield Chunk(chunk.path, chunk.rows, found)


@dataclass(frozen=True, eq=False)
class ShownLists:
    """Lists of items, each shown to one user at one time, in the order of the log.

    Attributes:
        user: int32 ``[lists]``, user index; -1 for a user that is not known.
        time: float64 ``[lists]``, seconds since 1970 UTC; NaN unknown.
        contexts: of each list, JSON text.
        offsets: int64 ``[lists + 1]``, where each list begins among what was shown.
        item: int32 ``[shown]``, item index, by position; -1 for an item that is not in the
            catalogue, or that stands in its list a second time.
        position: int16 ``[shown]``, 0 is the top; -1 unknown.
        clicked: float32 ``[shown]``, 0 or 1.
        unknown_users, unknown_items: how often each was met that is not known.
        met: a line on each unusual thing that was met in the files.
    """

    user: np.ndarray
    time: np.ndarray
    contexts: list[str]
    offsets: np.ndarray
    item: np.ndarray
    position: np.ndarray
    clicked: np.ndarray
    unknown_users: Counter[str]
    unknown_items: Counter[str]
    met: list[str]

    def __len__(self) -> int:
        return len(self.user)

    def notes(self) -> list[str]:
        """A line on what was met, and on users and items that are not known."""
        counts, found = self.counts, [*self.met]
        if self.unknown_users:
            found.append(
                f"{counts['lists_of_unknown_users']:,} of {len(self):,} lists are of users who are "
                f"not in the dataset ({_commonest(self.unknown_users)})"
            )
        if self.unknown_items:
            found.append(
                f"{counts['shown_unknown_items']:,} of {counts['shown']:,} shown items are not in "
                f"the catalogue ({_commonest(self.unknown_items)})"
            )
        return found

    @property
    def counts(self) -> dict[str, int]:
        """How much there was, and how much of it is not known."""
        return {
            "lists": len(self),
            "shown": len(self.item),
            "lists_of_unknown_users": self.unknown_users.total(),
            "unknown_users": len(self.unknown_users),
            "shown_unknown_items": self.unknown_items.total(),
            "unknown_items": len(self.unknown_items),
        }


def _commonest(values: Counter[str]) -> str:
    return ", ".join(f"{value[:40]!r} {n:,}" for value, n in values.most_common(_EXAMPLES))


def read_shown(
    path: Path,
    users: Mapping[str, int],
    items: Mapping[str, int],
    format: LogFormat | None = None,
    *,
    timed: bool = True,
) -> ShownLists:
    """Read a log, a file or a folder of files.

    Args:
        users, items: index by the shop's identifier.
        timed: whether it must have times, and plausible ones.

    Raises:
        DataError: naming file, row and field.
    """
    format = format or LogFormat()
    log, reading = _Log(users, items, format), Reading(format.reading)
    for file in files_at(path):
        for chunk in format.chunks(file, reading, timed):
            log.add(chunk)
    if timed and format.timestamp_unit == "auto" and format.timestamp_format is None:
        log.plausible.check()
    return log.lists(path, reading)


class _Log:
    """The rows of a log, and the lists that they make.

    Attributes:
        plausible: whether their times are.
    """

    def __init__(
        self, users: Mapping[str, int], items: Mapping[str, int], format: LogFormat
    ) -> None:
        self._users, self._items, self._format = users, items, format
        self.plausible = Plausibility()
        self._rows = 0
        self._lists: dict[Any, int] = {}  # number of a list, by what holds its rows together
        self._user_ids: list[str | None] = []  # of each list; the next two too
        self._times: list[float] = []
        self._contexts: list[str] = []
        self._unknown_items: Counter[str] = Counter()
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, chunk: Chunk) -> None:
        """Take a chunk.

        Raises:
            DataError: naming file, row and field.
        """
        shown = shown_in(chunk)
        number = np.repeat(np.array(self._numbers(chunk), np.int64), shown.lengths)
        item = self._indices(shown.item_ids)
        self._parts.append((number, item, shown.position, shown.clicked))

    def _numbers(self, chunk: Chunk) -> list[int]:
        """The number of the list of each row."""
        user_ids = chunk.columns["user_id"].to_pylist()
        time = [np.nan] * len(user_ids)
        if "timestamp" in chunk.columns:
            format = self._format
            time = times(
                chunk,
                "timestamp",
                format.timestamp_unit,
                format.timestamp_format,
                format.reading.missing,
                self.plausible,
            ).tolist()
        numbers = []
        rows = zip(_keys(chunk, user_ids, time), user_ids, time, contexts(chunk), strict=True)
        for key, user_id, when, context in rows:
            self._rows += 1
            number = self._lists.setdefault(self._rows if key is None else key, len(self._lists))
            if number == len(self._times):
                self._user_ids.append(user_id)
                self._times.append(when)
                self._contexts.append(context)
            numbers.append(number)
        return numbers

    def _indices(self, item_ids: pa.Array) -> np.ndarray:
        """int32 ``[n]``, item index, -1 for an item that is not known."""
        encoded = item_ids.fill_null("").dictionary_encode()
        names = [known_as(name, self._items) for name in encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        for name, n in zip(names, np.bincount(codes, minlength=len(names)), strict=True):
            if name not in self._items:
                self._unknown_items[name] += int(n)
        return np.array([self._items.get(name, -1) for name in names], np.int32)[codes]

    def lists(self, path: Path, reading: Reading) -> ShownLists:
        """All lists, in the order of their first rows.

        Raises:
            DataError: for a list that is too long to be one.
        """
        types = (np.int64, np.int32, np.int64, np.float32)
        columns = zip(*self._parts, strict=True) if self._parts else [()] * len(types)
        number, item, position, clicked = (
            np.concatenate([np.empty(0, dtype), *parts])
            for dtype, parts in zip(types, columns, strict=True)
        )
        order = np.lexsort((position, number))
        number, item, position, clicked = (c[order] for c in (number, item, position, clicked))
        lengths = np.bincount(number, minlength=len(self._times))
        if lengths.max(initial=0) > MOST_SHOWN:
            user_id = self._user_ids[int(lengths.argmax())]
            raise DataError(
                f"{path}: {lengths.max()} items were shown to user {user_id!r} at once, more than "
                f"{MOST_SHOWN}; say which belong to one list in a column impression_id"
            )
        position -= min(1, int(position[position >= 0].min(initial=1)))
        position[position < 0] = -1
        _empty_repeats(number, item, clicked)
        user = [
            -1 if name is None else self._users.get(known_as(name, self._users), -1)
            for name in self._user_ids
        ]
        unknown = [name for name, index in zip(self._user_ids, user, strict=True) if index < 0]
        return ShownLists(
            np.array(user, np.int32),
            np.array(self._times, np.float64),
            self._contexts,
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            item,
            position.astype(np.int16),
            clicked,
            Counter(name or "" for name in unknown),
            self._unknown_items,
            reading.notices(),
        )


def _keys(chunk: Chunk, user_ids: list[str | None], time: list[float]) -> list[Any]:
    """What is the same for all rows of a list; None where a row is a list of its own."""
    if "item_id" not in chunk.columns:
        return [None] * len(user_ids)
    if "impression_id" in chunk.columns:
        pairs = zip(chunk.columns["impression_id"].to_pylist(), user_ids, strict=True)
        return [None if one is None else (one, user) for one, user in pairs]
    pairs = zip(time, user_ids, strict=True)
    return [None if user is None else (when, user) for when, user in pairs]


def _empty_repeats(number: np.ndarray, item: np.ndarray, clicked: np.ndarray) -> None:
    """Leave the place of an item empty that stands in its list again; its click counts."""
    there = np.flatnonzero(item >= 0)
    keys = number[there] * (int(item.max(initial=0)) + 1) + item[there]
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    first = there[first]
    np.maximum.at(clicked, first[same], clicked[there])
    again = np.ones(len(item), dtype=bool)
    again[first] = False
    item[again] = -1
