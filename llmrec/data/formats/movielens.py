"""MovieLens as GroupLens ships it: the unpacked folder, or the .zip itself, of any generation.

* latest, 20M, 25M, 32M: ``ratings.csv``, ``movies.csv`` and, if there, ``tags.csv``;
* 1M and 10M: ``ratings.dat``, ``movies.dat`` and, if there, ``tags.dat`` and ``users.dat``;
* 100k: ``u.data``, ``u.item`` and, if there, ``u.user``.

Genres are categories; the year and the most frequent tags are attributes; a film is available from
that year on; a poster in ``posters/`` is the image. Of users, age, gender and occupation are kept,
as they are (1M has codes for ages and occupations); zip codes are not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.archives import archive_of, is_archive, members
from llmrec.data.raw_streams import open_stream, readable
from llmrec.data.reading import Reading, ReadingOptions
from llmrec.data.settings import IngestConfig
from llmrec.data.source import RawItem, Source
from llmrec.errors import DataError

_POSTERS = ("posters/{}.jpg", "posters/{}.png")
_TAGS_PER_MOVIE = 10
_NO_GENRE = ("", "(no genres listed)", "unknown")
_GENRES = (  # of 100k, each with a column of its own
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance"),
    *("Sci-Fi", "Thriller", "War", "Western"),
)


@dataclass(frozen=True)
class _Table:
    """A file of a generation: its name, what parts its cells, and its columns by our names."""

    name: str
    delimiter: str
    columns: dict[str, str]

    def options(self, path: Path, given: ReadingOptions) -> ReadingOptions:
        """How it is read; what a recipe may say of any file is as given."""
        if self.delimiter == ",":
            return given
        return replace(
            given,
            delimiter=self.delimiter,
            quote=None,
            header=False,
            encoding=_encoding(path),
        )


def _numbered(*names: str) -> dict[str, str]:
    """Columns of a file without a header; an empty name stands for one that is not read."""
    return {name: str(number) for number, name in enumerate(names, 1) if name}


_RATINGS = (
    _Table("ratings.csv", ",", {"user_id": "userId", "item_id": "movieId", "rating": "rating",
                                "timestamp": "timestamp"}),
    _Table("ratings.dat", "::", _numbered("user_id", "item_id", "rating", "timestamp")),
    _Table("u.data", "\t", _numbered("user_id", "item_id", "rating", "timestamp")),
)  # fmt: skip
_MOVIES = (
    _Table("movies.csv", ",", {"item_id": "movieId", "title": "title", "genres": "genres"}),
    _Table("movies.dat", "::", _numbered("item_id", "title", "genres")),
    _Table("u.item", "|", _numbered("item_id", "title", "", "", "", *_GENRES)),
)
_TAGS = (
    _Table("tags.csv", ",", {"item_id": "movieId", "tag": "tag"}),
    _Table("tags.dat", "::", _numbered("", "item_id", "tag")),
)
_USERS = (
    _Table("users.dat", "::", _numbered("user_id", "gender", "age", "occupation")),
    _Table("u.user", "|", _numbered("user_id", "age", "gender", "occupation")),
)


class _File:
    """A table that is there.

    Attributes:
        reading: what was skipped while it was read.
    """

    def __init__(self, path: Path, table: _Table, given: ReadingOptions) -> None:
        self.path, self.table = path, table
        self.reading = Reading(table.options(path, given))
        self._required = dict.fromkeys(table.columns.values(), f"is this a MovieLens {table.name}?")

    def chunks(self) -> Iterator[raw_files.Chunk]:
        """Its rows, columns by our names."""
        theirs = list(self.table.columns.values())
        for chunk in raw_files.chunks(self.path, theirs, self._required, self.reading):
            yield chunk.named(self.table.columns)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Its rows one by one, with empty texts for empty cells."""
        for chunk in self.chunks():
            for row, record in chunk.records():
                yield row, {name: cell or "" for name, cell in record.items()}


def open_source(config: IngestConfig) -> Source:
    """The files of the unpacked folder or the .zip.

    Raises:
        DataError: if a file is missing.
    """
    there = _files(config.events)

    def find(tables: tuple[_Table, ...], given: ReadingOptions) -> _File | None:
        found = next((table for table in tables if table.name in there), None)
        return None if found is None else _File(there[found.name], found, given)

    def needed(tables: tuple[_Table, ...], given: ReadingOptions) -> _File:
        found = find(tables, given)
        if found is None:
            names = ", ".join(table.name for table in tables)
            raise DataError(
                f"{config.events}: holds none of {names}; events must name the unpacked MovieLens "
                "folder, or its .zip"
            )
        return found

    ratings = needed(_RATINGS, config.event_reading)
    movies = needed(_MOVIES, config.item_reading)
    tags, users = find(_TAGS, config.item_reading), find(_USERS, config.user_reading)
    files = [file.path for file in (movies, ratings, tags, users) if file is not None]
    return Source(
        list(dict.fromkeys(map(archive_of, files))),
        lambda: _movies(movies, _most_given_tags(tags)),
        ratings.chunks,
        users.chunks if users else None,
        item_reading=movies.reading,
        event_reading=ratings.reading,
        user_reading=users.reading if users else Reading(),
        default_type="rating",
    )


def _files(folder: Path) -> dict[str, Path]:
    """The files of a folder or a .zip by their names."""
    if is_archive(folder):
        found = members(folder)
    else:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path for path in found}


def _encoding(path: Path) -> str:
    """UTF-8, or Latin-1 as 100k and 1M have it."""
    with readable(path), open_stream(path) as stream:
        try:
            for line in stream:
                line.decode()
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _movies(file: _File, tags: dict[str, list[str]]) -> Iterator[RawItem]:
    """Movies with genres as categories, year and most given tags as attributes, and posters."""
    for row, record in file.rows():
        movie, title = record["item_id"], record["title"]
        attributes: dict[str, Any] = {"tags": tags.get(movie, [])}
        year = re.search(r"\((\d{4})\)\s*$", title)
        if year:
            attributes["year"] = year.group(1)
        fields = {
            "item_id": movie,
            "title": title,
            "categories": [genre for genre in _genres(record) if genre not in _NO_GENRE],
            "attributes": attributes,
            "available_from": f"{year.group(1)}-01-01" if year else None,
            "image": _poster(file.path.parent, movie),
        }
        yield RawItem(file.path, row, fields)


def _genres(record: dict[str, str]) -> list[str]:
    if "genres" in record:
        return record["genres"].split("|")
    return [genre for genre in _GENRES if record[genre] == "1"]


def _poster(folder: Path, movie: str) -> str | None:
    names = (pattern.format(movie) for pattern in _POSTERS)
    return next((name for name in names if (folder / name).is_file()), None)


def _most_given_tags(file: _File | None) -> dict[str, list[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for _, record in file.rows() if file else ():
        movie, tag = record["item_id"], record["tag"].strip().lower()
        if movie and tag:
            counts[movie][tag] += 1
    return {
        movie: [tag for tag, _ in sorted(c.items(), key=lambda e: (-e[1], e[0]))[:_TAGS_PER_MOVIE]]
        for movie, c in counts.items()
    }
