"""What each row of a log of shown lists shows, in any of the forms of ``impression_reader``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.columns import identifiers
from llmrec.data.raw_files import Chunk, json_column
from llmrec.errors import DataError
from llmrec.parsing import parse_json

_FLAGS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
_POSITION = re.compile(r"\d{1,4}")
_FORMS = (
    "give every row a list (items and clicked), a shown item (item_id and clicked), or impressions "
    "such as 'N12-0 N7-1'"
)


@dataclass(frozen=True, eq=False)
class Shown:
    """What some rows show, one after another.

    Attributes:
        lengths: int64 ``[rows]``, how many items each row shows.
        item_ids: text ``[shown]``, null where missing.
        position: int64 ``[shown]``, as the log has it; -1 unknown.
        clicked: float32 ``[shown]``, 0 or 1.
    """

    lengths: np.ndarray
    item_ids: pa.Array
    position: np.ndarray
    clicked: np.ndarray


def shown_in(chunk: Chunk) -> Shown:
    """What the rows of a chunk show.

    Raises:
        DataError: naming file, row and field.
    """
    names = chunk.columns.keys()
    if "impressions" in names:
        return _mind(chunk)
    if {"items", "clicked"} <= names:
        return _listed(chunk)
    if {"item_id", "clicked"} <= names:
        return _single(chunk)
    has = ", ".join(names)
    raise DataError(f"{chunk.path}: row {chunk.rows[0]}: has {has}; {_FORMS}")


def _listed(chunk: Chunk) -> Shown:
    items, clicked = _cells(chunk, "items"), _cells(chunk, "clicked")
    for row, shown, flags in zip(chunk.rows, items, clicked, strict=True):
        if len(shown) != len(flags):
            raise DataError(
                f"{chunk.path}: row {row}: {len(shown)} items and {len(flags)} clicked; write one "
                "0 or 1 for each item"
            )
    lengths = np.array([len(shown) for shown in items], np.int64)
    rows = np.repeat(np.asarray(chunk.rows), lengths)
    flat = json_column([flag for flags in clicked for flag in flags])
    ids = identifiers(json_column([item for shown in items for item in shown]), missing=())
    return Shown(lengths, ids, _within(lengths), _known_flags(chunk.path, rows, flat))


def _cells(chunk: Chunk, name: str) -> list[list[Any]]:
    """The lists of a column; in a text file they are JSON."""
    found = []
    for row, cell in zip(chunk.rows, chunk.columns[name].to_pylist(), strict=True):
        value = cell
        if isinstance(cell, str):
            try:
                value = parse_json(cell)
            except ValueError:
                value = None
        if not isinstance(value, list):
            raise DataError(
                f'{chunk.path}: row {row}: {name} {str(cell)[:80]!r} is no list; write ["a", "b"]'
            )
        found.append(value)
    return found


def _single(chunk: Chunk) -> Shown:
    lengths = np.ones(len(chunk.rows), np.int64)
    clicked = _known_flags(chunk.path, chunk.rows, chunk.columns["clicked"])
    return Shown(lengths, chunk.columns["item_id"], _positions(chunk), clicked)


def _positions(chunk: Chunk) -> np.ndarray:
    """The column ``position``: int64 ``[rows]``, -1 unknown."""
    if "position" not in chunk.columns:
        return np.full(len(chunk.rows), -1, np.int64)
    found = []
    texts = identifiers(chunk.columns["position"]).to_pylist()
    for row, text in zip(chunk.rows, texts, strict=True):
        if text is not None and not _POSITION.fullmatch(text):
            raise DataError(
                f"{chunk.path}: row {row}: position {text[:80]!r} is none; count from 0 or from 1"
            )
        found.append(-1 if text is None else int(text))
    return np.array(found, np.int64)


def _mind(chunk: Chunk) -> Shown:
    items, flags, lengths = list[str](), list[str](), list[int]()
    for text in chunk.columns["impressions"].to_pylist():
        shown = [entry.rpartition("-") for entry in (text or "").split()]
        items += [item for item, _, _ in shown]
        flags += [flag for _, _, flag in shown]
        lengths.append(len(shown))
    counts = np.array(lengths, np.int64)
    rows = np.repeat(np.asarray(chunk.rows), counts)
    clicked = _known_flags(chunk.path, rows, pa.array(flags, pa.string()))
    return Shown(counts, pa.array(items, pa.string()), _within(counts), clicked)


def _within(lengths: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each list: int64 ``[sum of lengths]``."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths)


def read_flags(values: pa.Array) -> np.ndarray:
    """Clicks as 0 and 1, NaN where not known, -1 for what is none: float64 ``[n]``."""
    found = identifiers(values).dictionary_encode()
    known = [_FLAGS.get(text.lower(), -1.0) for text in found.dictionary.to_pylist()]
    at = pc.fill_null(found.indices, len(known)).to_numpy(zero_copy_only=False)
    return np.array([*known, np.nan])[at]


def _known_flags(path: Path, rows: Sequence[int] | np.ndarray, values: pa.Array) -> np.ndarray:
    """Clicks, all known: float32 ``[n]``.

    Args:
        rows: the row of the file of each.
    """
    flags = read_flags(values)
    wrong = np.flatnonzero(~(flags >= 0))
    if len(wrong):
        value = str(values[int(wrong[0])].as_py())[:80]
        raise DataError(f"{path}: row {rows[wrong[0]]}: clicked {value!r} is neither 0 nor 1")
    return flags.astype(np.float32)
