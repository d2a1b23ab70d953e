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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from llmrec.data import csv_records
from llmrec.data.csv_records import (
    BadQuoteError,
    Block,
    Dialect,
    count_lines,
    line_of,
    without_line,
)
from llmrec.data.raw_streams import not_utf8
from llmrec.data.reading import Reading
from llmrec.errors import DataError

MANY_LINES = 20  # in one record
_MARK = "\ufffd"  # what Python decodes bytes to that are not UTF-8
_DELIMITERS = (b",", b";", b"\t", b"|")
_STAND_IN = b"\x1f"  # for a delimiter of several bytes: the unit separator, which no text uses
Rows = Sequence[int] | np.ndarray


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
        quote = ((auto_quote if options.quote == "auto" else options.quote) or "").encode()
        escape = ("" if options.escape == "auto" else options.escape or "").encode()
        self._may_escape = options.escape == "auto" and bool(quote)
        self._literal_row = 0  # of a backslash that stands for itself before a quote

        first = next(parts)
        if options.delimiter != "auto":
            self._given_delimiter = options.delimiter.encode()
        else:
            self._given_delimiter = b"\t" if is_tsv else _most_frequent(first, quote)
        is_long = len(self._given_delimiter) > 1
        self._dialect = Dialect(_STAND_IN if is_long else self._given_delimiter, quote, escape)
        self._blocks = self._whole_records(itertools.chain([first], parts))
        self._first = next(self._blocks, Block(b"", 1))
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
            text = self._dialect.plain_escapes(raw).decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise not_utf8(self.path, row, error) from None
        cells = next(
            csv.reader(
                io.StringIO(text, newline=""),
                delimiter=self._dialect.delimiter.decode(),
                quotechar=self._dialect.quote.decode() or None,
                escapechar=self._dialect.escape.decode() or None,
                quoting=csv.QUOTE_MINIMAL if self._dialect.quote else csv.QUOTE_NONE,
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
        _, self._first = self._checked_block(block.data[end:], row, final=True)
        return names

    def _whole_records(self, parts: Iterator[bytes]) -> Iterator[Block]:
        """The file in blocks that end with a record."""
        rest, row = b"", 1
        for part in itertools.chain(parts, [b""]):
            if self._dialect.delimiter != self._given_delimiter:
                if _STAND_IN in part:
                    raise DataError(f"{self.path}: holds the character U+001F; remove it")
                rest = (rest + part).replace(self._given_delimiter, _STAND_IN)
            else:
                rest += part
            rest, block = self._checked_block(rest, row, final=not part)
            rest = rest[len(block.data) :]
            if len(rest) > csv_records.MOST_BYTES:
                raise DataError(
                    f"{self.path}: row {row}: is longer than {csv_records.MOST_BYTES >> 20} MiB; "
                    "is this a text file?"
                )
            row += block.n_lines
            if block.data:
                yield block

    def _checked_block(self, data: bytes, row: int, final: bool) -> tuple[bytes, Block]:
        """The whole records of ``data``, and ``data`` without lines that were skipped."""
        while True:
            try:
                block = self._dialect.block(data, row, final)
            except BadQuoteError as bad:
                if self._adopt_escape(data, row, final):
                    continue
                at = row + count_lines(data[: bad.position])
                self._reading.skip(
                    DataError(
                        f"{self.path}: row {at}: a quoted cell begins that does not end as a cell "
                        "does; close it and double the quotes in it, or set the options quote "
                        "(null: none) and escape as the file has them"
                    )
                )
                data = without_line(data, bad.position)
                continue
            if self._may_escape and not self._literal_row:
                at = block.data.find(b"\\" + self._dialect.quote) if b"\\" in block.data else -1
                self._literal_row = 0 if at < 0 else row + count_lines(block.data[:at])
            return data, block

    def _adopt_escape(self, data: bytes, row: int, final: bool) -> bool:
        """Whether quotes have a backslash before them, as the file shows for the first time."""
        quote = b"\\" + self._dialect.quote
        if not self._may_escape or quote not in data:
            return False
        escaped = replace(self._dialect, escape=b"\\")
        try:
            escaped.block(data, row, final)
        except BadQuoteError:
            return False
        if self._literal_row:
            at = row + count_lines(data[: data.index(quote)])
            raise DataError(
                f"{self.path}: row {at}: a backslash makes a quote part of its cell, but in row "
                f"{self._literal_row} it ends the cell; set the option escape to '\\' or null"
            )
        self._dialect, self._may_escape = escaped, False
        return True

    def _parse(self, block: Block, wanted: Sequence[str]) -> tuple[Rows, pa.Table]:
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

    def _read_csv(self, block: Block, wanted: Sequence[str], skip: Any) -> pa.Table:
        data = self._dialect.plain_escapes(block.data)
        if not data:
            return pa.table({name: pa.array([], pa.string()) for name in wanted})
        return pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(
                column_names=self.names, use_threads=False, block_size=len(data) + 1
            ),
            pa_csv.ParseOptions(
                delimiter=self._dialect.delimiter.decode(),
                quote_char=self._dialect.quote.decode() or False,
                escape_char=self._dialect.escape.decode() or False,
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

    def _without_bad_text(self, block: Block) -> Block:
        """The block without its first line that is not UTF-8, which is skipped."""
        try:
            block.data.decode()
        except UnicodeDecodeError as error:
            position = error.start
            row = block.row + count_lines(block.data[:position])
            error.start -= line_of(block.data, position).start
            self._reading.skip(not_utf8(self.path, row, error))
            rest = without_line(block.data, position)
            return self._checked_block(rest, block.row, final=True)[1]
        raise AssertionError("there is a mark where all is UTF-8")


def _most_frequent(first: bytes, quote: bytes) -> bytes:
    """The delimiter that the first line has most of outside of quotes."""
    start = len(first) - len(first.lstrip(b"\r\n"))
    line = first[line_of(first, start)]
    if quote:
        mark = re.escape(quote)
        line = re.sub(mark + b".*?" + mark, b"", line)
    return max(_DELIMITERS, key=line.count)


def _marked(block: Block) -> Block:
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
