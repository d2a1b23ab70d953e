from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmrec.content.features.blocks import load_blocks
from llmrec.errors import ArtifactError
from llmrec.stage import Manifest, writing


def stage_folder(folder: Path, stage: str, file: str, **blocks: np.ndarray) -> Path:
    with writing(folder, Manifest(stage, {})) as run:
        save_file(blocks, run.folder / file)
    return folder


@pytest.mark.parametrize(
    ("stage", "file", "block"),
    [
        ("embed", "embeddings.safetensors", "text"),
        ("embed-media", "media.safetensors", "image"),
        ("fusion", "features.safetensors", "fused"),
    ],
)
def test_every_stage_that_makes_vectors_is_read_by_its_blocks(
    tmp_path: Path, stage: str, file: str, block: str
) -> None:
    made = np.eye(3, dtype=np.float32)
    folder = stage_folder(tmp_path / "folder", stage, file, **{block: made})
    assert list(load_blocks(folder)) == [block]
    assert np.array_equal(load_blocks(folder)[block], made)


def test_a_folder_without_vectors_of_items_is_told_so(tmp_path: Path) -> None:
    folder = stage_folder(tmp_path / "folder", "ingest", "x.safetensors", x=np.zeros(1))
    with pytest.raises(ArtifactError, match="'ingest' stage, which has no vectors"):
        load_blocks(folder)
