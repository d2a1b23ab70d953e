"""The bytes and lines of raw files: plain, gzipped or inside a .zip, in any encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from llmrec.data.archives import archive_of, open_member
from llmrec.data.reading import Reading
from llmrec.errors import DataError, one_line
from llmrec.loop.bars import ProgressBar

PART = 8 << 20  # bytes


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading ``path`` into a DataError that names it."""
    try:
        yield
    except EOFError:
        raise DataError(
            f"{path}: the packed data ends too early; the download was cut off, fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip data ({error}); fetch the file again") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path in the recipe") from None
    except pa.ArrowException as error:
        reason = one_line(error) or "unreadable"
        raise DataError(f"{path}: cannot be read ({reason}); write the file again") from None
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
    if archive_of(path) != path:
        with open_member(path) as member:
            yield _unzipped(path, cast(BinaryIO, member))
        return
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty")
    bar = ProgressBar(total=size, desc=f"reading {path.name}", unit="B", unit_scale=True)
    with bar, io.BufferedReader(_Counted(path, bar.update), 1 << 20) as raw:
        yield _unzipped(path, raw)


def _unzipped(path: Path, raw: BinaryIO) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    return raw


def utf8_parts(path: Path, reading: Reading) -> Generator[bytes]:
    """The file's bytes in parts of any size, as UTF-8 without a mark at the beginning.

    Raises:
        DataError: for a file that cannot be read or holds nothing, and for text that is not of the
            encoding. UTF-8 is not checked.
    """
    encoding = reading.options.encoding
    with readable(path), open_stream(path) as stream:
        first = stream.read(PART)
        if encoding == "auto":
            utf16 = first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            encoding = "utf-16" if utf16 else "utf-8"
        is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
        decoder = codecs.getincrementaldecoder(encoding)()
        row, part = 1, first.removeprefix(codecs.BOM_UTF8) if is_utf8 else first
        if not part:
            raise DataError(f"{path}: the file is empty")
        while part:
            if is_utf8:
                yield part
            else:
                try:
                    text = decoder.decode(part)
                except UnicodeDecodeError as error:
                    row += part.count(b"\n", 0, error.start)
                    raise DataError(
                        f"{path}: row {row}: not valid {encoding}; correct the option encoding"
                    ) from None
                row += text.count("\n")
                yield text.encode("utf-8", "replace")
            part = stream.read(PART)


def not_utf8(path: Path, row: int, error: UnicodeDecodeError) -> DataError:
    """What is wrong with a line whose bytes are not UTF-8."""
    return DataError(
        f"{path}: row {row}, byte {error.start + 1}: not valid UTF-8; save the file as UTF-8, or "
        "name its encoding in the option encoding"
    )


def text_lines(path: Path, reading: Reading | None = None) -> Iterator[tuple[int, str]]:
    """``(row, line)`` of every line that is not blank, without its end.

    Raises:
        DataError: for bytes that are not UTF-8, naming the row and the byte.
    """
    reading = reading or Reading()
    with closing(utf8_parts(path, reading)) as parts:
        yield from lines_of(path, parts, reading)


def lines_of(path: Path, parts: Iterator[bytes], reading: Reading) -> Iterator[tuple[int, str]]:
    """As :func:`text_lines`, of parts of the file that were already begun."""
    row = 0
    for lines in _whole_lines(parts):
        try:
            texts: list[str | None] = [*lines.decode().split("\n")]
        except UnicodeDecodeError:
            numbered = enumerate(lines.split(b"\n"), row + 1)
            texts = [_decoded(path, number, raw, reading) for number, raw in numbered]
        for text in texts:
            row += 1
            if text is not None and text.strip():
                yield row, text


def _decoded(path: Path, row: int, raw: bytes, reading: Reading) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        reading.skip(not_utf8(path, row, error))
        return None


def _whole_lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    r"""Lines in blocks, with ``\n`` between them, whether they end so, in ``\r\n`` or in ``\r``."""
    rest = b""
    for part in parts:
        lines, end, rest = (rest + part).rpartition(b"\n")
        if end:
            yield lines.replace(b"\r\n", b"\n").removesuffix(b"\r").replace(b"\r", b"\n")
    yield rest.removesuffix(b"\r").replace(b"\r", b"\n")
