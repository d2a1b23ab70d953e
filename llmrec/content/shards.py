"""Long work in pieces: each is written whole or not at all, so a killed run goes on with the next.

shards = Shards(run.folder)
for number, rows in enumerate(batches):
    if not shards.has(number):
        with shards.writing(number) as folder:
            ...                            # write this piece's files into ``folder``
for folder in shards.folders(): ...        # join them
shards.remove()
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.files import put_in_place
from llmrec.stage import reading


class Shards:
    """The pieces of a stage's work, a folder each.

    Args:
        folder: the stage's folder while it is being written.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "shards"
        self.home.mkdir(exist_ok=True)

    def has(self, number: int) -> bool:
        """Whether an earlier try finished a piece."""
        return self._place(number).is_dir()

    @contextmanager
    def writing(self, number: int) -> Iterator[Path]:
        """A new folder for a piece, put into place at the end."""
        unfinished = self.home / f".{number:06d}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        yield unfinished
        put_in_place(unfinished, self._place(number))

    def folders(self) -> list[Path]:
        """The finished pieces in order."""
        return sorted(path for path in self.home.iterdir() if not path.name.startswith("."))

    def join_lines(self, name: str, out: Path) -> None:
        """Put the pieces' files of this name, of lines, behind one another."""
        with open(out, "wb") as whole:
            for folder in self.folders():
                whole.write((folder / name).read_bytes())

    def remove(self) -> None:
        """Delete the pieces, once they are joined."""
        shutil.rmtree(self.home)

    def _place(self, number: int) -> Path:
        return self.home / f"{number:06d}"


def read_catalogue(path: Path, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The catalogue's rows, so many at a time, without holding the whole table.

    Args:
        columns: those to read; one that the catalogue lacks is left out.

    Raises:
        ArtifactError: if it is missing or damaged.
    """
    with reading(path, "llmrec ingest"), pq.ParquetFile(path) as file:
        wanted = [name for name in columns if name in file.schema_arrow.names]
        yield from file.iter_batches(size, columns=wanted)
