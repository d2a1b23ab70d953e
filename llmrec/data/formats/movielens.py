"""MovieLens as GroupLens ships it: ``ratings.csv``, ``movies.csv`` and, if there, ``tags.csv``.

``events`` names the unpacked folder. Genres are categories; the year and the most frequent tags
are attributes; a film is available from that year on; a poster in ``posters/`` is the image.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.settings import IngestConfig
from llmrec.data.source import RawItem, Source
from llmrec.errors import DataError

_COLUMNS = {"user_id": "userId", "item_id": "movieId", "rating": "rating", "timestamp": "timestamp"}
_POSTERS = ("posters/{}.jpg", "posters/{}.png")
_TAGS_PER_MOVIE = 10


def open_source(config: IngestConfig) -> Source:
    """The files of the unpacked folder.

    Raises:
        DataError: if a file is missing.
    """
    folder = config.events
    ratings, movies, tags = (folder / f"{n}.csv" for n in ("ratings", "movies", "tags"))
    for path in (ratings, movies):
        if not path.is_file():
            raise DataError(f"{path}: no such file; events must name the unpacked MovieLens folder")
    return Source(
        [movies, ratings, *([tags] if tags.is_file() else [])],
        lambda: _movies(folder, movies, tags if tags.is_file() else None),
        lambda: _ratings(ratings),
        default_type="rating",
    )


def _ratings(path: Path) -> Iterator[raw_files.Chunk]:
    required = dict.fromkeys(_COLUMNS.values(), "is this a MovieLens ratings.csv?")
    for chunk in raw_files.chunks(path, list(required), required):
        columns = {ours: chunk.columns[theirs] for ours, theirs in _COLUMNS.items()}
        yield raw_files.Chunk(path, chunk.rows, columns)


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
        released = f"{year.group(1)}-01-01" if year else None
        fields = {
            "item_id": movie,
            "title": title,
            "categories": [] if genres == "(no genres listed)" else genres.split("|"),
            "attributes": attributes,
            "available_from": released,
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
