"""Where the records of delimited text begin and end, and the lines and quotes in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MOST_BYTES = 64 << 20  # of a record
_LF, _CR = b"\n\r"


class BadQuoteError(Exception):
    """The quoted cell that begins at ``position`` has no end, or something stands behind it."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@dataclass
class Block:
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
        begins = np.append(0, ends[:-1] + 1)[: len(ends)]
        lines = np.diff(last, prepend=-1)
        blank = (ends == begins) | ((ends == begins + 1) & (cells[begins] == _CR))
        rows = self.row + last - lines + 1
        return begins[~blank], rows[~blank], lines[~blank]


@dataclass(frozen=True)
class Dialect:
    """What parts cells, and what stands around and in them: a byte each, or nothing.

    Attributes:
        delimiter: between cells.
        quote: around a cell.
        escape: before what is nothing special in a cell.
    """

    delimiter: bytes
    quote: bytes
    escape: bytes

    def block(self, data: bytes, row: int, final: bool) -> Block:
        """The whole records at the beginning of ``data``.

        Raises:
            BadQuoteError: for quotes that make no cells.
        """
        text = self._without_escapes(data)
        quoted = bool(self.quote) and self.quote in text
        if not quoted and not self.escape:
            if final:
                return Block(data, row)
            if b"\r" not in data or data.count(b"\r") == data.count(b"\r\n"):
                return Block(data[: data.rfind(b"\n") + 1], row)
        cells = np.frombuffer(text, np.uint8)
        ends = _line_ends(cells, final)
        quotes = self._quotes(cells) if quoted else np.empty(0, np.int64)
        is_open = len(quotes) % 2 == 1
        if is_open and (final or len(data) > MOST_BYTES):
            raise BadQuoteError(int(quotes[-1]))
        inside = np.searchsorted(quotes, ends) % 2 == 1
        if final:
            return Block(data, row, ends, inside)
        whole = np.flatnonzero(~inside)
        count = int(whole[-1]) + 1 if len(whole) else 0
        end = int(ends[count - 1]) + 1 if count else 0
        return Block(data[:end], row, ends[:count], inside[:count])

    def plain_escapes(self, data: bytes) -> bytes:
        """An escape before an ordinary character stands for itself, so it is doubled."""
        if not self.escape:
            return data
        special = re.escape(self.escape + self.quote + self.delimiter + b"\r\n")
        escape = re.escape(self.escape)
        return re.sub(
            escape + b"([" + special + b"])|" + escape,
            lambda match: match[0] if match[1] else self.escape * 2,
            data,
        )

    def _quotes(self, cells: np.ndarray) -> np.ndarray:
        """Positions of the quotes that open a cell, close it, or are doubled inside it, in turn.

        Raises:
            BadQuoteError: for a cell that goes on after its closing quote.
        """
        quote = self.quote[0]
        found = np.flatnonzero(cells == quote)
        before, after = cells[found - 1], cells[(found + 1) % len(cells)]
        if found[0] == 0:
            before[0] = _LF
        if found[-1] == len(cells) - 1:
            after[-1] = _LF
        at_edge = np.zeros(256, dtype=bool)
        at_edge[[self.delimiter[0], _LF, _CR]] = True
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
                    raise BadQuoteError(active[-1])
                second = at + 1 if double else -1
            active.append(at)
        return np.array(active, dtype=np.int64)

    def _without_escapes(self, data: bytes) -> bytes:
        """As many bytes, in which what is escaped, and what escapes, is nothing special."""
        if not self.escape:
            return data
        return re.sub(re.escape(self.escape) + b".", b"\0\0", data, flags=re.DOTALL)


def _line_ends(cells: np.ndarray, final: bool) -> np.ndarray:
    r"""Where lines end: ``\n``, or ``\r`` without a ``\n`` behind it, as on an old Mac."""
    is_end = cells == _LF
    bare = cells == _CR
    if bare.any():
        bare[:-1] &= ~is_end[1:]
        bare[-1] &= final  # else the part may end between the two
        is_end |= bare
    return np.flatnonzero(is_end)


def count_lines(data: bytes) -> int:
    return data.count(b"\n") + len(re.findall(rb"\r(?!\n)", data))


def line_of(data: bytes, position: int) -> slice:
    """The line around a position, without its end."""
    ends = [data.find(end, position) for end in (b"\n", b"\r")]
    start = max(data.rfind(end, 0, position) for end in (b"\n", b"\r")) + 1
    return slice(start, min((end for end in ends if end >= 0), default=len(data)))


def without_line(data: bytes, position: int) -> bytes:
    """With a blank line in place of the one around a position."""
    line = line_of(data, position)
    return data[: line.start] + data[line.stop :]
