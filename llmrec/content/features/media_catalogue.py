"""Which media a catalogue names, read some hundred items at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.content.features.media_config import COLUMNS, EmbedMediaConfig
from llmrec.errors import ArtifactError, CatalogError, ConfigError

SHARD_ITEMS = 512


def _columns(catalogue: Path, modalities: tuple[str, ...]) -> dict[str, str]:
    """The catalogue's column behind each modality, for those that it has."""
    try:
        schema = pq.read_schema(catalogue)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(catalogue, error) from None
    return {m: COLUMNS[m] for m in modalities if COLUMNS[m] in schema.names}


def shards(catalogue: Path, modalities: tuple[str, ...]) -> Iterator[dict[str, list[Any]]]:
    """``item_id`` and the column of each modality, some hundred items at a time."""
    columns = _columns(catalogue, modalities)
    try:
        file = pq.ParquetFile(catalogue)
        for batch in file.iter_batches(SHARD_ITEMS, columns=["item_id", *columns.values()]):
            shard = {"item_id": batch["item_id"].to_pylist()}
            for modality, column in columns.items():
                values = batch[column].to_pylist()
                shard[modality] = [None if value in ("", b"") else value for value in values]
            yield shard
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _unreadable(catalogue, error) from None


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: cannot be read ({error}); run llmrec ingest again")


def scan(catalogue: Path, config: EmbedMediaConfig, root: Path | None) -> tuple[Counter[str], str]:
    """How many items, and files of each modality; and what stands for the files' contents.

    Sizes and times of change stand for contents: reading every file twice would double the work.

    Raises:
        CatalogError: if there are no items, or no files.
        ConfigError: if files are named and no folder of media was given.
    """
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    for shard in shards(catalogue, config.modalities):
        counts["items"] += len(shard["item_id"])
        for modality in config.modalities:
            for value in shard.get(modality, ()):
                counts[modality] += value is not None
                if isinstance(value, str) and "://" not in value:
                    digest.update(_stamp(value, root, modality).encode())
    if not counts["items"]:
        raise CatalogError(f"{catalogue}: the catalogue has no items; ingest some first")
    if not any(counts[modality] for modality in config.modalities):
        names = ", ".join(COLUMNS[modality] for modality in config.modalities)
        raise CatalogError(
            f"{catalogue}: no item has a value in {names}; say at ingest which column holds what"
        )
    return counts, digest.hexdigest()


def _stamp(name: str, root: Path | None, modality: str) -> str:
    if root is None:
        raise ConfigError(
            f"--media-root: the column {COLUMNS[modality]} names files ({name[:80]!r}); "
            "say in which folder they are"
        )
    try:
        status = (Path(root) / name).stat()
    except (OSError, ValueError):
        return f"{modality} {name} -\n"
    return f"{modality} {name} {status.st_size} {status.st_mtime_ns}\n"
