"""Read CSV, JSON and Parquet files, plain, gzipped or in a .zip, a chunk at a time.

Nothing here holds a whole file in memory. Every fault of a file is a
:class:`~llmrec.errors.DataError` that names the file, the row and the fix. Rows of text files are
lines, numbered from 1, whatever stands in them: the header of a CSV file is row 1.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.archives import archive_of, is_archive, members
from llmrec.data.raw_csv import DelimitedFile, Rows
from llmrec.data.raw_json import json_rows as json_rows
from llmrec.data.raw_streams import open_stream, readable, utf8_parts
from llmrec.data.raw_streams import text_lines as text_lines
from llmrec.data.reading import Reading, ReadingOptions
from llmrec.errors import DataError
from llmrec.files import file_hash

JSON_CHUNK = 50_000  # rows
PARQUET_CHUNK = 200_000  # rows
_KINDS = {
    **{".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"},
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), "json"),
}
_EXACT = 2**53  # whole numbers up to here are exact as floats


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file.

    Attributes:
        rows: the row number of each, ``[n]``.
        columns: values by the file's own column names, each ``[n]``.
    """

    path: Path
    rows: Rows
    columns: dict[str, pa.Array]

    def where(self, keep: np.ndarray) -> Chunk:
        """Only the rows of a bool mask."""
        if keep.all():
            return self
        mask = pa.array(keep)
        columns = {name: values.filter(mask) for name, values in self.columns.items()}
        return Chunk(self.path, np.asarray(self.rows)[keep], columns)

    def named(self, theirs: Mapping[str, str]) -> Chunk:
        """The columns that it has of a mapping, our name -> theirs, by our names."""
        there = {ours: name for ours, name in theirs.items() if name in self.columns}
        columns = {ours: self.columns[name] for ours, name in there.items()}
        return Chunk(self.path, self.rows, columns)

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """``(row, values by column)``, one by one."""
        lists = [values.to_pylist() for values in self.columns.values()]
        for row, *cells in zip(self.rows, *lists, strict=True):
            yield int(row), dict(zip(self.columns, cells, strict=True))


def kind(path: Path, options: ReadingOptions | None = None) -> str:
    """``csv``, ``tsv``, ``json`` or ``parquet``, from the file's name.

    Raises:
        DataError: for any other name, unless the options say what parts its cells.
    """
    if is_table(path):
        return _KINDS[_ending(path)]
    if options is not None and options.delimiter != "auto":
        return "csv"
    raise DataError(
        f"{path}: unknown kind of file; name it .csv, .tsv, .jsonl (each also .gz) or .parquet, or "
        "say what parts its cells with the option delimiter"
    )


def is_table(path: Path) -> bool:
    """Whether a file's name says that it holds a table."""
    return _ending(path) in _KINDS


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def files_at(path: Path) -> list[Path]:
    """The file itself, or the data files of a folder or a .zip by name.

    Raises:
        DataError: if there is nothing there.
    """
    if is_archive(path) or archive_of(path) != path:
        files = [file for file in members(archive_of(path)) if path in (file, *file.parents)]
    elif path.is_dir():
        files = [file for file in path.iterdir() if file.is_file()]
    else:
        files = [path] if path.is_file() else []
    if files == [path]:
        return files
    if not files and not path.is_dir():
        raise DataError(f"{path}: no such file; check the path in the recipe")
    found = sorted(filter(is_table, files))
    if not found:
        raise DataError(f"{path}: it holds no .csv, .tsv, .jsonl or .parquet file")
    return found


def input_hashes(name: str, path: Path) -> dict[str, str]:
    """The files of :func:`files_at` as inputs of a stage: ``NAME/FILE`` -> sha256."""
    files = dict.fromkeys(map(archive_of, files_at(path)))
    return {f"{name}/{file.name}": file_hash(file) for file in files}


def chunks(
    path: Path,
    wanted: Sequence[str],
    required: dict[str, str],
    reading: Reading | None = None,
) -> Iterator[Chunk]:
    """A table file in chunks, only the wanted columns that it has.

    Args:
        wanted: the file's column names to read.
        required: those that must be there, each with the fix.
        reading: how to read; takes note of what is skipped.

    Raises:
        DataError: for a missing column or a damaged file.
    """
    reading = reading or Reading()
    form = kind(path, reading.options)
    if form == "json":
        yield from packed(path, _objects(path, required, reading), wanted)
    elif form == "parquet":
        yield from _parquet(path, wanted, required)
    else:
        with readable(path), closing(utf8_parts(path, reading)) as parts:
            file = DelimitedFile(path, parts, form == "tsv", reading)
            check_columns(path, file.names, required)
            names = _wanted(wanted, file.names)
            for numbers, columns in file.chunks(names):
                yield Chunk(path, numbers, columns)


