"""Lists of items in files: which to leave out of training, which to measure on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data import raw_files
from llmrec.data.dataset import Dataset
from llmrec.data.values import to_text
from llmrec.errors import DataError

HELD_OUT = "held_out"


def read_item_list(path: str | Path) -> list[str]:
    """Item ids of a file, in its order.

    The file has one id a line; or it is a table, such as ``.jsonl`` or ``.csv``, with ``item_id``:
    then rows with a ``split`` count only where that is ``held_out`` (the demo shop's ground truth).

    Raises:
        DataError: if the file cannot be read, a line is malformed, or no item is left.
    """
    path = Path(path)
    if raw_files.is_table(path):
        rows = read_labels(path)
        ids = [row["item_id"] for row in rows if row.get("split", HELD_OUT) == HELD_OUT]
    else:
        ids = [line.strip() for _, line in raw_files.text_lines(path)]
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


def read_labels(path: Path, key: str = "item_id") -> Iterator[dict[str, Any]]:
    """The rows of a table file, such as JSON lines, each with an identifier.

    Raises:
        DataError: if it cannot be read or a row is malformed.
    """
    for row, labels in raw_files.rows(path, (), {key: "every row needs one"}):
        name = to_text(labels.get(key))
        if not name:
            raise DataError(f"{path}: row {row}: no {key}; every row needs one")
        yield labels | {key: name}
