"""What a raw format gives to ``llmrec ingest``: items, events, users, and its downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from llmrec.data.raw_files import Chunk, files_at
from llmrec.data.reading import Reading
from llmrec.types import Event, Item

ITEM_FIELDS = tuple(Item.__dataclass_fields__)
TEXT_FIELDS = ("title", "description", "brand", "domain")
MEDIA_FIELDS = ("image", "video", "audio")
EVENT_FIELDS = tuple(Event.__dataclass_fields__)
USER_FIELDS = ("user_id", "age", "gender", "place", "membership")
PROPERTY_FIELDS = ("item_id", "property", "value", "timestamp")


@dataclass(frozen=True)
class RawItem:
    """One item as a source gives it: fields of ``ITEM_FIELDS``, values in any usual form.

    Attributes:
        more: further attributes; they count instead of those of the same name in ``fields``.
    """

    path: Path
    row: int
    fields: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Raw data of one format.

    Attributes:
        files: every file that is read.
        items: reads the catalogue; None if there is no item file.
        events: reads the events; columns are named as in ``EVENT_FIELDS``, ``user_id`` and
            ``item_id`` are always there.
        users: reads what is known of users, ``user_id`` and a column for each other thing; None
            if no file says.
        item_reading, event_reading, user_reading: what was skipped and noticed while they were
            read.
        default_type: of events that do not name one.
        order: of events that no time orders: ``file`` where the format itself says that they are.
        duplicate_items, drop_unseen_items: what the settings of these names are by default.
    """

    files: list[Path]
    items: Callable[[], Iterable[RawItem]] | None
    events: Callable[[], Iterable[Chunk]]
    users: Callable[[], Iterable[Chunk]] | None = None
    item_reading: Reading = field(default_factory=Reading)
    event_reading: Reading = field(default_factory=Reading)
    user_reading: Reading = field(default_factory=Reading)
    default_type: str = "purchase"
    order: Literal["file", "random"] | None = None
    duplicate_items: Literal["error", "first"] = "error"
    drop_unseen_items: bool = False

    @classmethod
    def of_files(
        cls,
        items: Path | None,
        events: Path,
        read_items: Callable[[Path], Iterator[RawItem]],
        read_events: Callable[[Path], Iterator[Chunk]],
        **defaults: Any,
    ) -> Source:
        """A source of item files and event files that are read one by one.

        Args:
            items, events: a file, or a folder of files; None if there is no item file.
            read_items, read_events: read one file.
            defaults: the other attributes.

        Raises:
            DataError: if a file is missing.
        """
        event_files = files_at(events)
        item_files = files_at(items) if items else []
        return cls(
            item_files + event_files,
            (lambda: chain.from_iterable(map(read_items, item_files))) if item_files else None,
            lambda: chain.from_iterable(map(read_events, event_files)),
            **defaults,
        )


@dataclass(frozen=True)
class Download:
    """Where a data set's publisher keeps it; ``{}`` stands for the category.

    Attributes:
        base_url: in front of every file.
        files: the event file and the item file.
        categories: page that lists the categories.
    """

    base_url: str
    files: tuple[str, ...]
    categories: str
