"""``llmrec embed media`` from a catalogue to blocks, with tiny models; good, bad and no files."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("open_clip", reason="needs the media extra")
pytest.importorskip("whisper", reason="needs the media extra")

from tiny_media import clip, picture, sound, tiny_clip, tiny_whisper, write_media_catalogue

from llmrec.cli import run_command
from llmrec.config import build
from llmrec.content.features import media
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.features.media import load_media_features, load_transcripts, run
from llmrec.content.features.modalities import EmbedMediaConfig
from llmrec.content.media.audio import windows
from llmrec.content.media.download import MediaLimits
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import prefetched
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.jsonl import read_jsonl
from llmrec.stage import Manifest, read_manifest, writing

# Of unit vectors in float32: a few times the spacing of numbers near one (1.2e-7).
UNIT_ROUNDING = 1e-6


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


ROWS: list[dict[str, Any]] = [
    {"image": "red.png", "video": "red.mp4", "audio": "low.wav"},
    {"image": "gone.png"},
    {"image": "blue.png", "audio": "silent.wav"},
    {},
    {"image": "page.png", "video": "low.wav", "audio": "red.mp4"},
    {"image": "red.png", "video": "blue.mp4", "audio": "high.wav"},
]
SKIPPED = [
    ("i1", "image", "no such file (No such file or directory)"),
    ("i4", "image", "not a picture in a format that is read"),
    ("i4", "video", "no picture track"),
    ("i2", "audio", "silent from beginning to end"),
    ("i4", "audio", "no sound track"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    clip_model, whisper = tiny_clip(folder / "clip"), tiny_whisper(folder / "whisper.pt")
    return {"image_model": str(clip_model), "speech_model": str(whisper), "device": "cpu"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for colour in ("red", "blue"):
        picture(folder / f"{colour}.png", colour)
        clip(folder / f"{colour}.mp4", [colour, "black"])
    sound(folder / "low.wav", 300)
    sound(folder / "high.wav", 900, seconds=0.5)
    sound(folder / "silent.wav", 300, volume=0)
    (folder / "page.png").write_text("<html>not found</html>")
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_media_catalogue(tmp_path / "dataset", ROWS)


@pytest.fixture
def shards_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "SHARD_ITEMS", 2)


def skipped(folder: Path) -> list[tuple[str, ...]]:
    lines = (folder / "skipped.jsonl").read_text().splitlines()
    return [tuple(json.loads(line).values()) for line in lines]


def test_blocks_hold_what_there_is_and_reasons_tell_the_rest(
    dataset: Path,
    root: Path,
    models: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = EmbedMediaConfig(**models, batch_size=2, frames=3)
    out = run(config, dataset, tmp_path / "out", media_root=root)
    blocks = load_media_features(out)
    assert blocks["image_present"].tolist() == [1, 0, 1, 0, 0, 1]
    assert blocks["video_present"].tolist() == [1, 0, 0, 0, 0, 1]
    assert blocks["speech_present"].tolist() == [1, 0, 0, 0, 0, 1]
    for name, dim in (("image", 24), ("video", 24), ("speech", 16)):
        assert blocks[name].shape == (6, dim) and blocks[name].dtype == np.float32
        norms = np.linalg.norm(blocks[name], axis=1)
        np.testing.assert_allclose(norms, blocks[f"{name}_present"], atol=1e-5)
    # one picture at two places of a batch: the same up to the order in which a matrix is summed
    np.testing.assert_allclose(blocks["image"][0], blocks["image"][5], rtol=0, atol=UNIT_ROUNDING)
    assert skipped(out) == SKIPPED
    counts = read_manifest(out).counts
    assert (counts["image"], counts["image_skipped"], counts["video"], counts["items"]) == (
        3,
        2,
        2,
        6,
    )
    assert "image 3 (2 skipped, see skipped.jsonl)" in capsys.readouterr().out
    assert not (out / "shards").exists() and load_transcripts(out) == {}


def test_a_row_is_what_the_encoder_gives(
    dataset: Path, root: Path, models: dict[str, str], tmp_path: Path
) -> None:
    config = EmbedMediaConfig(**models, modalities=("image",))
    blocks = load_media_features(run(config, dataset, tmp_path / "out", media_root=root))
    assert set(blocks) == {"image", "image_present"}
    encoder = ImageEncoder(models["image_model"], device="cpu")
    direct = encoder.encode([decode_image(root / "blue.png")])[0]
    np.testing.assert_allclose(blocks["image"][2], direct, atol=1e-5)


def test_batches_and_shards_change_nothing(
    dataset: Path, root: Path, models: dict[str, str], tmp_path: Path, shards_of_two: None
) -> None:
    config = EmbedMediaConfig(**models, batch_size=1, workers=1)
    small = load_media_features(run(config, dataset, tmp_path / "small", media_root=root))
    media.SHARD_ITEMS = 512
    whole = load_media_features(
        run(EmbedMediaConfig(**models), dataset, tmp_path / "big", media_root=root)
    )
    assert set(small) == set(whole)
    for name in whole:
        np.testing.assert_allclose(small[name], whole[name], atol=1e-5)
    assert sorted(skipped(tmp_path / "small")) == sorted(skipped(tmp_path / "big"))


def test_a_killed_run_goes_on_with_the_next_shard(
    dataset: Path,
    root: Path,
    models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shards_of_two: None,
) -> None:
    config = EmbedMediaConfig(**models, modalities=("image",))
    whole = load_media_features(run(config, dataset, tmp_path / "whole", media_root=root))
    encode, calls = ImageEncoder.encode_prepared, []

    def stop_at_third(self: ImageEncoder, pixels: Any) -> np.ndarray:
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, pixels)

    monkeypatch.setattr(ImageEncoder, "encode_prepared", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(config, dataset, tmp_path / "resumed", media_root=root)
    assert not (tmp_path / "resumed").exists() and calls == [1, 1, 1]
    # Another batch size changes nothing of the result, so the earlier shards still count.
    smaller = EmbedMediaConfig(**models, modalities=("image",), batch_size=1)
    resumed = load_media_features(run(smaller, dataset, tmp_path / "resumed", media_root=root))
    assert calls == [1, 1, 1, 1]
    np.testing.assert_allclose(resumed["image"], whole["image"], atol=1e-6)
    assert skipped(tmp_path / "resumed") == [row for row in SKIPPED if row[1] == "image"]


def test_it_is_done_once_until_a_file_changes(
    dataset: Path,
    root: Path,
    models: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = shutil.copytree(root, tmp_path / "own")
    config = EmbedMediaConfig(**models, modalities=("image",))
    out = run(config, dataset, tmp_path / "out", media_root=own)
    capsys.readouterr()
    run(config, dataset, out, media_root=own)
    assert capsys.readouterr().out == f"embed-media: up to date in {out}\n"
    picture(own / "gone.png", "green")
    run(config, dataset, out, media_root=own)
    assert load_media_features(out)["image_present"].tolist() == [1, 1, 1, 0, 0, 1]
    before = load_media_features(out)["image"][0]
    os.replace(own / "blue.png", own / "red.png")
    run(config, dataset, out, media_root=own)
    assert np.abs(load_media_features(out)["image"][0] - before).max() > 1e-3


def test_transcripts_are_kept_by_item(
    dataset: Path, root: Path, models: dict[str, str], tmp_path: Path
) -> None:
    config = EmbedMediaConfig(**models, modalities=("speech",), transcribe=True, language="en")
    out = run(config, dataset, tmp_path / "out", media_root=root)
    rows = {row["item"]: row for row in read_jsonl(out / "transcripts.jsonl")}
    assert set(rows) == {"i0", "i5"} and rows["i0"]["language"] == "en"
    for row in rows.values():
        assert all(0 <= s["start"] <= s["end"] <= 1.0 and "text" in s for s in row["segments"])
    assert load_transcripts(out) == {item: row["text"] for item, row in rows.items()}
    assert load_media_features(out)["speech_present"].tolist() == [1, 0, 0, 0, 0, 1]


def test_a_recording_of_many_windows_is_one_vector(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmrec.content.features import speech_encoder

    def short(source: Any, **options: Any) -> Any:
        return windows(source, seconds=1.0, search_seconds=0, **options)

    root = tmp_path / "media"
    root.mkdir()
    sound(root / "long.wav", 300, seconds=3.5)
    sound(root / "high.wav", 900)
    rows = [{"audio": "high.wav"}, {"audio": "long.wav"}, {"audio": "high.wav"}]
    dataset = write_media_catalogue(tmp_path / "dataset", rows)
    monkeypatch.setattr(speech_encoder, "windows", short)
    config = EmbedMediaConfig(**models, modalities=("speech",), batch_size=16)  # two windows
    vectors = load_media_features(run(config, dataset, tmp_path / "out", media_root=root))["speech"]
    from llmrec.content.features.speech_encoder import SpeechEncoder

    direct = SpeechEncoder(models["speech_model"], device="cpu")
    expected = direct.encode([list(short(root / name["audio"])) for name in rows])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_bytes_in_the_catalogue_are_pictures_too(
    models: dict[str, str], root: Path, tmp_path: Path
) -> None:
    contents = [(root / "red.png").read_bytes(), None, b"no picture"]
    table = pa.table({"item_id": ["a", "b", "c"], "image": contents})
    dataset = tmp_path / "dataset"
    with writing(dataset, Manifest("ingest", {"format": "by hand"})) as stage:
        pq.write_table(table, stage.folder / "items.parquet")
    out = run(EmbedMediaConfig(**models), dataset, tmp_path / "out")
    assert load_media_features(out)["image_present"].tolist() == [1, 0, 0]
    assert skipped(out) == [("c", "image", "not a picture in a format that is read")]


def test_urls_are_fetched_once_into_a_cache(
    models: dict[str, str], root: Path, tmp_path: Path
) -> None:
    handler = partial(QuietHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        rows = [{"image": f"{base}/red.png"}, {"image": f"{base}/gone.png"}, {"image": "blue.png"}]
        dataset = write_media_catalogue(tmp_path / "dataset", rows)
        own = MediaLimits(networks=("127.0.0.1/32",))
        outcomes = []
        for name, limits in (("closed", MediaLimits()), ("open", own)):
            config = EmbedMediaConfig(**models, modalities=("image",), limits=limits)
            out = run(config, dataset, tmp_path / name, media_root=root)
            outcomes.append(load_media_features(out)["image_present"].tolist())
        server.shutdown()
    assert outcomes == [[0, 0, 1], [1, 0, 1]]
    assert "not a public address" in skipped(tmp_path / "closed")[0][2]
    assert skipped(tmp_path / "open") == [("i1", "image", "127.0.0.1: answered 404")]
    kept = list((tmp_path / "media_cache" / "contents").iterdir())
    assert [path.read_bytes() for path in kept] == [(root / "red.png").read_bytes()]


def test_more_files_than_workers_come_in_order_and_are_not_read_far_ahead() -> None:
    taken: list[int] = []

    def files() -> Iterator[int]:
        for value in range(50):
            taken.append(value)
            yield value

    results = prefetched(lambda value: -value, files(), workers=3)
    assert [next(results), next(results)] == [0, -1] and len(taken) <= 8
    assert list(results) == [-n for n in range(2, 50)]


def test_a_defect_is_raised_and_not_counted_as_a_bad_file() -> None:
    with pytest.raises(ZeroDivisionError):
        list(prefetched(lambda value: 1 // value, [1, 0], workers=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modalities": ["smell"]}, "'smell' is not one of image, video, speech"),
        ({"modalities": []}, "modalities: choose from"),
        ({"modalities": ["image", "image"]}, "each once"),
        ({"frames": 0}, "frames: must be 1 or more"),
        ({"modalities": ["image"], "transcribe": True}, "transcribe: needs speech"),
        ({"modalities": ["image"], "temporal": "t"}, "temporal: needs video"),
        ({"limits": {"timeout": 0}}, "timeout: must be above 0"),
        ({"limits": {"networks": ["x"]}}, "write it as"),
    ],
)
def test_wrong_settings_name_the_setting(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(EmbedMediaConfig, settings, "recipe.yaml: embed_media")


def test_what_cannot_work_is_said_before_anything_is_loaded(
    dataset: Path, root: Path, tmp_path: Path
) -> None:
    config = EmbedMediaConfig(image_model="no-such:model", speech_model="no-such")
    with pytest.raises(ConfigError, match=r"--media-root: .*'red\.png'"):
        run(config, dataset, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--media-root: .*no folder"):
        run(config, dataset, tmp_path / "out", media_root=tmp_path / "gone")
    for rows, message in (([], "no items"), ([{}], "no item has a value in image, video, audio")):
        empty = write_media_catalogue(tmp_path / f"empty{len(rows)}", rows)
        with pytest.raises(CatalogError, match=message):
            run(config, empty, tmp_path / "out", media_root=root)


def test_an_encoder_alone_is_not_asked_for_words(
    dataset: Path, root: Path, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "whisper-tiny-en-encoder"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    config = EmbedMediaConfig(
        modalities=("speech",), speech_model=str(folder), transcribe=True, device="cpu"
    )
    with pytest.raises(ConfigError, match=r"transcribe: .*only an audio encoder"):
        run(config, dataset, tmp_path / "out", media_root=root)


def test_the_command_line_reads_a_recipe_and_flags(
    dataset: Path, root: Path, models: dict[str, str], tmp_path: Path
) -> None:
    recipe, out = tmp_path / "media.yaml", tmp_path / "out"
    recipe.write_text("embed: {frames: 2, modalities: [image], limits: {max_bytes: 1000000}}\n")
    arguments = [recipe, "--dataset", dataset, "--out", out, "--media-root", root]
    arguments += ["--modalities", "image", "video", "--image-model", models["image_model"]]
    run_command(["embed", "media", *map(str, arguments)])
    config = read_manifest(out).config
    assert config["frames"] == 2 and list(config["modalities"]) == ["image", "video"]
    assert set(load_media_features(out)) == {"image", "image_present", "video", "video_present"}


def test_damaged_features_name_file_and_fix(
    dataset: Path, root: Path, models: dict[str, str], tmp_path: Path
) -> None:
    config = EmbedMediaConfig(**models, modalities=("image",))
    out = run(config, dataset, tmp_path / "out", media_root=root)
    size = (out / "media.safetensors").stat().st_size
    (out / "media.safetensors").write_bytes(b"?" * size)
    with pytest.raises(ArtifactError, match=r"media\.safetensors: .*llmrec embed media"):
        load_media_features(out)


def test_the_stage_module_loads_no_heavy_package() -> None:
    heavy = "torch torchvision open_clip whisper transformers av PIL"
    code = (
        "import sys, llmrec.content.features.media\n"
        f"assert not [m for m in '{heavy}'.split() if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
