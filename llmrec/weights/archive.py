"""Weights that llmrec brings along: a zip of a folder that a loader opens as it is."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from llmrec.errors import ArtifactError

_DATE = (1980, 1, 1, 0, 0, 0)  # of every file: the same folder is the same zip


def pack(folder: Path, archive: Path) -> None:
    """Write the files of a folder, without its subfolders, into a zip."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            entry = zipfile.ZipInfo(path.name, _DATE)
            made.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def convert(sources: Sequence[Path], folder: Path) -> None:
    """Unpack the one zip.

    Raises:
        ArtifactError: if it cannot be read.
    """
    (path,) = sources
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
