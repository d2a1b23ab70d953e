"""The table of captions: its columns, its rows, and how it is read again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.captions.engine import Generation, MultimodalModel
from llmrec.captions.prompting import Task
from llmrec.captions.responses import field_probabilities, read_enhanced, read_fields
from llmrec.content.schema import Schema, load_resolved
from llmrec.errors import ArtifactError, CatalogError
from llmrec.loop.bars import ProgressBar
from llmrec.stage import read_manifest, reading

STAGE, COMMAND = "caption", "llmrec caption"
CAPTIONS, SCHEMA, SKIPPED = "captions.parquet", "schema.json", "skipped.jsonl"
_BATCH = 4096  # rows


@dataclass(frozen=True)
class CaptionTable:
    """A finished ``llmrec caption`` stage, checked.

    Columns: ``item_id``, ``caption``, one string a field, ``key_terms`` (list of strings),
    ``summary``, ``wanted_by``, one float32 ``p_FIELD`` a field, ``prompt_hash``. Rows are in the
    order of the dataset's items; an item without any input has nulls.

    Attributes:
        path: the table's file.
        schema: the closed fields.
        names: of the columns that are there; all but ``item_id`` and the fields may be missing.
        n_items: rows.
    """

    path: Path
    schema: Schema
    names: list[str]
    n_items: int

    @classmethod
    def open(cls, folder: str | Path) -> CaptionTable:
        """Check a folder.

        Raises:
            ArtifactError: if it is missing, damaged, of another stage or without a column.
            CatalogError: if it has no rows.
        """
        read_manifest(folder, STAGE)
        try:
            schema = load_resolved(Path(folder) / SCHEMA)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; run llmrec caption again with --verify") from None
        path = Path(folder) / CAPTIONS
        with reading(path, COMMAND), pq.ParquetFile(path) as file:
            found, n_items = file.schema_arrow, file.metadata.num_rows
        wanted = columns(schema)
        for name in ("item_id", *schema.names):
            if name not in found.names:
                raise ArtifactError(f"{path}: has no column {name!r}; run llmrec caption again")
        names = [name for name in wanted.names if name in found.names]
        for name in names:
            if not found.field(name).type.equals(wanted.field(name).type):
                raise ArtifactError(
                    f"{path}: column {name!r} holds {found.field(name).type}, expected "
                    f"{wanted.field(name).type}; run llmrec caption again"
                )
        if not n_items:
            raise CatalogError(f"{path}: has no items; caption some first")
        return cls(path, schema, names, n_items)

    def batches(self, label: str) -> Iterator[list[dict[str, Any]]]:
        """The rows, some thousand at a time, with a progress bar."""
        with (
            reading(self.path, COMMAND),
            pq.ParquetFile(self.path) as file,
            ProgressBar(total=self.n_items, unit="item", desc=label) as progress,
        ):
            for batch in file.iter_batches(_BATCH, columns=self.names):
                yield batch.to_pylist()
                progress.update(batch.num_rows)


def load_captions(folder: str | Path) -> tuple[pa.Table, Schema]:
    """The whole table of a finished ``llmrec caption`` stage and the closed fields in it.

    Raises:
        ArtifactError, CatalogError: as :meth:`CaptionTable.open`.
    """
    opened = CaptionTable.open(folder)
    with reading(opened.path, COMMAND):
        return pq.read_table(opened.path, columns=opened.names), opened.schema


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
    """The row of an item without any input."""
    return dict.fromkeys(columns(schema).names) | {"item_id": item_id}


def row_of(
    item_id: str,
    generations: Mapping[Task, Generation],
    prompts: Sequence[str],
    model: MultimodalModel,
    schema: Schema,
) -> dict[str, Any]:
    """One row from the three responses about an item and their prompts."""
    row = empty_row(item_id, schema)
    row["caption"] = model.text(generations["caption"].tokens) or None
    closed = generations["attributes"]
    pieces = model.pieces(closed.tokens)
    values = read_fields(_joined(pieces), schema)
    probabilities = field_probabilities(pieces, closed.logprobs, schema)
    row |= values | {f"p_{name}": probabilities[name] for name in values}
    row |= read_enhanced(_joined(model.pieces(generations["enhance"].tokens)))
    row["prompt_hash"] = hashlib.sha256("\0".join(prompts).encode()).hexdigest()[:16]
    return row


def _joined(pieces: Sequence[bytes]) -> str:
    return b"".join(pieces).decode(errors="ignore")  # a character may be cut at the end
