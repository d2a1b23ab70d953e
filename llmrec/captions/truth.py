"""True values of items' fields, from a file of labels: for benchmarks and contact sheets.

One JSON object a line: ``item_id``, a text for each field that is known, and a ``split``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrec.content.schema import Schema
from llmrec.errors import DataError


def read_truth(
    path: str | Path, schema: Schema, split: str | None = None
) -> dict[str, dict[str, str]]:
    """The true values of the fields, by item id.

    Args:
        path: a ``.jsonl`` file, such as the demo shop's ``media_truth.jsonl``.
        schema: the fields that are read; other keys are not.
        split: only items of this split; None for all.

    Raises:
        DataError: if the file cannot be read, a line is malformed, no line is left, or none has a
            field of the schema.
    """
    path = Path(path)
    found: dict[str, dict[str, str]] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                row = _row(line, f"{path}: line {number}")
                if split is None or row.get("split") == split:
                    known = {n: row[n] for n in schema.names if isinstance(row.get(n), str)}
                    found[row["item_id"]] = known
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if not found:
        of = "" if split is None else f" of the split {split!r}"
        raise DataError(f"{path}: has no item{of}")
    if not any(found.values()):
        raise DataError(f"{path}: has none of the fields {', '.join(schema.names)}")
    return found


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("item_id"), str):
        raise DataError(f"{where}: has no item_id")
    return row
