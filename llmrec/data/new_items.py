"""Items of a file that come to a catalogue later, read as ``llmrec ingest`` reads items."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.config import build, load_recipe
from llmrec.data.ingest import empty_catalogue, open_source
from llmrec.data.settings import IngestConfig
from llmrec.errors import ConfigError, DataError

# Settings of ingest that say how an item file is read
_SETTINGS = (
    "format",
    "item_reading",
    "item_columns",
    "attribute_columns",
    "media_files",
    "list_separator",
    "duplicate_items",
)


def item_settings(items: Path, recipe: Path | None) -> IngestConfig:
    """How to read a file of items.

    Args:
        items: the file, or a folder of files.
        recipe: whose ``ingest:`` section says which column is what; None: they have our names.

    Raises:
        ConfigError: if the recipe cannot be used.
    """
    section = {} if recipe is None else load_recipe(recipe)[0].get("ingest")
    if not isinstance(section, dict):
        raise ConfigError(f"{recipe}: has no `ingest:` section of settings")
    given = {name: value for name, value in section.items() if name in _SETTINGS}
    # events are not read, but a source has some
    return build(IngestConfig, given | {"items": items, "events": items}, f"{recipe}: ingest")


def read_new_items(config: IngestConfig, known: Container[str], skip_known: bool) -> pa.Table:
    """The rows of a catalogue for the items of a file, in its order.

    Args:
        config: of :func:`item_settings`.
        known: identifiers that are in the catalogue already.
        skip_known: leave those out; otherwise they are an error.

    Raises:
        DataError: naming the row that cannot be read or is of a known item, or if none is new.
    """
    source = open_source(config)
    if source.items is None:
        raise ConfigError(f"format: {config.format!r} has no item file")
    with TemporaryDirectory() as folder:
        catalogue = empty_catalogue(config, source, Path(folder) / "rows")
        new: list[int] = []
        for item in source.items():
            code = len(catalogue.index)
            catalogue.add(item)
            if len(catalogue.index) == code:
                continue  # a second time, and skipped
            item_id = next(reversed(catalogue.index))
            if item_id not in known:
                new.append(code)
            elif not skip_known:
                raise DataError(
                    f"{item.path}: row {item.row}: item_id {item_id!r} is in the catalogue "
                    "already; remove the row, or give --skip-known"
                )
        catalogue.end()
        if not new:
            raise DataError(f"{config.items}: holds no new items; there is nothing to add")
        path = Path(folder) / "items.parquet"
        catalogue.write(path, np.array(new))
        return pq.read_table(path, memory_map=False)
