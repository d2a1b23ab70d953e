"""What share of a video is watched, learned from views and predicted of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmrec.cli import main
from llmrec.content.features.media import FEATURES
from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run as ingest
from llmrec.data.settings import IngestConfig
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.jsonl import write_jsonl
from llmrec.ranking.ctr.dataset import build_dataset, run_source_features
from llmrec.ranking.ctr.engagement import EngagementConfig, load_engagement, run
from llmrec.ranking.ctr.impression_log import Folders, TimeSplit
from llmrec.ranking.ctr.settings import CtrConfig, LabelConfig
from llmrec.stage import Manifest, read_manifest, writing

N_ITEMS, N_FILMED, START, DAY = 40, 30, 1.7e9, 86_400.0
SHARES = (0.2, 0.5, 0.8)  # watched of the three ways that things move


def moves(item: int) -> int:
    return item % 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty items and a log of a hundred days, split by time."""
    home = tmp_path_factory.mktemp("engagement")
    rng = np.random.default_rng(0)
    events = [
        {
            "user_id": f"u{user}",
            "item_id": f"i{item}",
            "timestamp": START + day * DAY + user,
            "type": "click",
        }
        for user in range(20)
        for day, item in zip(range(2, 100, 7), rng.permutation(N_ITEMS), strict=False)
    ]
    write_jsonl(home / "events.jsonl", events)
    items = [{"item_id": f"i{item}", "title": f"thing {item}"} for item in range(N_ITEMS)]
    write_jsonl(home / "items.jsonl", items)
    config = IngestConfig(home / "events.jsonl", home / "items.jsonl", split="global-time")
    return ingest(config, home / "dataset")


@pytest.fixture(scope="module")
def media(dataset: Path) -> Path:
    """Vectors in which videos differ by how things move, and pictures by nothing that counts."""
    rng = np.random.default_rng(1)
    shop = Dataset(dataset)
    number = np.array([int(item_id[1:]) for item_id in shop.item_ids])
    filmed = number < N_FILMED
    video = np.eye(3, 8)[[moves(item) for item in number]] + 0.05 * rng.normal(size=(N_ITEMS, 8))
    blocks = {
        "video": (video * filmed[:, None]).astype(np.float32),
        "video_present": filmed.astype(np.uint8),
        "image": rng.normal(size=(N_ITEMS, 8)).astype(np.float32),
        "image_present": np.ones(N_ITEMS, np.uint8),
    }
    with writing(dataset.parent / "media", Manifest("embed-media", {})) as stage:
        save_file(blocks, stage.folder / FEATURES)
    return dataset.parent / "media"


