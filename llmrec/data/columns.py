"""Columns of raw files as ingest, impressions and monitor all read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.raw_files import Chunk, strings
from llmrec.data.reading import MISSING
from llmrec.data.timestamps import Plausibility, Unit, UnreadableTimeError, to_seconds
from llmrec.errors import DataError
from llmrec.parsing import parse_json

_WHOLE = r"^-?\d+(\.0+)?$"


def identifiers(values: pa.Array, missing: Sequence[str] = MISSING) -> pa.Array:
    """Identifiers as trimmed text, null where missing; whole floats as whole numbers."""
    values = pc.utf8_trim_whitespace(as_texts(values))
    absent = pc.is_in(values, pa.array(["", *missing], pa.string()))
    return pc.if_else(absent, pa.scalar(None, pa.string()), values)


def as_texts(values: pa.Array) -> pa.Array:
    """Any column as text; whole floats as whole numbers, lists and mappings as JSON."""
    if pa.types.is_string(values.type):
        return values
    is_whole = pa.types.is_integer(values.type) or pa.types.is_null(values.type)
    return values.cast(pa.string()) if is_whole else strings(values.to_pylist())


def known_as(name: str, index: Mapping[str, int]) -> str:
    """An identifier as an index has it: 7.0 is 7 where only that is known.

    >>> known_as("7.0", {"7": 0}), known_as("7.0", {"7": 0, "7.0": 1}), known_as("8.0", {"7": 0})
    ('7', '7.0', '8.0')
    """
    whole = name.removesuffix(".0")
    return whole if whole != name and name not in index and whole in index else name


class WholeNumbers:
    """Identifiers written as ``7.0``: they are 7 where the whole column is of whole numbers."""

    def __init__(self, column: Callable[[], Iterable[pa.Array]]) -> None:
        """
        Args:
            column: reads the whole column, as :func:`identifiers` gives it; called at most once,
                when the first ``.0`` is met.
        """
        self._column = column
        self._all_whole: bool | None = None

    def shortened(self, ids: pa.Array) -> pa.Array:
        """Without ``.0`` at their ends, if the column is so."""
        if not pc.any(pc.ends_with(ids, ".0")).as_py() or not self._decide():
            return ids
        return pc.replace_substring_regex(ids, r"^(-?\d+)\.0+$", r"\1")

    def _decide(self) -> bool:
        if self._all_whole is None:
            found = (pc.all(pc.match_substring_regex(ids, _WHOLE)) for ids in self._column())
            self._all_whole = all(each.as_py() is not False for each in found)
        return self._all_whole


def times(
    chunk: Chunk,
    name: str,
    unit: Unit = "auto",
    format: str | None = None,
    missing: Sequence[str] = MISSING,
    plausible: Plausibility | None = None,
) -> np.ndarray:
    """A column of times, float64 seconds since 1970 UTC; NaN where unknown.

    Args:
        missing: texts that stand for no time.
        plausible: takes note of them.

    Raises:
        DataError: for a value that is no time, naming its row.
    """
    column = chunk.columns[name]
    try:
        seconds, _ = to_seconds(column, unit, format, missing)
    except UnreadableTimeError as error:
        raise DataError(
            f"{chunk.path}: row {chunk.rows[error.index]}: {name} {error}; "
            "write seconds since 1970 or ISO 8601"
        ) from None
    if plausible is not None:
        plausible.see(seconds, column, lambda at: f"{chunk.path}: row {chunk.rows[at]}")
    return seconds


def contexts(chunk: Chunk) -> list[str]:
    """The context of every row as JSON text.

    Raises:
        DataError: for one that is no mapping, naming its row.
    """
    texts, wrong = context_texts(chunk)
    for error in wrong.values():
        raise error
    return ["{}"] * len(chunk.rows) if texts is None else texts.fill_null("{}").to_pylist()


def context_texts(chunk: Chunk) -> tuple[pa.Array | None, dict[int, DataError]]:
    """The context of every row as JSON text, each distinct one checked once.

    Returns:
        text ``[n]``, or None where there is no context at all; what is wrong, by place.
    """
    column = texts_of(chunk.columns.get("context"))
    if column is None:
        return None, {}
    encoded = column.dictionary_encode()
    bad = [not _is_mapping(text) for text in encoded.dictionary.to_pylist()]
    wrong = {}
    if any(bad):
        codes = encoded.indices.fill_null(len(bad)).to_numpy(zero_copy_only=False)
        for at in np.flatnonzero(np.array([*bad, False])[codes]).tolist():
            text = column[at].as_py()
            wrong[at] = DataError(
                f"{chunk.path}: row {chunk.rows[at]}: context {text[:80]!r} is not a JSON object; "
                'write it as {"device": "phone"} or leave it empty'
            )
    return pc.if_else(pc.equal(column, ""), pa.scalar("{}"), column), wrong


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(parse_json(text or "{}"), dict)
    except ValueError:
        return False


def texts_of(column: pa.Array | None) -> pa.Array | None:
    """A column as text, lists and mappings as JSON; None where nothing stands in it."""
    if column is None or column.null_count == len(column):
        return None
    if pa.types.is_nested(column.type):
        return strings(column.to_pylist())
    return column.cast(pa.string())


def gathered(columns: Mapping[str, pa.Array], names: Sequence[str]) -> pa.Array:
    """Several columns as one column of JSON objects, empty cells left out."""
    lists = [strings(columns[name].to_pylist()).to_pylist() for name in names]
    found = (
        {n: v for n, v in zip(names, values, strict=True) if v}
        for values in zip(*lists, strict=True)
    )
    return pa.array([json.dumps(context, ensure_ascii=False) for context in found], pa.string())
