"""Settings of ``llmrec ingest``, and the formats that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llmrec.config import Signed, check_ranges, shown
from llmrec.data.reading import ReadingOptions
from llmrec.data.source import EVENT_FIELDS, ITEM_FIELDS, MEDIA_FIELDS, PROPERTY_FIELDS
from llmrec.data.timestamps import Unit
from llmrec.errors import ConfigError
from llmrec.types import EVENT_TYPES

FORMATS = {  # name -> the module with its open_source
    "table": "llmrec.data.formats.table",
    "sequences": "llmrec.data.formats.sequences",
    "split-sequences": "llmrec.data.formats.split_sequences",
    "movielens": "llmrec.data.formats.movielens",
    "recbole": "llmrec.data.formats.recbole",
    "redial": "llmrec.data.formats.redial",
    "amazon-2014": "llmrec.data.formats.amazon",
    "amazon-2018": "llmrec.data.formats.amazon",
    "amazon-2023": "llmrec.data.formats.amazon",
}
BASKETS = "leave-last-basket"
Split = Literal[
    "leave-one-out", "leave-k-out", "leave-last-basket", "global-time", "random", "given"
]


@dataclass(frozen=True)
class DomainFiles:
    """The files of one more shop; what is not said is as in the first one.

    Attributes:
        events, items: as of :class:`IngestConfig`.
        format, item_columns, event_columns: likewise; None for those of the first shop.
    """

    events: Path
    items: Path
    format: str | None = None
    item_columns: dict[str, str | None] | None = None
    event_columns: dict[str, str | None] | None = None


@dataclass(frozen=True)
class IngestConfig:
    """Settings of ``llmrec ingest``. Relative paths start at the working directory.

    Attributes:
        events: the event file (a folder of files is read in the order of their names); for
            ``movielens`` and ``recbole`` the folder of the data set, or its .zip.
        items: the item file or folder; without one, items are known by their identifier only.
        format: how to read them: table, sequences, split-sequences, movielens, recbole,
            redial, amazon-2014, amazon-2018 or amazon-2023.
        users: a file about users, or a folder of them; without one, nothing is known of users but
            what they did.
        domain: name of the shop that these files are of, where there are several.
        other_domains: further shops with the same customers, by name, each with its own ``events``
            and ``items``; an item of a shop is ``SHOP/ITEM`` then.
        customers: for several shops whose customers have other identifiers in each: a file with
            ``domain``, ``user_id`` and ``customer_id``; who is not in it is a customer of one shop.
        ids_by_domain: for ``table``, one log of several shops whose identifiers of items may be the
            same: items are told apart by the column ``domain`` of both files.
        item_reading, event_reading, user_reading: how the files are read: delimiter, quote, escape,
            encoding, header, missing, decimal, skip_bad_rows (see ``llmrec.data.reading``).
        item_columns: for ``table``, our item field -> their column, where the names differ.
        event_columns: for ``table``, our event field -> their column; ``timestamp: null`` says
            that the log has no times.
        user_columns: what is known of users -> their column; age, gender, place and membership are
            kept where the file has them, others are to be named here.
        attribute_columns: for ``table``, further item columns to keep as attributes.
        properties: for ``table``, a file or folder with a row for each property of an item; a
            property is then a column of the item, for ``item_columns`` and ``attribute_columns``;
            of several values the latest counts, or the last one where there are no times.
        property_columns: item_id, property, value and timestamp -> their column, where the names
            differ.
        media_files: image, video or audio -> path of the files that are named by item, with
            ``{item_id}`` in it, such as ``posters/{item_id}.jpg``; for items whose row names none.
        context_columns: for ``table``, event columns to keep together as the context.
        list_separator: what parts categories and attributes in a text cell.
        default_type: type of events that name none (default: review for amazon, rating for
            movielens, else purchase).
        type_names: their event type -> ours, where the names differ.
        own_types: further types of event, such as like or share -> its weight: the rating (1 to 5
            stars) of events of it that have none. To the click model they are ratings.
        event_types: types that the sequence models learn from and are measured on; empty: all.
            Events of other types are kept for the click model, outside of histories and splits.
        min_rating: of the types that are learned from, drop events with a lower rating; events
            without one stay.
        timestamp_unit: s, ms, us, ns, iso, or auto: by size (see ``llmrec.data.timestamps``); with
            auto, times most of which lie before 1990 or in the future are an error.
        timestamp_format: how times are written, as strptime has it, such as ``%d/%m/%Y``.
        order: of events that no time orders: as in the file, or random. By default events of one
            time stand at random, and a log without times as in the file, with a warning.
        max_dropped: share of the events that may be dropped without being asked for (of an unknown
            type or item, without user, item or time, equal to another); 1: all.
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
        split: leave-one-out: the last event of a user is test and the one before validation;
            leave-k-out: so many each; leave-last-basket: the last basket of a user is test and the
            one before validation, and what is to be found are all items of the next basket;
            global-time: the latest share of all events; random: a share
            of them; given: what ``event_columns: {split: ...}`` or the file's name says (train,
            validation or test; history: read before later events and of no split).
        leave_k: for ``leave-k-out``.
        basket: for ``leave-last-basket``, which events of a user are one basket: those of one time,
            or of one session (``event_columns: {session: order_id}``).
        validation_share, test_share: for ``global-time`` and ``random``, share of events.
    """

    events: Path
    items: Path | None = None
    users: Path | None = None
    format: str = "table"
    domain: str = ""
    other_domains: dict[str, DomainFiles] = field(default_factory=dict)
    customers: Path | None = None
    ids_by_domain: bool = False
    item_reading: ReadingOptions = field(default_factory=ReadingOptions)
    event_reading: ReadingOptions = field(default_factory=ReadingOptions)
    user_reading: ReadingOptions = field(default_factory=ReadingOptions)
    item_columns: dict[str, str | None] = field(default_factory=dict)
    event_columns: dict[str, str | None] = field(default_factory=dict)
    user_columns: dict[str, str] = field(default_factory=dict)
    attribute_columns: list[str] = field(default_factory=list)
    properties: Path | None = None
    property_columns: dict[str, str] = field(default_factory=dict)
    media_files: dict[str, str] = field(default_factory=dict)
    context_columns: list[str] = field(default_factory=list)
    list_separator: str = "|"
    default_type: str | None = None
    type_names: dict[str, str] = field(default_factory=dict)
    own_types: dict[str, float] = field(default_factory=dict)
    event_types: list[str] = field(default_factory=list)
    min_rating: Signed | None = None
    timestamp_unit: Unit = "auto"
    timestamp_format: str | None = None
    order: Literal["file", "random"] | None = None
    max_dropped: float = 0.5
    unknown_items: Literal["skip", "error", "add"] = "skip"
    duplicate_items: Literal["error", "first"] | None = None
    duplicates: Literal["drop", "keep", "first-per-item"] = "drop"
    k_core: int = 0
    drop_unseen_items: bool | None = None
    split: Split = "leave-one-out"
    leave_k: int = 1
    basket: Literal["time", "session"] = "time"
    validation_share: float = 0.1
    test_share: float = 0.1

    def __post_init__(self) -> None:
        _check_names("format", [self.format], FORMATS)
        _check_names("item_columns", self.item_columns, ITEM_FIELDS)
        _check_names("event_columns", self.event_columns, (*EVENT_FIELDS, "split", "domain"))
        _check_names("property_columns", self.property_columns, PROPERTY_FIELDS)
        for name in self.own_types:
            if name in EVENT_TYPES or name != name.strip().lower():
                raise ConfigError(f"own_types: {name!r} must be new, in small letters")
        _check_names("event_types", self.event_types, self.types)
        _check_names("type_names", self.type_names.values(), self.types)
        _check_names("default_type", [self.default_type or "view"], self.types)
        _check_names("media_files", self.media_files, MEDIA_FIELDS)
        for name, pattern in self.media_files.items():
            if "{item_id}" not in pattern:
                raise ConfigError(f"media_files: {name}: {pattern!r} does not contain {{item_id}}")
        self._check_domains()
        if self.k_core < 0:
            raise ConfigError(f"k_core: {self.k_core} is negative; 0 turns it off")
        check_ranges(self, "[1, inf)", "leave_k")
        if self.basket != "time" and self.split != BASKETS:
            raise ConfigError(f"basket: split: {self.split} has no baskets; set split: {BASKETS}")
        check_ranges(self, "[0, 1]", "max_dropped")
        shares = (self.validation_share, self.test_share)
        if min(shares) < 0 or sum(shares) >= 1:
            raise ConfigError(
                f"validation_share and test_share: {shares} leave nothing to train on"
            )
        if not self.list_separator:
            raise ConfigError("list_separator: must not be empty")

    def _check_domains(self) -> None:
        if bool(self.domain) != bool(self.other_domains):
            raise ConfigError(
                "domain and other_domains: name the first shop and the further ones, or neither"
            )
        if self.domain in self.other_domains:
            raise ConfigError(f"other_domains: {self.domain!r} is the first shop already")
        if self.customers is not None and not self.other_domains:
            raise ConfigError("customers: there is one shop; name others in other_domains")
        if self.ids_by_domain and (self.other_domains or self.format != "table"):
            raise ConfigError("ids_by_domain: is for one log of format table")
        for name in (self.domain, *self.other_domains):
            if name != name.strip() or "/" in name or (self.other_domains and not name):
                raise ConfigError(f"domain: {name!r} must be a plain name, without '/'")

    @property
    def types(self) -> tuple[str, ...]:
        """All types of event that are read."""
        return (*EVENT_TYPES, *self.own_types)


def _check_names(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{option}: {shown(name)} is not one of {', '.join(known)}")
