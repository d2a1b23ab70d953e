"""CSV, JSON lines or Parquet, their columns mapped to our fields; the format ``table``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmrec.data import raw_files
from llmrec.data.settings import IngestConfig
from llmrec.data.source import EVENT_FIELDS, ITEM_FIELDS, RawItem, Source


def open_source(config: IngestConfig) -> Source:
    """Tables as the settings describe them.

    Raises:
        DataError: if a file is missing.
    """
    return Source.of_files(
        config.items,
        config.events,
        partial(_items, config=config),
        partial(_events, config=config),
    )


def _mapping(fields: tuple[str, ...], given: dict[str, str | None]) -> dict[str, str]:
    """Our field -> their column; a field mapped to nothing is left out."""
    merged: dict[str, str | None] = {**{name: name for name in fields}, **given}
    return {ours: theirs for ours, theirs in merged.items() if theirs}


def _required(
    path: Path, mapping: dict[str, str], always: tuple[str, ...], given: Any, option: str
) -> dict[str, str]:
    """Columns that must be there, with the fix to name. JSON lines may leave optional keys out."""
    named = [] if raw_files.kind(path) == "jsonl" else list(given)
    fixes = {}
    for ours in dict.fromkeys([*always, *named]):
        if ours in mapping:
            fix = f"name the column in {option}: {{{ours}: ...}}"
            if ours == "timestamp":
                fix += f", or for a log without times set {option}: {{timestamp: null}}"
            fixes[mapping[ours]] = fix
    return fixes


def _items(path: Path, config: IngestConfig) -> Iterator[RawItem]:
    mapping = _mapping(ITEM_FIELDS, config.item_columns)
    required = _required(path, mapping, ("item_id",), config.item_columns, "item_columns")
    required |= {name: "correct attribute_columns" for name in config.attribute_columns}
    wanted = [*mapping.values(), *config.attribute_columns]
    for row, record in raw_files.rows(path, wanted, required):
        fields = {ours: record.get(theirs) for ours, theirs in mapping.items()}
        if config.attribute_columns:
            extra = {name: record.get(name) for name in config.attribute_columns}
            own = fields.get("attributes")
            fields["attributes"] = {**own, **extra} if isinstance(own, dict) else extra
        yield RawItem(path, row, fields)


def _events(path: Path, config: IngestConfig) -> Iterator[raw_files.Chunk]:
    mapping = _mapping(EVENT_FIELDS, config.event_columns)
    always = ("user_id", "item_id", "timestamp")
    required = _required(path, mapping, always, config.event_columns, "event_columns")
    required |= {name: "correct context_columns" for name in config.context_columns}
    wanted = [*mapping.values(), *config.context_columns]
    for chunk in raw_files.chunks(path, wanted, required):
        columns = {o: chunk.columns[t] for o, t in mapping.items() if t in chunk.columns}
        if config.context_columns:
            columns["context"] = _gather(chunk.columns, config.context_columns)
        yield raw_files.Chunk(path, chunk.rows, columns)


def _gather(columns: dict[str, pa.Array], names: list[str]) -> pa.Array:
    """Several columns as one column of JSON objects, empty cells left out."""
    lists = [raw_files.strings(columns[name].to_pylist()).to_pylist() for name in names]
    found = (
        {n: v for n, v in zip(names, values, strict=True) if v}
        for values in zip(*lists, strict=True)
    )
    return pa.array([json.dumps(context, ensure_ascii=False) for context in found], pa.string())
