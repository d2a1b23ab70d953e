"""RecBole's atomic files: ``NAME.inter`` and, if there, ``NAME.item`` and ``NAME.user``.

``events`` names the folder or the .zip that holds the three, or the ``.inter`` file beside which
the others lie. Cells are parted by tabs, and the first row names each column with its type, such as
``user_id:token`` or ``genre:token_seq``; settings name columns without their type. A title may also
be called ``name`` or end in ``_title``, and categories ``category``, ``class``, ``genre`` or
``genres``. All other columns of an item are attributes, or those of ``attribute_columns`` alone;
all other columns of a user are kept, or those of ``user_columns`` alone. Vectors (``float_seq``)
are left out unless a setting names them.
Source: https://recbole.io/docs/user_guide/data/atomic_files.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.archives import archive_of, is_archive, members
from llmrec.data.columns import gathered
from llmrec.data.formats.table import column_mapping
from llmrec.data.reading import Reading, ReadingOptions
from llmrec.data.settings import IngestConfig
from llmrec.data.source import EVENT_FIELDS, ITEM_FIELDS, TEXT_FIELDS, RawItem, Source
from llmrec.errors import DataError

_TYPES = ("token", "token_seq", "float", "float_seq")
_CATEGORIES = ("category", "class", "genre", "genres")


class _AtomicFile:
    """One file.

    Attributes:
        types: of every column, by its name.
        reading: what was skipped while it was read.
    """

    def __init__(self, path: Path, given: ReadingOptions) -> None:
        self.path = path
        self.reading = Reading(replace(given, delimiter="\t", quote=None))
        _, header = next(raw_files.text_lines(path, self.reading), (0, ""))
        self.types: dict[str, str] = {}
        for cell in header.split("\t"):
            name, _, kind = cell.strip().rpartition(":")
            if not name or kind not in _TYPES:
                raise DataError(
                    f"{path}: row 1: {cell[:80]!r} is not a column's name and type, such as "
                    f"user_id:token; types are {', '.join(_TYPES)}"
                )
            self.types[name] = kind

    def chunks(
        self, wanted: Iterable[str], required: Mapping[str, str]
    ) -> Iterator[raw_files.Chunk]:
        """Chunks with the columns of the given names that there are.

        Args:
            required: columns that must be there, each with the fix.
        """
        raw_files.check_columns(self.path, list(self.types), dict(required))
        typed = {name: f"{name}:{self.types[name]}" for name in wanted if name in self.types}
        for chunk in raw_files.chunks(self.path, list(typed.values()), {}, self.reading):
            yield chunk.named(typed)


def open_source(config: IngestConfig) -> Source:
    """The files of a data set.

    Raises:
        DataError: if there is no ``.inter`` file, or several, or a header without types.
    """
    files = _files(config.events)
    inter = _AtomicFile(files[".inter"], config.event_reading)
    item = _AtomicFile(files[".item"], config.item_reading) if ".item" in files else None
    user = _AtomicFile(files[".user"], config.user_reading) if ".user" in files else None
    found = [file for file in (item, inter, user) if file is not None]
    return Source(
        list(dict.fromkeys(archive_of(file.path) for file in found)),
        (lambda: _items(item, config)) if item else None,
        lambda: _events(inter, config),
        (lambda: _users(user, config)) if user else None,
        item_reading=item.reading if item else Reading(),
        event_reading=inter.reading,
        user_reading=user.reading if user else Reading(),
    )


def _files(events: Path) -> dict[str, Path]:
    """The files of a data set by their endings."""
    archive, folder = archive_of(events), events if events.is_dir() else events.parent
    there = members(archive) if is_archive(archive) else sorted(folder.glob("*"))
    found = [path for path in there if path.suffix == ".inter" and events in (path, *path.parents)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{events}: holds {names} of the one .inter file that is expected; name it in events"
        )
    inter = found[0]
    same = [path for path in there if path.with_suffix(".inter") == inter]
    return {path.suffix: path for path in same}


def _events(file: _AtomicFile, config: IngestConfig) -> Iterator[raw_files.Chunk]:
    mapping = column_mapping(EVENT_FIELDS, config.event_columns)
    required = {
        mapping[name]: f"name the column in event_columns: {{{name}: ...}}"
        for name in dict.fromkeys(["user_id", "item_id", "timestamp", *config.event_columns])
        if name in mapping
    }
    required |= dict.fromkeys(config.context_columns, "correct context_columns")
    for chunk in file.chunks([*mapping.values(), *config.context_columns], required):
        named = chunk.named(mapping)
        if config.context_columns:
            named.columns["context"] = gathered(chunk.columns, config.context_columns)
        yield named


def _items(file: _AtomicFile, config: IngestConfig) -> Iterator[RawItem]:
    found = {"title": _title(file.types), "categories": _first(file.types, _CATEGORIES)}
    mapping = column_mapping(ITEM_FIELDS, found | config.item_columns)
    attributes = config.attribute_columns or [
        name
        for name, kind in file.types.items()
        if kind != "float_seq" and name not in mapping.values()
    ]
    required = {mapping["item_id"]: "name the column in item_columns: {item_id: ...}"}
    required |= {name: "correct item_columns" for name in config.item_columns.values() if name}
    required |= dict.fromkeys(config.attribute_columns, "correct attribute_columns")
    for chunk in file.chunks([*mapping.values(), *attributes], required):
        for row, record in chunk.records():
            fields = {ours: record.get(theirs) for ours, theirs in mapping.items()}
            for name in set(fields) - set(TEXT_FIELDS):
                fields[name] = _tokens(fields[name], file.types.get(mapping[name], ""))
            more = {name: _tokens(record[name], file.types[name]) for name in attributes}
            yield RawItem(chunk.path, row, fields, more)


def _users(file: _AtomicFile, config: IngestConfig) -> Iterator[raw_files.Chunk]:
    known = {name: name for name, kind in file.types.items() if kind != "float_seq"}
    mapping = {"user_id": "user_id"} | (config.user_columns or known)
    required = dict.fromkeys(mapping.values(), "correct user_columns")
    for chunk in file.chunks(mapping.values(), required):
        yield chunk.named(mapping)


def _title(names: Iterable[str]) -> str:
    titles = [name for name in names if name in ("title", "name") or name.endswith("_title")]
    return "title" if "title" in titles or not titles else titles[0]


def _first(names: Iterable[str], wanted: Iterable[str]) -> str:
    there = set(names)
    return next((name for name in ("categories", *wanted) if name in there), "categories")


def _tokens(value: Any, kind: str) -> Any:
    """A sequence as a list, which spaces part."""
    return value.split() if value and kind.endswith("_seq") else value
