"""Read CSV, JSON-lines and Parquet files, plain or gzipped, a chunk at a time.

Nothing here holds a whole file in memory. Every fault of a file is a
:class:`~llmrec.errors.DataError` that names the file, the row and the fix. Rows are numbered
as a person sees them: from 1, the header of a CSV file being row 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from tqdm import tqdm

from llmrec.errors import DataError

JSON_CHUNK = 50_000  # rows
PARQUET_CHUNK = 200_000  # rows
CSV_BLOCK = 8 << 20  # bytes; a record must fit into one block
_KINDS = {
    **{".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"},
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), "jsonl"),
}


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file.

    Attributes:
        rows: the row number of each, ``[n]``.
        columns: values by the file's own column names, each ``[n]``.
    """

    path: Path
    rows: Sequence[int]
    columns: dict[str, pa.Array]

    def where(self, keep: np.ndarray) -> Chunk:
        """Only the rows of a bool mask."""
        if keep.all():
            return self
        mask = pa.array(keep)
        columns = {name: values.filter(mask) for name, values in self.columns.items()}
        return Chunk(self.path, np.asarray(self.rows)[keep], columns)


def kind(path: Path) -> str:
    """``csv``, ``tsv``, ``jsonl`` or ``parquet``, from the file's name.

    Raises:
        DataError: for any other name.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in _KINDS:
        raise DataError(
            f"{path}: unknown kind of file; name it .csv, .tsv, .jsonl (each also .gz) or .parquet"
        )
    return _KINDS[suffix]


def files_at(path: Path) -> list[Path]:
    """The file itself, or a folder's data files by name.

    Raises:
        DataError: if there is nothing there.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file; check the path in the recipe")
    files = (p for p in path.iterdir() if p.is_file())
    found = sorted(p for p in files if p.name.removesuffix(".gz").endswith(tuple(_KINDS)))
    if not found:
        raise DataError(f"{path}: the folder holds no .csv, .jsonl or .parquet file")
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading ``path`` into a DataError that names it."""
    try:
        yield
    except EOFError:
        raise DataError(
            f"{path}: the gzip data ends too early; the download was cut off, fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip data ({error}); fetch the file again") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path in the recipe") from None
    except pa.ArrowException as error:
        raise DataError(_explain(path, str(error))) from None
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason})") from None


class _Counted(io.FileIO):
    """A file that updates a progress bar as it is read."""

    def __init__(self, path: Path, update: Callable[[int], Any]) -> None:
        super().__init__(path)
        self._update = update

    def readinto(self, buffer: Any, /) -> int | None:
        size = super().readinto(buffer)
        self._update(size or 0)
        return size


@contextmanager
def open_stream(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unzipped if its name ends in .gz, with a progress bar on a terminal."""
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty")
    bar = tqdm(total=size, desc=f"reading {path.name}", unit="B", unit_scale=True, disable=None)
    with bar, io.BufferedReader(_Counted(path, bar.update), 1 << 20) as raw:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
        else:
            yield raw


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """``(row, line)`` of every line that is not blank.

    Raises:
        DataError: for bytes that are not UTF-8, naming the row and the byte.
    """
    with reading(path), open_stream(path) as stream:
        for row, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8-sig" if row == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}: row {row}, byte {error.start + 1}: not valid UTF-8; save the file as "
                    "UTF-8"
                ) from None
            if line.strip():
                yield row, line


def json_rows(
    path: Path, parse: Callable[[str], Any] = json.loads
) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row, object)`` of a JSON-lines file.

    Args:
        parse: turns a line into an object, or raises ValueError.

    Raises:
        DataError: for a line that is no object, naming its row.
    """
    for row, line in text_lines(path):
        try:
            value = parse(line)
        except (ValueError, SyntaxError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise DataError(
                f"{path}: row {row}: not a readable JSON object ({reason}); fix or remove the line"
            ) from None
        if not isinstance(value, dict):
            raise DataError(
                f"{path}: row {row}: expected a JSON object such as "
                f'{{"item_id": "..."}}, got {type(value).__name__}'
            )
        if "\\ud" in line or "\\uD" in line:
            value = _encodable(value)
        yield row, value


def _encodable(value: Any) -> Any:
    """Half of a surrogate pair, which some logs hold as an escape, becomes a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_encodable(entry) for entry in value]
    if isinstance(value, dict):
        return {_encodable(k): _encodable(v) for k, v in value.items()}
    return value


def chunks(path: Path, wanted: Sequence[str], required: dict[str, str]) -> Iterator[Chunk]:
    """A table file in chunks, only the wanted columns that it has.

    Args:
        wanted: the file's column names to read.
        required: those that must be there, each with the fix.

    Raises:
        DataError: for a missing column or a damaged file.
    """
    if kind(path) == "jsonl":
        return packed(path, json_rows(path), wanted, required)
    return (_parquet if kind(path) == "parquet" else _csv)(path, wanted, required)


