"""Files of delimited cells: blocks of whole records, parsed by Arrow, each record with its row.

Arrow parses fast, but it counts records where a person sees lines, and takes a quote without an
end for one long cell. So a block ends with its last whole record, its quotes are checked before it
is parsed, and where records and lines are not the same, the line of each record is found.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from llmrec.data.raw_streams import not_utf8
from llmrec.data.reading import Reading
from llmrec.errors import DataError

MOST_BYTES = 64 << 20  # of a record
MANY_LINES = 20  # in one record
_MARK = "\ufffd"  # what Python decodes bytes to that are not UTF-8
_DELIMITERS = (b",", b";", b"\t", b"|")
_STAND_IN = b"\x1f"  # for a delimiter of several bytes: the unit separator, which no text uses
_LF, _CR = b"\n\r"
Rows = Sequence[int] | np.ndarray


class _BadQuoteError(Exception):
    """The quoted cell that begins at ``position`` has no end, or something stands behind it."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@dataclass
class _Block:
    """Whole records.

    Attributes:
        row: the line of the file where it begins.
        ends: int64 ``[lines]``, where lines end; None: not known, each record is a line.
        inside: bool ``[lines]``, whether a line ends inside a quoted cell.
    """

    data: bytes
    row: int
    ends: np.ndarray | None = None
    inside: np.ndarray | None = None

    @cached_property
    def n_lines(self) -> int:
        """How many lines end in it; of a block without ``ends``, by line feeds alone."""
        return self.data.count(b"\n") if self.ends is None else len(self.ends)

    def records(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every record that is not a blank line: where it begins, its row, its lines."""
        cells = np.frombuffer(self.data, np.uint8)
        ends = _line_ends(cells, True) if self.ends is None else self.ends
        last = np.arange(len(ends)) if self.inside is None else np.flatnonzero(~self.inside)
        ends = ends[last]
        if len(cells) and (not len(ends) or ends[-1] < len(cells) - 1):  # the file's last line
            ends = np.append(ends, len(cells))
            last = np.append(last, last[-1] + 1 if len(last) else 0)
        begins = np.concatenate([[0], ends[:-1] + 1])
        lines = np.diff(last, prepend=-1)
        blank = (ends == begins) | ((ends == begins + 1) & (cells[begins] == _CR))
        rows = self.row + last - lines + 1
        return begins[~blank], rows[~blank], lines[~blank]


class DelimitedFile:
    """One file of delimited cells.

    Attributes:
        names: of its columns, from the first record.
    """

    def __init__(self, path: Path, parts: Iterator[bytes], is_tsv: bool, reading: Reading) -> None:
        """Read the names of the columns.

        Args:
            parts: the file's bytes, as :func:`~llmrec.data.raw_streams.utf8_parts` gives them.

        Raises:
            DataError: if the file cannot be read or is empty, or a name stands there twice.
        """
        self.path, self._reading = path, reading
        self._options = options = reading.options
        auto_quote = None if is_tsv else '"'
        quote = auto_quote if options.quote == "auto" else options.quote
        self._quote = (quote or "").encode()
        self._may_escape = options.escape == "auto" and bool(quote)
        self._escape = ("" if options.escape == "auto" else options.escape or "").encode()
        self._literal_row = 0  # of a backslash that stands for itself before a quote

        first = next(parts)
        if options.delimiter != "auto":
            self._given_delimiter = options.delimiter.encode()
        else:
            self._given_delimiter = b"\t" if is_tsv else self._most_frequent(first)
        is_long = len(self._given_delimiter) > 1
        self._delimiter = _STAND_IN if is_long else self._given_delimiter
        self._parts = itertools.chain([first], parts)
        self._blocks = self._whole_records()
        self._first = next(self._blocks, _Block(b"", 1))
        self.names = self._take_header()

    def chunks(self, wanted: Sequence[str]) -> Iterator[tuple[Rows, dict[str, pa.Array]]]:
        """Rows and the wanted columns, all as text; an empty cell is null.

        Args:
            wanted: names of the file's columns.

        Raises:
            DataError: for a row that cannot be read.
        """
        for block in itertools.chain([self._first], self._blocks):
            rows, table = self._parse(block, wanted)
            for batch in table.combine_chunks().to_batches():
                yield rows, {name: batch.column(name) for name in wanted}

    def _most_frequent(self, first: bytes) -> bytes:
        """The delimiter that the first line has most of outside of quotes."""
        start = len(first) - len(first.lstrip(b"\r\n"))
        line = first[_line_of(first, start)]
        if self._quote:
            quote = re.escape(self._quote)
            line = re.sub(quote + b".*?" + quote, b"", line)
        return max(_DELIMITERS, key=line.count)

    def _take_header(self) -> list[str]:
        """The names of the columns; cut from the first block where they stand in it."""
        block = self._first
        begins, rows, lines = block.records()
        if not len(begins):
            raise DataError(f"{self.path}: the file is empty")
        end = int(begins[1]) if len(begins) > 1 else len(block.data)
        raw = block.data[int(begins[0]) : end]
        row = int(rows[0])
        try:
            text = self._plain_escapes(raw).decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise not_utf8(self.path, row, error) from None
        cells = next(
            csv.reader(
                io.StringIO(text, newline=""),
                delimiter=self._delimiter.decode(),
                quotechar=self._quote.decode() or None,
                escapechar=self._escape.decode() or None,
                quoting=csv.QUOTE_MINIMAL if self._quote else csv.QUOTE_NONE,
            )
        )
        if not self._options.header:
            return [str(number) for number in range(1, len(cells) + 1)]
        names = [name.strip() for name in cells]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise DataError(
                f"{self.path}: row {row}: the column {min(twice)!r} occurs twice; rename one"
            )
        row += int(lines[0])
        # what is left has its own line ends
        self._first = self._block(block.data[end:], row, final=True)
        return names

    def _whole_records(self) -> Iterator[_Block]:
        """The file in blocks that end with a record."""
        rest, row = b"", 1
        for part in itertools.chain(self._parts, [b""]):
            if self._delimiter != self._given_delimiter:
                if _STAND_IN in part:
                    raise DataError(f"{self.path}: holds the character U+001F; remove it")
                rest = (rest + part).replace(self._given_delimiter, _STAND_IN)
            else:
                rest += part
            rest, block = self._checked_block(rest, row, final=not part)
            rest = rest[len(block.data) :]
            if len(rest) > MOST_BYTES:
                raise DataError(
                    f"{self.path}: row {row}: is longer than {MOST_BYTES >> 20} MiB; "
                    "is this a text file?"
                )
            row += block.n_lines
            if block.data:
                yield block

    def _checked_block(self, data: bytes, row: int, final: bool) -> tuple[bytes, _Block]:
        """The whole records of ``data``, and ``data`` without lines that were skipped."""
        while True:
            try:
                block = self._block(data, row, final)
            except _BadQuoteError as bad:
                if self._adopt_escape(data, row, final):
                    continue
                at = row + _count_lines(data[: bad.position])
                self._reading.skip(
                    DataError(
                        f"{self.path}: row {at}: a quoted cell begins that does not end as a cell "
                        "does; close it and double the quotes in it, or set the options quote "
                        "(null: none) and escape as the file has them"
                    )
                )
                data = _without_line(data, bad.position)
                continue
            if self._may_escape and not self._literal_row:
                at = block.data.find(b"\\" + self._quote) if b"\\" in block.data else -1
                self._literal_row = 0 if at < 0 else row + _count_lines(block.data[:at])
            return data, block

    def _adopt_escape(self, data: bytes, row: int, final: bool) -> bool:
        """Whether quotes have a backslash before them, as the file shows for the first time."""
        if not self._may_escape or b"\\" + self._quote not in data:
            return False
        self._escape = b"\\"
        try:
            self._block(data, row, final)
        except _BadQuoteError:
            self._escape = b""
            return False
        if self._literal_row:
            at = row + _count_lines(data[: data.index(b"\\" + self._quote)])
            raise DataError(
                f"{self.path}: row {at}: a backslash makes a quote part of its cell, but in row "
                f"{self._literal_row} it ends the cell; set the option escape to '\\' or null"
            )
        self._may_escape = False
        return True

    def _block(self, data: bytes, row: int, final: bool) -> _Block:
        """The whole records at the beginning of ``data``.

        Raises:
            _BadQuoteError: for quotes that make no cells.
        """
        quoted = bool(self._quote) and self._quote in data
        if not quoted and not self._escape:
            if final:
                return _Block(data, row)
            if b"\r" not in data or data.count(b"\r") == data.count(b"\r\n"):
                return _Block(data[: data.rfind(b"\n") + 1], row)
        cells = np.frombuffer(self._without_escapes(data), np.uint8)
        ends = _line_ends(cells, final)
        quotes = self._quotes(cells) if quoted else np.empty(0, np.int64)
        is_open = len(quotes) % 2 == 1
        if is_open and (final or len(data) > MOST_BYTES):
            raise _BadQuoteError(int(quotes[-1]))
        inside = np.searchsorted(quotes, ends) % 2 == 1
        if final:
            return _Block(data, row, ends, inside)
        whole = np.flatnonzero(~inside)
        count = int(whole[-1]) + 1 if len(whole) else 0
        end = int(ends[count - 1]) + 1 if count else 0
        return _Block(data[:end], row, ends[:count], inside[:count])

    def _quotes(self, cells: np.ndarray) -> np.ndarray:
        """Positions of the quotes that open a cell, close it, or are doubled inside it, in turn.

        Raises:
            _BadQuoteError: for a cell that goes on after its closing quote.
        """
        quote = self._quote[0]
        found = np.flatnonzero(cells == quote)
        before, after = cells[found - 1], cells[(found + 1) % len(cells)]
        if found[0] == 0:
            before[0] = _LF
        if found[-1] == len(cells) - 1:
            after[-1] = _LF
        at_edge = np.zeros(256, dtype=bool)
        at_edge[[self._delimiter[0], _LF, _CR]] = True
        opens, closes = at_edge[before], at_edge[after] | (after == quote)
        if (opens | (before == quote))[::2].all() and closes[1::2].all():
            return found
        # somewhere a quote is just a character, in a cell that does not begin with one
        active: list[int] = []
        second = -1  # of two quotes that stand for one
        columns = (found, opens, closes, after == quote)
        for at, may_open, may_close, double in zip(*map(np.ndarray.tolist, columns), strict=True):
            if len(active) % 2 == 0 and not (may_open or at == second):
                continue
            if len(active) % 2 == 1:
                if not may_close:
                    raise _BadQuoteError(active[-1])
                second = at + 1 if double else -1
            active.append(at)
        return np.array(active, dtype=np.int64)

    def _without_escapes(self, data: bytes) -> bytes:
        """As many bytes, in which what is escaped, and what escapes, is nothing special."""
        if not self._escape:
            return data
        return re.sub(re.escape(self._escape) + b".", b"\0\0", data, flags=re.DOTALL)

    def _plain_escapes(self, data: bytes) -> bytes:
        """An escape before an ordinary character stands for itself, so it is doubled."""
        if not self._escape:
            return data
        special = re.escape(self._escape + self._quote + self._delimiter + b"\r\n")
        escape = re.escape(self._escape)
        return re.sub(
            escape + b"([" + special + b"])|" + escape,
            lambda match: match[0] if match[1] else self._escape * 2,
            data,
        )

    def _parse(self, block: _Block, wanted: Sequence[str]) -> tuple[Rows, pa.Table]:
        """The rows of a block and its wanted columns, without those that were skipped."""
        ragged: list[pa_csv.InvalidRow] = []

        def skip(row: pa_csv.InvalidRow) -> str:
            if len(ragged) <= self._options.skip_bad_rows:  # one more, to say which is too many
                ragged.append(row)
            return "skip"

        table = self._read_csv(readable := _marked(block), wanted, skip)
        while readable is not block and _has_mark(table):
            ragged.clear()
            block = self._without_bad_text(block)
            table = self._read_csv(readable := _marked(block), wanted, skip)
        n = table.num_rows + len(ragged)
        if not ragged and block.ends is None and n == block.n_lines:
            return range(block.row, block.row + n), table
        _, rows, lines = block.records()
        for row in ragged:
            first = "header" if self._options.header else "first row"
            self._reading.skip(
                DataError(
                    f"{self.path}: row {rows[row.number - 1]}: has {row.actual_columns} columns, "
                    f"the {first} has {row.expected_columns}; quote fields that hold the separator"
                )
            )
        if len(rows) != n:
            raise DataError(
                f"{self.path}: rows {block.row} and following cannot be told apart; "
                "write the file again"
            )
        long = np.flatnonzero(lines > MANY_LINES)
        if len(long):
            what = f"rows of more than {MANY_LINES} lines: does a cell lack its closing quote?"
            self._reading.notice(what, f"{self.path}: row {rows[long[0]]}", len(long))
        return np.delete(rows, [row.number - 1 for row in ragged]), table

    def _read_csv(self, block: _Block, wanted: Sequence[str], skip: Any) -> pa.Table:
        data = self._plain_escapes(block.data)
        if not data:
            return pa.table({name: pa.array([], pa.string()) for name in wanted})
        return pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(
                column_names=self.names, use_threads=False, block_size=len(data) + 1
            ),
            pa_csv.ParseOptions(
                delimiter=self._delimiter.decode(),
                quote_char=self._quote.decode() or False,
                escape_char=self._escape.decode() or False,
                newlines_in_values=block.ends is not None,
                invalid_row_handler=skip,
            ),
            pa_csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.string() for name in wanted},
                strings_can_be_null=True,
                null_values=[""],
            ),
        )

    def _without_bad_text(self, block: _Block) -> _Block:
        """The block without its first line that is not UTF-8, which is skipped."""
        try:
            block.data.decode()
        except UnicodeDecodeError as error:
            position = error.start
            row = block.row + _count_lines(block.data[:position])
            error.start -= _line_of(block.data, position).start
            self._reading.skip(not_utf8(self.path, row, error))
            return self._block(_without_line(block.data, position), block.row, final=True)
        raise AssertionError("there is a mark where all is UTF-8")


def _marked(block: _Block) -> _Block:
    """The block itself where it is UTF-8, else with a mark in the place of what is not.

    Arrow cannot tell which row is too long where that row is not UTF-8.
    """
    try:
        pa.array([block.data], pa.large_binary()).cast(pa.large_string())  # faster than decode
    except pa.ArrowInvalid:
        return replace(block, data=block.data.decode(errors="replace").encode())
    return block


def _has_mark(table: pa.Table) -> bool:
    return any(pc.any(pc.match_substring(one, _MARK)).as_py() for one in table.columns)


def _line_ends(cells: np.ndarray, final: bool) -> np.ndarray:
    r"""Where lines end: ``\n``, or ``\r`` without a ``\n`` behind it, as on an old Mac."""
    is_end = cells == _LF
    bare = cells == _CR
    if bare.any():
        bare[:-1] &= ~is_end[1:]
        bare[-1] &= final  # else the part may end between the two
        is_end |= bare
    return np.flatnonzero(is_end)


def _count_lines(data: bytes) -> int:
    return data.count(b"\n") + len(re.findall(rb"\r(?!\n)", data))


def _line_of(data: bytes, position: int) -> slice:
    """The line around a position, without its end."""
    ends = [data.find(end, position) for end in (b"\n", b"\r")]
    start = max(data.rfind(end, 0, position) for end in (b"\n", b"\r")) + 1
    return slice(start, min((end for end in ends if end >= 0), default=len(data)))


def _without_line(data: bytes, position: int) -> bytes:
    """With a blank line in place of the one around a position."""
    line = _line_of(data, position)
    return data[: line.start] + data[line.stop :]
