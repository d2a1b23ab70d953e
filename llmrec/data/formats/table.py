"""CSV, JSON lines or Parquet, their columns mapped to our fields; the format ``table``.

A long table of properties may stand beside or instead of the item file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.columns import gathered
from llmrec.data.item_properties import ItemProperties
from llmrec.data.raw_files import files_at
from llmrec.data.reading import Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import EVENT_FIELDS, ITEM_FIELDS, RawItem, Source
from llmrec.data.values import to_text


def open_source(config: IngestConfig) -> Source:
    """Tables as the settings describe them.

    Raises:
        DataError: if a file is missing.
    """
    item_reading, event_reading = Reading(config.item_reading), Reading(config.event_reading)
    source = Source.of_files(
        config.items,
        config.events,
        partial(_items, config=config, reading=item_reading),
        partial(_events, config=config, reading=event_reading),
        item_reading=item_reading,
        event_reading=event_reading,
    )
    if config.properties is None:
        return source
    more = files_at(config.properties)
    items = partial(_items_with_properties, config, item_reading)
    return replace(source, files=[*source.files, *more], items=items)


def column_mapping(fields: tuple[str, ...], given: Mapping[str, str | None]) -> dict[str, str]:
    """Our field -> their column; a field mapped to nothing is left out."""
    merged: dict[str, str | None] = {**{name: name for name in fields}, **given}
    return {ours: theirs for ours, theirs in merged.items() if theirs}


def _required(
    path: Path,
    mapping: dict[str, str],
    always: tuple[str, ...],
    given: Any,
    option: str,
    reading: Reading,
) -> dict[str, str]:
    """Columns that must be there, with the fix to name. JSON lines may leave optional keys out."""
    named = [] if raw_files.kind(path, reading.options) == "json" else list(given)
    fixes = {}
    for ours in dict.fromkeys([*always, *named]):
        if ours in mapping:
            fix = f"name the column in {option}: {{{ours}: ...}}"
            if ours == "timestamp":
                fix += f", or for a log without times set {option}: {{timestamp: null}}"
            fixes[mapping[ours]] = fix
    return fixes


def _items(
    path: Path,
    config: IngestConfig,
    reading: Reading,
    properties: ItemProperties | None = None,
) -> Iterator[RawItem]:
    mapping = column_mapping(ITEM_FIELDS, config.item_columns)
    required = _required(path, mapping, ("item_id",), config.item_columns, "item_columns", reading)
    required |= {name: "correct attribute_columns" for name in config.attribute_columns}
    elsewhere = properties.names if properties else set()
    required = {name: fix for name, fix in required.items() if name not in elsewhere}
    wanted = [*mapping.values(), *config.attribute_columns]
    for row, record in raw_files.rows(path, wanted, required, reading):
        if properties:
            record |= properties.of(to_text(record.get(mapping["item_id"])))
        yield _item(path, row, record, mapping, config.attribute_columns)


def _item(
    path: Path,
    row: int,
    record: dict[str, Any],
    mapping: Mapping[str, str],
    attributes: Sequence[str],
) -> RawItem:
    fields = {ours: record.get(theirs) for ours, theirs in mapping.items()}
    return RawItem(path, row, fields, {name: record.get(name) for name in attributes})


def _items_with_properties(config: IngestConfig, reading: Reading) -> Iterator[RawItem]:
    """The items of the item file, or without one all that have a property."""
    mapping = column_mapping(ITEM_FIELDS, config.item_columns)
    wanted = {name for ours, name in mapping.items() if ours != "item_id"}
    properties = ItemProperties(config, wanted | set(config.attribute_columns), reading)
    if config.items is not None:
        for path in files_at(config.items):
            yield from _items(path, config, reading, properties)
        return
    given = [name for ours, name in config.item_columns.items() if name and ours != "item_id"]
    properties.check(given, "item_columns")
    properties.check(config.attribute_columns, "attribute_columns")
    for path, row, item_id in properties.rows():
        record = properties.of(item_id) | {mapping["item_id"]: item_id}
        yield _item(path, row, record, mapping, config.attribute_columns)


def _events(path: Path, config: IngestConfig, reading: Reading) -> Iterator[raw_files.Chunk]:
    more = {"split": config.split == "given", "domain": config.ids_by_domain}
    fields = (*EVENT_FIELDS, *(name for name, wanted in more.items() if wanted))
    mapping = column_mapping(fields, config.event_columns)
    always = ("user_id", "item_id", "timestamp", *(["domain"] if config.ids_by_domain else []))
    required = _required(path, mapping, always, config.event_columns, "event_columns", reading)
    required |= {name: "correct context_columns" for name in config.context_columns}
    wanted = [*mapping.values(), *config.context_columns]
    for chunk in raw_files.chunks(path, wanted, required, reading):
        named = chunk.named(mapping)
        if config.context_columns:
            named.columns["context"] = gathered(chunk.columns, config.context_columns)
        yield named
