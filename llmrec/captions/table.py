"""The table of captions: its columns, its rows, and how it is opened again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.captions.answers import field_probabilities, read_enhanced, read_fields
from llmrec.captions.asking import Task
from llmrec.captions.engine import Answer
from llmrec.captions.model import MultimodalModel
from llmrec.content.media.errors import one_line
from llmrec.content.schema import Schema, schema_from
from llmrec.errors import ArtifactError, LlmrecError
from llmrec.stage import read_manifest

STAGE = "caption"
CAPTIONS, SCHEMA, SKIPPED = "captions.parquet", "schema.json", "skipped.jsonl"


def load_captions(folder: str | Path) -> tuple[pa.Table, Schema]:
    """The table of a finished ``llmrec caption`` stage and the closed fields in it.

    Columns: ``item_id``, ``caption``, one string a field, ``key_terms`` (list of strings),
    ``summary``, ``wanted_by``, one float32 ``p_FIELD`` a field, ``prompt_hash``. Rows are in the
    order of the dataset's items; an item with nothing to show has nulls.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    read_manifest(folder, STAGE)
    path = Path(folder) / SCHEMA
    try:
        schema = schema_from(json.loads(path.read_text(encoding="utf-8")), str(path))
        path = Path(folder) / CAPTIONS
        table = pq.read_table(path)
        missing = [name for name in columns(schema).names if name not in table.column_names]
    except (OSError, ValueError, LlmrecError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({one_line(error)}); run llmrec caption again"
        ) from None
    if missing:
        raise ArtifactError(f"{path}: has no column {missing[0]!r}; run llmrec caption again")
    return table, schema


def columns(schema: Schema) -> pa.Schema:
    """Names and types of the table's columns."""
    text = pa.string()
    return pa.schema(
        [
            ("item_id", text),
            ("caption", text),
            *((name, text) for name in schema.names),
            ("key_terms", pa.list_(text)),
            ("summary", text),
            ("wanted_by", text),
            *((f"p_{name}", pa.float32()) for name in schema.names),
            ("prompt_hash", text),
        ]
    )


def empty_row(item_id: str, schema: Schema) -> dict[str, Any]:
    """The row of an item that was not asked about."""
    return dict.fromkeys(columns(schema).names) | {"item_id": item_id}


def row_of(
    item_id: str,
    answers: Mapping[Task, Answer],
    prompts: Sequence[str],
    model: MultimodalModel,
    schema: Schema,
) -> dict[str, Any]:
    """One row from the three answers about an item and the prompts that asked for them."""
    row = empty_row(item_id, schema)
    row["caption"] = model.text(answers["caption"].tokens) or None
    closed = answers["attributes"]
    pieces = model.pieces(closed.tokens)
    values = read_fields(_joined(pieces), schema)
    sure = field_probabilities(pieces, closed.logprobs, schema)
    row |= values | {f"p_{name}": sure[name] for name in values}
    row |= read_enhanced(_joined(model.pieces(answers["enhance"].tokens)))
    row["prompt_hash"] = hashlib.sha256("\0".join(prompts).encode()).hexdigest()[:16]
    return row


def _joined(pieces: Sequence[bytes]) -> str:
    return b"".join(pieces).decode(errors="ignore")  # a character may be cut at the end
