"""Small dataset and features folders, as ``llmrec ingest`` and ``llmrec embed`` write them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from llmrec.stage import Manifest, writing

Folders = Callable[[np.ndarray], tuple[Path, Path]]


@pytest.fixture
def make_folders(tmp_path: Path) -> Folders:
    """A function from content vectors [n, dim] to (dataset folder, features folder)."""

    def make(vectors: np.ndarray) -> tuple[Path, Path]:
        dataset, features = tmp_path / "dataset", tmp_path / "features"
        ids = pa.array([f"i{row}" for row in range(len(vectors))], pa.string())
        with writing(dataset, Manifest("ingest", {}, counts={"items": len(ids)})) as run:
            pq.write_table(pa.table({"item_id": ids}), run.folder / "items.parquet")
        with writing(features, Manifest("embed", {}, counts={"items": len(ids)})) as run:
            blocks = {"text": np.asarray(vectors, np.float32)}
            save_file(blocks, run.folder / "embeddings.safetensors")
        return dataset, features

    return make