def rows(
    path: Path,
    wanted: Sequence[str],
    required: dict[str, str],
    reading: Reading | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row, values)`` of a table file; for small tables such as a catalogue.

    Args:
        wanted: as for :func:`chunks`, but none stands for all.
    """
    reading = reading or Reading()
    if kind(path, reading.options) == "json":
        yield from _objects(path, required, reading)
        return
    for chunk in chunks(path, wanted, required, reading):
        yield from chunk.records()


def _wanted(wanted: Sequence[str], present: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(wanted or present) if name in present]


def _objects(
    path: Path, required: dict[str, str], reading: Reading
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a JSON file, of which at least one has each required key."""
    records = json_rows(path, reading=reading)
    first = list(itertools.islice(records, JSON_CHUNK))
    present = dict.fromkeys(key for _, record in first for key in record)
    if first and not present.keys() >= required.keys():
        if len(first) == JSON_CHUNK:  # then perhaps a later row has it
            for _, record in json_rows(path, reading=Reading(reading.options)):
                present |= dict.fromkeys(record)
        check_columns(path, list(present), required)
    yield from first
    yield from records


def check_columns(path: Path, present: Sequence[str], required: dict[str, str]) -> None:
    """Raise a DataError that names the first required column that is not present."""
    for name, fix in required.items():
        if name not in present:
            columns = ", ".join(repr(column[:40]) for column in present[:20])
            raise DataError(f"{path}: no column {name!r} (it has {columns}); {fix}")


def strings(values: Sequence[Any]) -> pa.Array:
    """Python values as text: dicts and lists become JSON, None stays null."""
    return pa.array([_as_text(v) for v in values], pa.string())


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # 7.0 and 7 are one identifier
    return None if value != value else str(value)


def packed(
    path: Path, records: Iterable[tuple[int, dict[str, Any]]], names: Sequence[str]
) -> Iterator[Chunk]:
    """Rows that come one by one, packed into chunks.

    Args:
        records: ``(row, values by column)``.
        names: the columns to keep.
    """
    records = iter(records)
    while batch := list(itertools.islice(records, JSON_CHUNK)):
        columns = {name: json_column([record.get(name) for _, record in batch]) for name in names}
        yield Chunk(path, [row for row, _ in batch], columns)


def json_column(values: list[Any]) -> pa.Array:
    """Values of one key as numbers if all are and none loses a digit, else as text."""
    numbers = [v for v in values if v is not None]
    if all(type(v) in (int, float) for v in numbers):
        if all(type(v) is int and abs(v) < 2**63 for v in numbers):
            return pa.array(values, pa.int64())
        if all(abs(v) <= _EXACT for v in numbers if type(v) is int):
            return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return strings(values)


def _parquet(path: Path, wanted: Sequence[str], required: dict[str, str]) -> Iterator[Chunk]:
    with readable(path), open_stream(path) as stream:
        row = 1
        try:
            opened = pq.ParquetFile(stream)
        except UnicodeDecodeError:
            raise DataError(
                f"{path}: cannot be read (a column's name is not UTF-8); write the file again"
            ) from None
        with opened as file:
            present = list(file.schema_arrow.names)
            check_columns(path, present, required)
            names = _wanted(wanted, present)
            for batch in file.iter_batches(PARQUET_CHUNK, columns=names):
                batch.validate(full=True)  # what it calls text is UTF-8
                columns = {name: _plain(path, name, batch.column(name)) for name in names}
                yield Chunk(path, range(row, row + batch.num_rows), columns)
                row += batch.num_rows


def _plain(path: Path, name: str, values: pa.Array) -> pa.Array:
    """A column without what only storage knows: dictionaries, bytes for text, long offsets."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kinds = ("binary", "large_binary", "fixed_size_binary", "large_string", "string_view")
    if str(values.type).split("[")[0] not in kinds:
        return values
    try:
        return values.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        raise DataError(f"{path}: the column {name!r} holds bytes that are not text") from None