def views(**changed: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    return [
        {
            "item_id": f"i{item}",
            "timestamp": START + view * DAY,
            "watched": float(np.clip(SHARES[moves(item)] + 0.05 * rng.normal(), 0, 1)),
        }
        | changed
        for item in range(N_FILMED)
        for view in range(6)
    ]


def learn(dataset: Path, media: Path, out: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    write_jsonl(out.with_suffix(".jsonl"), rows)
    return run(EngagementConfig(out.with_suffix(".jsonl"), **more), dataset, media, out)


def predicted(folder: Path, dataset: Path) -> dict[str, float]:
    shares = load_engagement(folder).tolist()
    return dict(zip(Dataset(dataset).item_ids, shares, strict=True))


def test_what_is_watched_is_seen_in_how_things_move(
    dataset: Path, media: Path, tmp_path: Path
) -> None:
    folder = learn(dataset, media, tmp_path / "out", views())
    shares = predicted(folder, dataset)
    for item in range(N_FILMED):
        assert shares[f"i{item}"] == pytest.approx(SHARES[moves(item)], abs=0.1)
    assert all(np.isnan(shares[f"i{item}"]) for item in range(N_FILMED, N_ITEMS))
    counts = read_manifest(folder).counts
    assert counts["r2_video"] > 0.9
    assert counts["r2_image"] < 0.3
    assert (counts["videos"], counts["learned_from"], counts["views"]) == (30, 30, 180)


def test_an_items_own_views_have_no_part_in_what_is_predicted_of_it(
    dataset: Path, media: Path, tmp_path: Path
) -> None:
    rows = views()
    before = predicted(learn(dataset, media, tmp_path / "before", rows), dataset)
    for row in rows:
        if row["item_id"] == "i7":
            row["watched"] = 0.0
    after = predicted(learn(dataset, media, tmp_path / "after", rows), dataset)
    assert after["i7"] == before["i7"]
    assert after["i10"] < before["i10"] or after["i1"] < before["i1"]  # they move alike


def test_views_after_the_training_part_and_of_other_items_do_not_count(
    dataset: Path, media: Path, tmp_path: Path
) -> None:
    before = learn(dataset, media, tmp_path / "before", views())
    start = TimeSplit.of(Dataset(dataset)).validation
    late = views(timestamp=start, watched=1.0)
    unknown = [{"item_id": "elsewhere", "timestamp": START, "watched": 0.4}]
    after = learn(dataset, media, tmp_path / "after", [*views(), *late, *unknown])
    np.testing.assert_array_equal(load_engagement(after), load_engagement(before))
    counts = read_manifest(after).counts
    assert (counts["views_later"], counts["views_unknown"]) == (len(late), 1)


@pytest.mark.parametrize("wrong", [1.2, -0.1, "much", None, float("nan")])
def test_what_is_no_share_is_named_by_its_row(
    dataset: Path, media: Path, tmp_path: Path, wrong: Any
) -> None:
    rows = views()
    rows[4]["watched"] = wrong
    with pytest.raises(DataError, match=r"out\.jsonl: row 5: watched is not a share"):
        learn(dataset, media, tmp_path / "out", rows)
    assert not (tmp_path / "out").exists()


def test_columns_may_have_other_names_and_a_missing_one_is_named(
    dataset: Path, media: Path, tmp_path: Path
) -> None:
    rows = [{"sku": r["item_id"], "at": r["timestamp"], "seen": r["watched"]} for r in views()]
    columns = {"item_id": "sku", "timestamp": "at", "watched": "seen"}
    folder = learn(dataset, media, tmp_path / "out", rows, columns=columns)
    assert read_manifest(folder).counts["views"] == 180
    with pytest.raises(DataError, match="item_id"):
        learn(dataset, media, tmp_path / "other", rows)
    with pytest.raises(ConfigError, match="wached"):
        EngagementConfig(Path("views.jsonl"), columns={"wached": "seen"})


def test_too_few_videos_are_not_learned_from(dataset: Path, media: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 videos have 7 views or more"):
        learn(dataset, media, tmp_path / "out", views(), min_views=7)


def test_a_folder_without_videos_is_refused(dataset: Path, tmp_path: Path) -> None:
    with writing(tmp_path / "media", Manifest("embed-media", {})) as stage:
        save_file({"image": np.ones((N_ITEMS, 2), np.float32)}, stage.folder / FEATURES)
    with pytest.raises(ArtifactError, match="no vectors of the videos"):
        learn(dataset, tmp_path / "media", tmp_path / "out", views())


def test_the_click_model_reads_it_and_can_do_without(
    dataset: Path, media: Path, tmp_path: Path
) -> None:
    folder = learn(dataset, media, tmp_path / "out", views())
    config = CtrConfig(LabelConfig("sampled", types=("click",)))
    folders = Folders(dataset, engagement=folder)
    sources = run_source_features(config, folders, tmp_path / "sources")
    data = build_dataset(config, folders, sources)
    names = [name for name, _ in data.inputs.names.candidate]
    column = data.inputs.candidate[..., names.index("watched_share")]
    shown = data.inputs.items >= 0
    np.testing.assert_array_equal(column[shown], load_engagement(folder)[data.inputs.items[shown]])
    without = data.inputs.without(["engagement"])
    assert [name for name, _ in without.names.candidate] == [
        n for n in names if n != "watched_share"
    ]
    new = {"price": None, "available_from": None, "categories": []}
    grown = data.item_features.with_items([new], np.ones((1, data.item_features.fused.shape[1])))
    assert grown.watched is not None and np.isnan(grown.watched[-1])
    grown.save(tmp_path)
    np.testing.assert_array_equal(type(grown).load(tmp_path).watched, grown.watched)
    alone = build_dataset(config, Folders(dataset), sources).item_features
    assert alone.watched is None
    alone.save(tmp_path)
    assert type(alone).load(tmp_path).watched is None


def test_on_the_command_line(
    dataset: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "views.jsonl", views())
    flags = {"watches": tmp_path / "views.jsonl", "dataset": dataset, "media": media}
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    assert main(["train", "engagement", *given, "--out", str(tmp_path / "out")]) == 0
    assert "180 views of 30 of 30 videos" in capsys.readouterr().out
    (tmp_path / "views.jsonl").write_text(json.dumps({"item_id": "i1"}) + "\n", encoding="utf-8")
    assert main(["train", "engagement", *given, "--out", str(tmp_path / "other")]) == 2
    assert "views.jsonl: no column 'timestamp'" in capsys.readouterr().err
