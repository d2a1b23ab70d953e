"""True values of items' fields, from a file of labels: for benchmarks and contact sheets.

One JSON object a line: ``item_id``, a text for each field that is known, and a ``split``.
"""

from __future__ import annotations

from pathlib import Path

from llmrec.content.schema import Schema
from llmrec.data.item_lists import read_labels
from llmrec.errors import DataError


def read_truth(
    path: str | Path, schema: Schema, split: str | None = None, key: str = "item_id"
) -> dict[str, dict[str, str]]:
    """The true values of the fields, by identifier.

    Args:
        path: a ``.jsonl`` file, such as the demo shop's ``media_truth.jsonl``.
        schema: the fields that are read; other keys are not.
        split: only items of this split; None for all.
        key: what identifies a row, ``text_id`` where the labels are of texts.

    Raises:
        DataError: if the file cannot be read, a line is malformed, no line is left, or none has a
            field of the schema.
    """
    found = {
        row[key]: {name: row[name] for name in schema.names if isinstance(row.get(name), str)}
        for row in read_labels(Path(path), key)
        if split is None or row.get("split") == split
    }
    if not found:
        of = "" if split is None else f" of the split {split!r}"
        raise DataError(f"{path}: has no {key.removesuffix('_id')}{of}")
    if not any(found.values()):
        raise DataError(f"{path}: has none of the fields {', '.join(schema.names)}")
    return found
