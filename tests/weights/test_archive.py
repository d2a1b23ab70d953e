"""Weights that llmrec brings along are a zip that is unpacked."""

from pathlib import Path

import pytest

from llmrec.errors import ArtifactError
from llmrec.weights.archive import convert, pack


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    pack(folder, tmp_path / "model.zip")
    return tmp_path / "model.zip"


def test_what_was_packed_comes_out(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert([packed], tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_text() == "{}"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == bytes(range(256)) * 40


def test_the_same_folder_is_the_same_zip(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "model" / "config.json").touch()  # of another time
    pack(tmp_path / "model", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("kept", [0, 30, 200])
def test_a_zip_that_was_cut_is_named(packed: Path, tmp_path: Path, kept: int) -> None:
    packed.write_bytes(packed.read_bytes()[:kept])
    with pytest.raises(ArtifactError, match=r"model\.zip: cannot be read"):
        convert([packed], tmp_path / "out")