def rows(
    path: Path, wanted: Sequence[str], required: dict[str, str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row, values)`` of a table file; for small tables such as a catalogue."""
    if kind(path) == "jsonl":
        for number, (row, record) in enumerate(json_rows(path)):
            if number == 0:
                check_columns(path, list(record), required)
            yield row, record
        return
    for chunk in chunks(path, wanted, required):
        names = list(chunk.columns)
        lists = [chunk.columns[name].to_pylist() for name in names]
        for row, *values in zip(chunk.rows, *lists, strict=True):
            yield row, dict(zip(names, values, strict=True))


def check_columns(path: Path, present: Sequence[str], required: dict[str, str]) -> None:
    """Raise a DataError that names the first required column that is not present."""
    for name, fix in required.items():
        if name not in present:
            columns = ", ".join(map(repr, present[:20]))
            raise DataError(f"{path}: no column {name!r} (it has {columns}); {fix}")


def strings(values: Sequence[Any]) -> pa.Array:
    """Python values as text: dicts and lists become JSON, None stays null."""
    return pa.array([_as_text(v) for v in values], pa.string())


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # 7.0 and 7 are one identifier
    return None if value != value else str(value)


def _csv(path: Path, wanted: Sequence[str], required: dict[str, str]) -> Iterator[Chunk]:
    delimiter = "\t" if kind(path) == "tsv" else ","
    header = _csv_header(path, delimiter)
    check_columns(path, header, required)
    names = [name for name in dict.fromkeys(wanted) if name in header]
    row = 2
    with reading(path), open_stream(path) as stream:
        reader = pa_csv.open_csv(
            stream,
            pa_csv.ReadOptions(block_size=CSV_BLOCK, use_threads=False),
            # reviews hold line breaks inside quotes
            pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pa_csv.ConvertOptions(
                include_columns=names,
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        for batch in reader:
            columns = {name: batch.column(i) for i, name in enumerate(names)}
            yield Chunk(path, range(row, row + batch.num_rows), columns)
            row += batch.num_rows


def _csv_header(path: Path, delimiter: str) -> list[str]:
    for _, line in text_lines(path):
        header = next(csv.reader([line], delimiter=delimiter))
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise DataError(f"{path}: row 1: the column {twice.pop()!r} occurs twice; rename one")
        return header
    raise DataError(f"{path}: the file is empty")


def packed(
    path: Path,
    records: Iterator[tuple[int, dict[str, Any]]],
    names: Sequence[str],
    required: dict[str, str] | None = None,
) -> Iterator[Chunk]:
    """Rows that come one by one, packed into chunks.

    Args:
        records: ``(row, values by column)``.
        names: the columns to keep.
        required: as for :func:`chunks`; the first chunk must have them.

    Raises:
        DataError: for a missing column.
    """
    for first in itertools.count(0):
        batch = list(itertools.islice(records, JSON_CHUNK))
        if not batch:
            return
        if first == 0:
            present = dict.fromkeys(key for _, record in batch for key in record)
            check_columns(path, list(present), required or {})
        columns = {name: json_column([record.get(name) for _, record in batch]) for name in names}
        yield Chunk(path, [row for row, _ in batch], columns)


def json_column(values: list[Any]) -> pa.Array:
    """Values of one key as numbers if all are, else as text."""
    numeric = all(v is None or type(v) in (int, float) for v in values)
    if numeric and any(isinstance(v, float) for v in values):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    if numeric and all(v is None or abs(v) < 2**63 for v in values):
        return pa.array(values, pa.int64())
    return strings(values)


def _parquet(path: Path, wanted: Sequence[str], required: dict[str, str]) -> Iterator[Chunk]:
    with reading(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        row = 1
        with pq.ParquetFile(path) as file:
            present = list(file.schema_arrow.names)
            check_columns(path, present, required)
            names = [name for name in dict.fromkeys(wanted) if name in present]
            bar = tqdm(total=file.metadata.num_rows, desc=f"reading {path.name}", disable=None)
            with bar:
                for batch in file.iter_batches(PARQUET_CHUNK, columns=names):
                    columns = {name: batch.column(name) for name in names}
                    yield Chunk(path, range(row, row + batch.num_rows), columns)
                    row += batch.num_rows
                    bar.update(batch.num_rows)


def _explain(path: Path, message: str) -> str:
    """An error of Arrow in a CSV or Parquet file as one line."""
    if "UTF8" in message or "UTF-8" in message:
        deque(text_lines(path), maxlen=0)  # says where
        return f"{path}: not valid UTF-8; save the file as UTF-8"
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", message)
    if ragged:
        row, expected, got = ragged.groups()
        return (
            f"{path}: row {row}: has {got} columns, the header has {expected}; "
            "quote fields that hold the separator"
        )
    if "straddling" in message or "out of sync" in message:
        return f"{path}: a quoted field never ends; close its quote"
    if "Empty CSV" in message:
        return f"{path}: the file is empty"
    first_line = message.splitlines()[0] if message else "unreadable"
    return f"{path}: cannot be read ({first_line}); write the file again"
