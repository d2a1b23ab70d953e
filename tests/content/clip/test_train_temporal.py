import json
from pathlib import Path

import pytest
from shop_of_colours import video_shop
from tiny_media import tiny_clip

from llmrec.bench.temporal import run as bench
from llmrec.content.clip.settings import TemporalConfig
from llmrec.content.clip.temporal import run
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.features.video_encoder import VideoEncoder
from llmrec.content.media.video import sample_frames
from llmrec.errors import ArtifactError, CatalogError, ConfigError, DataError
from llmrec.metrics.results import read_result
from llmrec.stage import read_manifest

Shop = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return video_shop(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TemporalConfig:
    clip = tiny_clip(tmp_path_factory.mktemp("clip") / "clip")
    return TemporalConfig(
        str(clip), frames=4, width=32, epochs=40, batch_size=8, learning_rate=3e-3
    )


@pytest.fixture(scope="module")
def trained(shop: Shop, config: TemporalConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "temporal"
    return run(config, shop[0], out, media_root=shop[1], leave_out=shop[2])


def test_the_encoder_tells_an_order_that_the_mean_of_the_frames_cannot(trained: Path) -> None:
    counts = read_manifest(trained, "train-temporal").counts
    assert (counts["trained_on"], counts["measured_on"], counts["skipped"]) == (16, 8, 0)
    assert counts["accuracy_temporal"] >= 0.9
    assert counts["accuracy_mean"] <= 0.75


def test_what_it_told_of_each_video_is_kept(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "predictions.jsonl").read_text().splitlines()]
    assert [row["item_id"] for row in rows] == [f"i{n}" for n in range(8)]
    right = sum(row["temporal"] == row["truth"] for row in rows)
    assert right / 8 == read_manifest(trained).counts["accuracy_temporal"]


def test_its_file_is_what_the_video_encoder_takes(
    trained: Path, shop: Shop, config: TemporalConfig
) -> None:
    images = ImageEncoder(config.image_model)
    clip = sample_frames(shop[1] / "0.mp4", 4)
    learned = VideoEncoder(images, trained / "temporal.safetensors").encode([clip])
    plain = VideoEncoder(images).encode([clip])
    assert learned.shape == plain.shape
    assert abs(learned - plain).max() > 0.01


def test_a_video_that_cannot_be_decoded_is_skipped_with_its_reason(
    tmp_path: Path, config: TemporalConfig
) -> None:
    dataset, media, _ = video_shop(tmp_path, 6)
    (media / "5.mp4").write_bytes(b"no video")
    out = run(
        TemporalConfig(**{**config.__dict__, "epochs": 1}),
        dataset,
        tmp_path / "out",
        media_root=media,
    )
    counts = read_manifest(out).counts
    assert (counts["trained_on"], counts["measured_on"], counts["skipped"]) == (5, 0, 1)
    assert len(counts["skipped_reasons"]) == 1


def test_a_field_without_two_values_is_told_so(
    shop: Shop, config: TemporalConfig, tmp_path: Path
) -> None:
    other = TemporalConfig(**{**config.__dict__, "field": "colour"})
    with pytest.raises(CatalogError, match="0 videos have the attribute 'colour'"):
        run(other, shop[0], tmp_path / "out", media_root=shop[1])


def test_leaving_out_all_of_a_value_is_told_so(
    shop: Shop, config: TemporalConfig, tmp_path: Path
) -> None:
    (tmp_path / "odd.txt").write_text("".join(f"i{n}\n" for n in range(1, 24, 2)))
    with pytest.raises(CatalogError, match="leave out fewer items"):
        run(config, shop[0], tmp_path / "out", media_root=shop[1], leave_out=tmp_path / "odd.txt")
    (tmp_path / "bad.jsonl").write_text('{"item": "i1"}\n')
    with pytest.raises(DataError, match="no column 'item_id'"):
        run(config, shop[0], tmp_path / "out", media_root=shop[1], leave_out=tmp_path / "bad.jsonl")


def test_a_model_must_be_named() -> None:
    with pytest.raises(ConfigError, match="which CLIP"):
        TemporalConfig()


def test_the_result_file_compares_both_video_by_video(trained: Path, tmp_path: Path) -> None:
    result = read_result(bench(trained, tmp_path / "motion.json"))
    counts, metrics = read_manifest(trained).counts, result["metrics"]
    assert metrics["accuracy_motion"] == counts["accuracy_temporal"]
    assert metrics["accuracy_motion_mean"] == counts["accuracy_mean"]
    assert metrics["floor_motion"] == 0.5
    low, high = result["intervals"]["gain_motion"]
    assert low <= metrics["gain_motion"] <= high
    path = trained / "predictions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"?" * len(whole))
    with pytest.raises(ArtifactError, match="run llmrec train temporal again"):
        bench(trained, tmp_path / "again.json")
    path.write_bytes(whole)
