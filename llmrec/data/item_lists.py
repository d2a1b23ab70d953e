"""Lists of items in files: which to leave out of training, which to measure on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.errors import DataError

HELD_OUT = "held_out"


def read_item_list(path: str | Path) -> list[str]:
    """Item ids of a file, in its order.

    The file has one id a line; or, as ``.jsonl``, one object with ``item_id`` a line, of which
    those with a ``split`` count only where that is ``held_out`` (the demo shop's ground truth).

    Raises:
        DataError: if the file cannot be read, a line is malformed, or no item is left.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        rows = read_labels(path)
        ids = [row["item_id"] for row in rows if row.get("split", HELD_OUT) == HELD_OUT]
    else:
        ids = [line.strip() for _, line in _lines(path)]
    if not ids:
        raise DataError(f"{path}: lists no item; one item id a line is expected")
    return ids


def left_out_items(dataset: Dataset, path: Path | None) -> np.ndarray:
    """Which items of a dataset a list leaves out: bool ``[items]``; none without a list.

    Raises:
        DataError: if the list cannot be read, names an unknown item or leaves none.
    """
    left_out = np.zeros(dataset.n_items, bool)
    if path is None:
        return left_out
    ids = read_item_list(path)
    unknown = [item_id for item_id in ids if item_id not in dataset.item_index]
    if unknown:
        raise DataError(
            f"{path}: {unknown[0]!r} is not an item of {dataset.folder} ({len(unknown)} of "
            f"{len(ids)} are not); give the list that belongs to this dataset"
        )
    left_out[[dataset.item_index[item_id] for item_id in ids]] = True
    if left_out.all():
        raise DataError(
            f"{path}: lists every item of {dataset.folder}, so none is left to learn from"
        )
    return left_out


def read_labels(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON lines, each with an ``item_id``.

    Raises:
        DataError: if it cannot be read or a line is malformed.
    """
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: not JSON ({error})") from None
        if not isinstance(row, dict) or not isinstance(row.get("item_id"), str):
            raise DataError(f"{path}: line {number}: has no item_id")
        yield row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    try:
        with open(path, encoding="utf-8") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from None
