from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_media import picture, sound, tiny_clip, tiny_whisper

from llmrec.cli import run_command
from llmrec.content.features.media import load_media_features
from llmrec.content.features.text import load_features
from llmrec.data.catalogue import SCHEMA
from llmrec.errors import ConfigError
from llmrec.stage import Manifest, writing


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    picture(tmp_path / "media/a.png", "red")
    sound(tmp_path / "media/a.wav", 440)
    rows = [{"item_id": "a", "title": "Cup", "image": "a.png", "audio": "a.wav"}]
    with writing(tmp_path / "dataset", Manifest("ingest", {"format": "by hand"})) as run:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), run.folder / "items.parquet")
    return tmp_path / "dataset"


def test_one_command_embeds_text_pictures_and_speech(dataset: Path, tmp_path: Path) -> None:
    clip, whisper = tiny_clip(tmp_path / "clip"), tiny_whisper(tmp_path / "whisper.pt")
    flags = ["--dataset", str(dataset), "--out", str(tmp_path / "run/features")]
    media = ["--media-root", str(tmp_path / "media"), "--clip", str(clip)]
    run_command(["embed", *flags, "--fields", "title", *media, "--whisper", str(whisper)])
    assert load_features(tmp_path / "run/features")["text"].shape == (1, 384)
    found = load_media_features(tmp_path / "run/media_features")
    assert sorted(found) == ["image", "image_present", "speech", "speech_present"]


def test_text_alone_leaves_no_media_folder(dataset: Path, tmp_path: Path) -> None:
    flags = ["--dataset", str(dataset), "--out", str(tmp_path / "features")]
    run_command(["embed", *flags, "--fields", "title"])
    assert not (tmp_path / "media_features").exists()


def test_a_media_root_without_a_model_is_refused(dataset: Path, tmp_path: Path) -> None:
    flags = ["--dataset", str(dataset), "--out", str(tmp_path / "out"), "--media-root", "media"]
    with pytest.raises(ConfigError, match="go with --clip"):
        run_command(["embed", *flags])
    assert not (tmp_path / "out").exists()
