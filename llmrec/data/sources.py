"""The raw formats that ``llmrec ingest`` reads; each gives items and chunks of events.

``table``: CSV, JSON lines or Parquet with a column mapping. ``sequences``: lines of
``user item item ...`` in time order. ``movielens``: the folder as GroupLens ships it.
``amazon-2014``, ``amazon-2018``, ``amazon-2023``: see :mod:`llmrec.data.amazon`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from llmrec.data import raw_files
from llmrec.data.amazon import amazon_event_chunks, amazon_items
from llmrec.data.catalogue import ITEM_FIELDS, RawItem
from llmrec.data.event_log import EVENT_FIELDS, EventChunk
from llmrec.errors import DataError

if TYPE_CHECKING:
    from llmrec.data.settings import IngestConfig

_POSTERS = ("posters/{}.jpg", "posters/{}.png")
_TAGS_PER_MOVIE = 10


@dataclass(frozen=True)
class Source:
    """Raw data of one format.

    Attributes:
        files: every file that is read.
        items: reads the catalogue; None if there is no item file.
        events: reads the events.
        default_type: of events that do not name one.
        from_amazon: items outside the kept events, and repeated ones, are dropped by default.
    """

    files: list[Path]
    items: Callable[[], Iterator[RawItem]] | None
    events: Callable[[], Iterator[EventChunk]]
    default_type: str = "purchase"
    from_amazon: bool = False


def open_source(config: IngestConfig) -> Source:
    """The source that the settings name.

    Raises:
        DataError: if a file is missing.
    """
    openers = {"table": _table, "sequences": _sequences, "movielens": _movielens}
    return openers.get(config.format, _amazon)(config)


def _table(config: IngestConfig) -> Source:
    event_files = raw_files.files_at(config.events)
    item_files = raw_files.files_at(config.items) if config.items else []

    def items() -> Iterator[RawItem]:
        for path in item_files:
            yield from _table_items(path, config)

    def events() -> Iterator[EventChunk]:
        for path in event_files:
            yield from _table_events(path, config)

    return Source(item_files + event_files, items if item_files else None, events)


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


def _table_items(path: Path, config: IngestConfig) -> Iterator[RawItem]:
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


def _table_events(path: Path, config: IngestConfig) -> Iterator[EventChunk]:
    mapping = _mapping(EVENT_FIELDS, config.event_columns)
    always = ("user_id", "item_id", "timestamp")
    required = _required(path, mapping, always, config.event_columns, "event_columns")
    required |= {name: "correct context_columns" for name in config.context_columns}
    wanted = [*mapping.values(), *config.context_columns]
    for chunk in raw_files.chunks(path, wanted, required):
        columns = {o: chunk.columns[t] for o, t in mapping.items() if t in chunk.columns}
        if config.context_columns:
            columns["context"] = _gather(chunk.columns, config.context_columns)
        yield EventChunk(path, chunk.rows, columns)


def _gather(columns: dict[str, pa.Array], names: list[str]) -> pa.Array:
    """Several columns as one column of JSON objects, empty cells left out."""
    lists = [raw_files.strings(columns[name].to_pylist()).to_pylist() for name in names]
    found = (
        {n: v for n, v in zip(names, values, strict=True) if v}
        for values in zip(*lists, strict=True)
    )
    return pa.array([json.dumps(context, ensure_ascii=False) for context in found], pa.string())


def _sequences(config: IngestConfig) -> Source:
    path = config.events
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path in the recipe")
    item_files = raw_files.files_at(config.items) if config.items else []

    def items() -> Iterator[RawItem]:
        for file in item_files:
            for row, record in raw_files.rows(file, (), {"item_id": "give every item one"}):
                yield RawItem(file, row, _sequence_item(record))

    return Source(
        [*item_files, path], items if item_files else None, lambda: _sequence_events(path)
    )


def _sequence_item(record: dict[str, Any]) -> dict[str, Any]:
    """Our fields as they are; any other key of the side file is an attribute."""
    fields = {name: record[name] for name in ITEM_FIELDS if name in record}
    others = {name: value for name, value in record.items() if name not in ITEM_FIELDS}
    own = fields.get("attributes")
    fields["attributes"] = {**own, **others} if isinstance(own, dict) else others
    return fields


def _sequence_events(path: Path) -> Iterator[EventChunk]:
    users: list[str] = []
    items: list[str] = []
    rows: list[int] = []

    def chunk() -> EventChunk:
        columns = {"user_id": pa.array(users, pa.string()), "item_id": pa.array(items, pa.string())}
        return EventChunk(path, list(rows), columns)

    for row, line in raw_files.text_lines(path):
        user, *sequence = line.split()
        if not sequence:
            raise DataError(
                f"{path}: row {row}: user {user!r} has no items; "
                "write  user item item ...  or remove the line"
            )
        users += [user] * len(sequence)
        rows += [row] * len(sequence)
        items += sequence
        if len(items) >= raw_files.JSON_CHUNK:
            yield chunk()
            for column in (users, items, rows):
                column.clear()
    if items:
        yield chunk()


def _movielens(config: IngestConfig) -> Source:
    folder = config.events
    ratings, movies, tags = (folder / f"{n}.csv" for n in ("ratings", "movies", "tags"))
    for path in (ratings, movies):
        if not path.is_file():
            raise DataError(f"{path}: no such file; events must name the unpacked MovieLens folder")
    files = [movies, ratings, *([tags] if tags.is_file() else [])]
    columns = {name: name for name in ("rating", "timestamp")}
    columns |= {"user_id": "userId", "item_id": "movieId"}
    required = dict.fromkeys(columns.values(), "is this a MovieLens ratings.csv?")

    def events() -> Iterator[EventChunk]:
        for chunk in raw_files.chunks(ratings, list(required), required):
            ours = {name: chunk.columns[theirs] for name, theirs in columns.items()}
            yield EventChunk(ratings, chunk.rows, ours)

    return Source(
        files,
        lambda: _movies(folder, movies, tags if tags.is_file() else None),
        events,
        default_type="rating",
    )


def _movies(folder: Path, movies: Path, tags: Path | None) -> Iterator[RawItem]:
    """Movies with genres as categories, year and most given tags as attributes, and posters."""
    given = _most_given_tags(tags) if tags else {}
    names = ("movieId", "title", "genres")
    for row, record in raw_files.rows(movies, names, dict.fromkeys(names, "is this movies.csv?")):
        movie, title, genres = (record[name] or "" for name in names)
        attributes: dict[str, Any] = {"tags": given.get(movie, [])}
        year = re.search(r"\((\d{4})\)\s*$", title)
        if year:
            attributes["year"] = year.group(1)
        fields = {
            "item_id": movie,
            "title": title,
            "categories": [] if genres == "(no genres listed)" else genres.split("|"),
            "attributes": attributes,
            "image": next(
                (p for t in _POSTERS if (folder / (p := t.format(movie))).is_file()), None
            ),
        }
        yield RawItem(movies, row, fields)


def _most_given_tags(path: Path) -> dict[str, list[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    names = ("movieId", "tag")
    for _, record in raw_files.rows(path, names, dict.fromkeys(names, "is this tags.csv?")):
        tag = (record["tag"] or "").strip().lower()
        if record["movieId"] and tag:
            counts[record["movieId"]][tag] += 1
    return {
        movie: [tag for tag, _ in sorted(c.items(), key=lambda e: (-e[1], e[0]))[:_TAGS_PER_MOVIE]]
        for movie, c in counts.items()
    }


def _amazon(config: IngestConfig) -> Source:
    year = config.format.removeprefix("amazon-")
    event_files = raw_files.files_at(config.events)
    item_files = raw_files.files_at(config.items) if config.items else []

    def items() -> Iterator[RawItem]:
        for path in item_files:
            yield from amazon_items(path, year)

    def events() -> Iterator[EventChunk]:
        for path in event_files:
            yield from amazon_event_chunks(path, year)

    return Source(
        item_files + event_files,
        items if item_files else None,
        events,
        default_type="review",
        from_amazon=True,
    )
