"""``llmrec data pictures``: a folder of pictures as a catalogue, without any log.

    llmrec data pictures photos/ --out runs/photos/dataset

Each picture is an item; its id is its path below the folder, and the folder it lies in is its
category (``photos/train/dress/1.jpg``: category ``dress``). The result is a dataset folder as
``llmrec ingest`` writes it, with no users and no events: what is wanted for ``train clip``, ``embed
media``, ``caption`` and ``search``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.catalogue import SCHEMA, empty_row
from llmrec.data.event_table import SCHEMA as EVENT_SCHEMA
from llmrec.errors import DataError
from llmrec.stage import Manifest, StageRun, run_stage

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_ROWS = 20_000


def run(folder: Path, /, out: Path) -> Path:
    """Make a dataset folder, a catalogue without any events, out of a folder of pictures.

    Args:
        folder: holds pictures, in folders named by category.
        out: dataset folder to write.

    Raises:
        DataError: if the folder is missing or holds no pictures.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of pictures")
    paths = sorted(
        path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in ENDINGS
    )
    if not paths:
        raise DataError(f"{folder}: holds no pictures ({', '.join(ENDINGS)})")
    config, inputs = {"format": "pictures", "folder": str(folder)}, {"paths": _stamp(folder, paths)}
    manifest = Manifest("ingest", config, inputs, command="data pictures")

    def work(run: StageRun) -> None:
        with pq.ParquetWriter(run.folder / "items.parquet", SCHEMA) as table:
            for start in range(0, len(paths), _ROWS):
                rows = list(_rows(paths[start : start + _ROWS]))
                table.write_table(pa.Table.from_pylist(rows, SCHEMA))
        users = pa.table({"user_id": pa.array([], pa.string())})
        pq.write_table(users, run.folder / "users.parquet")
        pq.write_table(EVENT_SCHEMA.empty_table(), run.folder / "events.parquet")
        categories = {path.parent.name for path in paths if path.parent.name}
        run.counts.update(items=len(paths), users=0, events=0, categories=len(categories))

    return run_stage(out, manifest, work)


def _stamp(folder: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.as_posix()} {(folder / path).stat().st_size}\n".encode())
    return digest.hexdigest()


def _rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        category = path.parent.name
        row = empty_row(path.as_posix()) | {"image": path.as_posix()}
        if category:
            row |= {"title": category.replace("_", " "), "categories": [category]}
            row["attributes"] = [f"category={category}"]
        yield row
