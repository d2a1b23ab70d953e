"""The table of ``llmrec caption``, as its readers need it: checked, and some rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from llmrec.errors import ArtifactError, CatalogError
from llmrec.stage import read_manifest

STAGE = "caption"
CAPTIONS, SCHEMA = "captions.parquet", "schema.json"
_BATCH = 4096  # rows
_OPTIONAL = {"caption": False, "key_terms": True, "summary": False}  # whether it is a list


@dataclass(frozen=True)
class CaptionTable:
    """A finished ``caption`` stage.

    Attributes:
        path: the table.
        fields: names of the closed fields, in their order.
        closed: values that a field may have, where the stage tells.
        columns: those of the table that are read.
        n_items: rows.
    """

    path: Path
    fields: list[str]
    closed: dict[str, list[str]]
    columns: list[str]
    n_items: int

    @classmethod
    def open(cls, folder: Path) -> CaptionTable:
        """Check a folder.

        Raises:
            ArtifactError: if it is missing, damaged, of another stage or without a column.
            CatalogError: if it has no rows.
        """
        fields = read_manifest(folder, STAGE).config.get("fields")
        if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
            raise ArtifactError(f"{folder}: its manifest lists no fields; run llmrec caption again")
        path = Path(folder) / CAPTIONS
        try:
            with pq.ParquetFile(path) as file:
                schema, n_items = file.schema_arrow, file.metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from None
        _check(path, schema, fields)
        if not n_items:
            raise CatalogError(f"{path}: has no items; caption some first")
        columns = [n for n in (*_OPTIONAL, *fields) if n in schema.names]
        return cls(path, fields, _closed(Path(folder) / SCHEMA, fields), columns, n_items)

    def batches(self, doing: str) -> Iterator[list[dict[str, Any]]]:
        """The rows, some thousand at a time, with a progress bar that says what is done."""
        try:
            with (
                pq.ParquetFile(self.path) as file,
                tqdm(total=self.n_items, unit="item", desc=doing, disable=None) as progress,
            ):
                # item_id is read so that a table without other columns has its rows
                for batch in file.iter_batches(_BATCH, columns=["item_id", *self.columns]):
                    yield batch.to_pylist()
                    progress.update(batch.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.path, error) from None


def _check(path: Path, schema: pa.Schema, fields: list[str]) -> None:
    for name in ("item_id", *fields):
        if name not in schema.names:
            raise ArtifactError(f"{path}: has no column {name!r}; run llmrec caption again")
    for name in (*_OPTIONAL, *fields):
        if name not in schema.names:
            continue
        found = schema.field(name).type
        wanted = pa.list_(pa.string()) if _OPTIONAL.get(name) else pa.string()
        if not _is_like(found, listed=_OPTIONAL.get(name, False)):
            raise ArtifactError(
                f"{path}: column {name!r} holds {found}, expected {wanted}; "
                "run llmrec caption again"
            )


def _is_like(found: pa.DataType, listed: bool) -> bool:
    """Text or a list of it, in any of Arrow's layouts; a column of nulls alone has no type."""
    if pa.types.is_null(found):
        return True
    if listed:
        lists = pa.types.is_list(found) or pa.types.is_large_list(found)
        return lists and _is_like(found.value_type, listed=False)
    if pa.types.is_dictionary(found):
        return _is_like(found.value_type, listed=False)
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _closed(path: Path, fields: list[str]) -> dict[str, list[str]]:
    """What each field may be, from the stage's own list; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        values = {name: raw[name]["values"] for name in fields}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None
    for name, listed in values.items():
        if not isinstance(listed, list) or not all(isinstance(v, str) and v for v in listed):
            raise ArtifactError(f"{path}: the values of {name!r} are no texts; caption again")
    return values


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    reason = " ".join(str(error).split())
    return ArtifactError(f"{path}: cannot be read ({reason}); run llmrec caption again")
