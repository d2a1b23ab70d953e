"""Files inside a .zip, named by a path that leads into it: ``ml-100k.zip/ml-100k/u.data``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llmrec.errors import DataError

_ENCRYPTED = 0x1  # flag of a file that needs a password
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def archive_of(path: Path) -> Path:
    """The .zip that a path leads into, or the path itself: the file that is on the disk."""
    for folder in path.parents:
        if folder.suffix.lower() == ".zip" and folder.is_file():
            return folder
    return path


def is_archive(path: Path) -> bool:
    """Whether a path is a .zip on the disk."""
    return path.suffix.lower() == ".zip" and path.is_file()


def members(archive: Path) -> list[Path]:
    """The files in a .zip, sorted by their paths.

    Raises:
        DataError: if it is damaged.
    """
    with _opened(archive) as opened:
        names = [name for name in opened.namelist() if not name.endswith("/")]
    # a Mac puts its own notes on each file beside the files
    return [archive / name for name in sorted(names) if not name.startswith("__MACOSX/")]


@contextmanager
def open_member(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file inside a .zip.

    Raises:
        DataError: if there is no such file, or it is damaged or encrypted.
    """
    archive = archive_of(path)
    with _opened(archive) as opened:
        try:
            found = opened.getinfo(path.relative_to(archive).as_posix())
        except KeyError:
            raise DataError(f"{path}: {archive.name} holds no such file") from None
        if found.flag_bits & _ENCRYPTED:
            raise DataError(f"{path}: is encrypted; unpack {archive.name} first")
        if found.compress_type not in _METHODS:
            raise DataError(f"{path}: is packed in a way that is not read; unpack {archive.name}")
        with opened.open(found) as stream:
            yield stream


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{archive}: cannot be unzipped ({error}); fetch the file again") from None
