"""Lists of items in files: which to leave out of training, which to measure on."""

from __future__ import annotations

import json
from pathlib import Path

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
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    ids = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            ids.append(line.strip())
        elif (item_id := _held_out_id(line, f"{path}: line {number}")) is not None:
            ids.append(item_id)
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


def _held_out_id(line: str, where: str) -> str | None:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("item_id"), str):
        raise DataError(f"{where}: has no item_id")
    return row["item_id"] if row.get("split", HELD_OUT) == HELD_OUT else None
