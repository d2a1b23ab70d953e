"""JSON files: an object a line, or one array of objects."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from llmrec.data.raw_streams import lines_of, not_utf8, utf8_parts
from llmrec.data.reading import Reading
from llmrec.errors import DataError
from llmrec.parsing import MAX_DEPTH, parse_json

MOST_CHARS = 64 << 20  # of an element of an array
_ARRAY = re.compile(rb"\s*\[\s*(\{|\]|$)")  # how a file begins that is one array of objects
_GAP = re.compile(r"[\s,]*")
_ESCAPES = re.compile(  # an escaped backslash, a surrogate pair, or half of one
    r"(\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)|\\u[dD][89a-fA-F].."
)


def json_rows(
    path: Path, parse: Callable[[str], Any] = parse_json, reading: Reading | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row, object)`` of a file of JSON lines, or of one array; the row is a line of the file.

    Args:
        parse: turns a line into an object, or raises ValueError.

    Raises:
        DataError: for a line that is no object, naming its row.
    """
    reading = reading or Reading()
    with closing(utf8_parts(path, reading)) as rest:
        first = next(rest)
        parts = itertools.chain([first], rest)
        is_array = _ARRAY.match(first)
        found = _elements(path, parts, reading) if is_array else _lines(path, parts, parse, reading)
        for row, value in found:
            if isinstance(value, dict):
                yield row, value
                continue
            shape = f'a JSON object such as {{"item_id": "..."}}, got {type(value).__name__}'
            reading.skip(DataError(f"{path}: row {row}: expected {shape}"))


def _lines(
    path: Path, parts: Iterator[bytes], parse: Callable[[str], Any], reading: Reading
) -> Iterator[tuple[int, Any]]:
    """``(row, value)`` of every line."""
    for row, line in lines_of(path, parts, reading):
        try:
            value = parse(_whole_pairs(path, row, line, reading))
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            reading.skip(_unreadable(path, row, error, "fix or remove the line"))
        else:
            yield row, value


def _elements(path: Path, parts: Iterator[bytes], reading: Reading) -> Iterator[tuple[int, Any]]:
    """``(row, value)`` of every element of an array; memory holds a part and an element."""
    texts = _decoded(path, parts)
    text = next(texts)
    at = text.index("[") + 1
    row = 1 + text.count("\n", 0, at)
    parse = json.JSONDecoder().raw_decode
    while True:
        begin = _GAP.match(text, at).end()  # type: ignore[union-attr]  # it matches anything
        row += text.count("\n", at, begin)
        at = begin
        try:
            if text[at : at + 1] == "]":
                break
            value, end = parse(text, at)
            is_deep = text.count("[", at, end) + text.count("{", at, end) > MAX_DEPTH
            if is_deep or "\\u" in text[at:end]:
                value = parse_json(_whole_pairs(path, row, text[at:end], reading))
        except (ValueError, RecursionError) as error:
            more = next(texts, "") if len(text) - at < MOST_CHARS else ""
            if more:
                text, at = text[at:] + more, 0
                continue
            row += text.count("\n", at, getattr(error, "pos", at))
            fix = "correct it there; an array ends in ]"
            raise _unreadable(path, row, error, fix) from None
        yield row, value
        row += text.count("\n", at, end)
        at = end
    if text[at + 1 :].strip() or any(map(str.strip, texts)):
        raise DataError(f"{path}: row {row}: the file goes on after its array; remove the rest")


def _decoded(path: Path, parts: Iterator[bytes]) -> Iterator[str]:
    decoder, row, length = codecs.getincrementaldecoder("utf-8")(), 1, 0  # bytes of the line so far
    for part in parts:
        try:
            text = decoder.decode(part)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            breaks = before.count(b"\n")
            error.start -= before.rfind(b"\n") + 1 if breaks else -length
            raise not_utf8(path, row + breaks, error) from None
        row += text.count("\n")
        length += len(text.rpartition("\n")[2].encode()) - (length if "\n" in text else 0)
        yield text


def _unreadable(path: Path, row: int, error: BaseException, fix: str) -> DataError:
    reason = getattr(error, "msg", str(error)) or "nested too deep"
    return DataError(f"{path}: row {row}: not a readable JSON object ({reason}); {fix}")


def _whole_pairs(path: Path, row: int, text: str, reading: Reading) -> str:
    """Half of a surrogate pair, which some logs hold as an escape, becomes a question mark."""
    if "\\u" not in text:
        return text
    whole = _ESCAPES.sub(lambda found: found[1] or "?", text)
    if whole != text:
        reading.notice("rows with half a surrogate pair, read as '?'", f"{path}: row {row}")
    return whole
