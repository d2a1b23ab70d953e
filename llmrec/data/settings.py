"""Settings of ``llmrec ingest``, and the formats that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llmrec.data.source import EVENT_FIELDS, ITEM_FIELDS, MEDIA_FIELDS
from llmrec.data.timestamps import Unit
from llmrec.errors import ConfigError
from llmrec.types import EVENT_TYPES

FORMATS = {  # name -> the module with its open_source
    "table": "llmrec.data.formats.table",
    "sequences": "llmrec.data.formats.sequences",
    "movielens": "llmrec.data.formats.movielens",
    "amazon-2014": "llmrec.data.formats.amazon",
    "amazon-2018": "llmrec.data.formats.amazon",
    "amazon-2023": "llmrec.data.formats.amazon",
}


@dataclass(frozen=True)
class IngestConfig:
    """Settings of ``llmrec ingest``. Relative paths start at the working directory.

    Attributes:
        events: the event file (a folder of files is read in the order of their names); for
            ``movielens`` the unpacked folder.
        items: the item file or folder; without one, items are known by their identifier only.
        format: how to read them: table, sequences, movielens, amazon-2014, amazon-2018 or
            amazon-2023.
        item_columns: for ``table``, our item field -> their column, where the names differ.
        event_columns: for ``table``, our event field -> their column; ``timestamp: null`` says
            that the log has no times.
        attribute_columns: for ``table``, further item columns to keep as attributes.
        media_files: image, video or audio -> path of the files that are named by item, with
            ``{item_id}`` in it, such as ``posters/{item_id}.jpg``; for items whose row names none.
        context_columns: for ``table``, event columns to keep together as the context.
        list_separator: what parts categories and attributes in a text cell.
        default_type: type of events that name none (default: review for amazon, rating for
            movielens, else purchase).
        type_names: their event type -> ours, where the names differ.
        event_types: types that the sequence models learn from and are measured on; empty: all.
            Events of other types are kept for the click model, outside of histories and splits.
        min_rating: of the types that are learned from, drop events with a lower rating; events
            without one stay.
        timestamp_unit: s, ms, us, ns, iso, or auto: by size (see ``llmrec.data.timestamps``).
        unknown_items: what to do with an event whose item is not in the item file: skip and
            count it, stop with an error, or add an item without a title.
        duplicate_items: an identifier twice in the item file: error, or keep the first (default:
            first for amazon, whose files repeat products, else error).
        duplicates: drop events equal in user, item, type, time and rating (only where times are
            known); or keep them; or keep just the first event of a user with an item, of the types
            that are learned from.
        k_core: keep only users and items with this many events of the types that are learned from,
            repeated until stable; 0: off.
        drop_unseen_items: leave items that no event is learned from out of the catalogue
            (default: true for amazon, where items are limited to the core, else false).
        split: the last event of a user is test and the one before validation; or the latest share
            of all events.
        validation_share: for ``global-time``, share of events.
        test_share: for ``global-time``, share of events.
    """

    events: Path
    items: Path | None = None
    format: str = "table"
    item_columns: dict[str, str | None] = field(default_factory=dict)
    event_columns: dict[str, str | None] = field(default_factory=dict)
    attribute_columns: list[str] = field(default_factory=list)
    media_files: dict[str, str] = field(default_factory=dict)
    context_columns: list[str] = field(default_factory=list)
    list_separator: str = "|"
    default_type: str | None = None
    type_names: dict[str, str] = field(default_factory=dict)
    event_types: list[str] = field(default_factory=list)
    min_rating: float | None = None
    timestamp_unit: Unit = "auto"
    unknown_items: Literal["skip", "error", "add"] = "skip"
    duplicate_items: Literal["error", "first"] | None = None
    duplicates: Literal["drop", "keep", "first-per-item"] = "drop"
    k_core: int = 0
    drop_unseen_items: bool | None = None
    split: Literal["leave-one-out", "global-time"] = "leave-one-out"
    validation_share: float = 0.1
    test_share: float = 0.1

    def __post_init__(self) -> None:
        _check_names("format", [self.format], FORMATS)
        _check_names("item_columns", self.item_columns, ITEM_FIELDS)
        _check_names("event_columns", self.event_columns, EVENT_FIELDS)
        _check_names("event_types", self.event_types, EVENT_TYPES)
        _check_names("type_names", self.type_names.values(), EVENT_TYPES)
        _check_names("default_type", [self.default_type or "view"], EVENT_TYPES)
        _check_names("media_files", self.media_files, MEDIA_FIELDS)
        for name, pattern in self.media_files.items():
            if "{item_id}" not in pattern:
                raise ConfigError(f"media_files: {name}: {pattern!r} does not contain {{item_id}}")
        if self.k_core < 0:
            raise ConfigError(f"k_core: {self.k_core} is negative; 0 turns it off")
        shares = (self.validation_share, self.test_share)
        if min(shares) < 0 or sum(shares) >= 1:
            raise ConfigError(
                f"validation_share and test_share: {shares} leave nothing to train on"
            )
        if not self.list_separator:
            raise ConfigError("list_separator: must not be empty")


def _check_names(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{option}: {name!r} is not one of {', '.join(known)}")
