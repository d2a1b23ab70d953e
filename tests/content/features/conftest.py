"""A catalogue that fits on a screen, as ``llmrec ingest`` would write it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.stage import Manifest, writing

ITEMS: list[dict[str, Any]] = [
    {"title": "Red nail polish", "brand": "OPI", "categories": ["Beauty", "Nails"]},
    {"title": "", "brand": "", "categories": [], "attributes": []},
    {"title": "Crimson nail lacquer", "brand": "OPI", "categories": ["Beauty", "Nails"]},
    {"title": "Camping tent for four people", "brand": "", "categories": ["Outdoor"]},
    {"title": "Two-person hiking tent", "attributes": ["colour=green,grey"]},
    {"title": "Green nail polish", "attributes": ["colour=green"], "categories": ["Nails"]},
]
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("item_id", "title", "description", "brand")]
    + [(name, pa.list_(pa.string())) for name in ("categories", "attributes")]
)


def write_dataset(folder: Path, items: list[dict[str, Any]]) -> Path:
    """Write only what ``llmrec embed`` reads: the catalogue and the manifest."""
    rows = [
        {name: row.get(name) for name in SCHEMA.names} | {"item_id": f"i{number}"}
        for number, row in enumerate(items)
    ]
    manifest = Manifest("ingest", {"format": "by hand"}, counts={"items": len(rows)})
    with writing(folder, manifest) as run:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), run.folder / "items.parquet")
    return folder


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    return lambda items: write_dataset(tmp_path / "dataset", items)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", ITEMS)
