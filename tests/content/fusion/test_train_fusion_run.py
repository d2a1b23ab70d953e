"""``llmrec train fusion`` from folders to a folder; what it says, keeps and refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")

from fusion_world import World, write_dataset, write_features, write_media

from llmrec.cli import run_command
from llmrec.config import build
from llmrec.content.features.blocks import load_blocks, load_fused
from llmrec.content.fusion import run as fusion_run
from llmrec.content.fusion.embedding import embed
from llmrec.content.fusion.encoder import FusionEncoder
from llmrec.content.fusion.modalities import read_modalities
from llmrec.content.fusion.run import training_pairs
from llmrec.content.fusion.settings import FusionConfig
from llmrec.content.fusion.train import FusionTrainer
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, CatalogError, ConfigError, DataError
from llmrec.stage import read_manifest
from llmrec.types import Histories

SETTINGS = {
    "encoder": {"dim": 12, "width": 16, "layers": 1, "heads": 2, "queries": 1},
    "train": {
        "epochs": 2,
        "steps_per_epoch": 4,
        "batch_size": 64,
        "contrast_batch": 32,
        "device": "cpu",
    },
}
CONFIG = build(FusionConfig, SETTINGS, "test")
RECIPE = json.dumps({"seed": 3, "fusion": SETTINGS})


def test_the_folder_holds_a_unit_vector_an_item_and_what_made_it(folders, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    out = tmp_path / "fusion"
    flags = [f"--{name}={getattr(folders, name)}" for name in folders._fields]
    run_command(["train", "fusion", str(recipe), *flags, f"--out={out}"])
    fused = load_fused(out)
    assert fused.dtype == np.float32
    assert fused.shape == (216, 12)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-5)
    assert list(load_blocks(out)) == ["fused"]
    encoder = FusionEncoder.load(out / "encoder.safetensors")
    modalities = read_modalities(folders.features, folders.media, 216)
    np.testing.assert_array_equal(embed(encoder, modalities), fused)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"behaviour", "contrast", "validation"} <= rows[0].keys()
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    manifest = read_manifest(out, "fusion")
    assert manifest.seed == 3
    assert manifest.counts["with_image"] == manifest.counts["items"] == 216
    assert manifest.counts["best_validation"] == max(row["validation"] for row in rows)
    assert not (out / "work").exists()


def test_a_current_folder_is_left_alone(
    folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        fusion_run.run(CONFIG, *folders[:1], tmp_path / "out", features=folders.features)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"fusion: up to date in {tmp_path / 'out'}"
    assert sum("wrote" in line for line in lines) == 1


def test_a_killed_run_goes_on_after_its_last_epoch(
    folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> Path:
        return fusion_run.run(
            CONFIG, folders.dataset, out, features=folders.features, media=folders.media
        )

    steps: list[int] = []
    step = FusionTrainer._step

    def counted(self: FusionTrainer, rng: np.random.Generator) -> dict[str, float]:
        steps.append(self.progress.step)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return step(self, rng)

    monkeypatch.setattr(FusionTrainer, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    steps.extend([-1] * 9)
    run(tmp_path / "killed")
    assert steps[16:] == [4, 5, 6, 7]
    run(tmp_path / "straight")
    np.testing.assert_array_equal(
        load_fused(tmp_path / "killed"), load_fused(tmp_path / "straight")
    )


def test_without_behaviour_modalities_teach_each_other_and_it_says_so(
    folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lonely = Histories.from_lists([[n] for n in range(40)])
    dataset = write_dataset(tmp_path / "dataset", lonely, 216)
    out = fusion_run.run(
        CONFIG,
        dataset,
        tmp_path / "out",
        features=folders.features,
        media=folders.media,
    )
    assert capsys.readouterr().out.splitlines()[0] == (
        "fusion: 216 items: text 216, image 216; no two items were liked together: "
        "contrast between modalities alone"
    )
    assert "behaviour" not in json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    assert np.isfinite(load_fused(out)).all()


def test_one_modality_learns_from_behaviour_alone_and_it_says_so(
    folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = fusion_run.run(CONFIG, folders.dataset, tmp_path / "out", media=folders.media)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("pairs liked together; no item has two modalities: no contrast")
    assert "contrast" not in json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    assert load_fused(out).shape == (216, 12)


def test_an_item_without_anything_has_a_vector_too(world: World, folders, tmp_path: Path) -> None:
    there = np.ones(216, dtype=bool)
    there[5:7] = False
    media = write_media(tmp_path / "media", {"image": world.modalities.blocks["image"]}, there)
    fused = load_fused(fusion_run.run(CONFIG, folders.dataset, tmp_path / "out", media=media))
    # at two places of a batch: equal up to the rounding of unit vectors in float32
    np.testing.assert_allclose(fused[5], fused[6], rtol=0, atol=1e-6)
    assert np.linalg.norm(fused[5]) == pytest.approx(1, abs=1e-5)


def test_few_people_are_learned_from_though_none_can_be_held_back(folders, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", Histories.from_lists([[0, 1, 2]]), 216)
    out = fusion_run.run(CONFIG, dataset, tmp_path / "out", features=folders.features)
    assert read_manifest(out).counts["pairs"] == 3


# Two users, oldest event first, and the split of each event: train 0, validation 1, test 2.
HISTORIES, SPLITS = [[0, 1, 2, 3, 4], [5, 6, 7, 8]], [0, 0, 0, 1, 2, 0, 0, 1, 2]


def test_only_events_of_the_training_split_are_learned_from_and_choose_the_epoch(
    folders, tmp_path: Path
) -> None:
    histories = Histories.from_lists(HISTORIES)
    dataset = write_dataset(tmp_path / "dataset", histories, 216, splits=SPLITS)
    pairs, cases = training_pairs(Dataset(dataset), CONFIG.train, seed=0)
    learned = sorted(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert learned == [(0, 1), (0, 2), (1, 2)]  # of the one user; the other is held out
    assert (cases.queries.tolist(), cases.relevant.tolist()) == ([5, 6], [1, 1])
    out = fusion_run.run(CONFIG, dataset, tmp_path / "out", features=folders.features)
    assert read_manifest(out).counts["pairs"] == 3


def test_a_share_learns_from_the_earliest_of_the_training_events(folders, tmp_path: Path) -> None:
    histories = Histories.from_lists([[0, 1, 2, 3], [4, 5, 6]])
    dataset = write_dataset(tmp_path / "dataset", histories, 216, splits=[0, 0, 0, 0, 0, 0, 1])
    config = replace(CONFIG, train=replace(CONFIG.train, share=0.4))
    pairs, _ = training_pairs(Dataset(dataset), config.train, seed=0)
    learned = sorted(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert learned == [(0, 1), (0, 2), (1, 2)]
    out = fusion_run.run(config, dataset, tmp_path / "out", features=folders.features)
    assert read_manifest(out).counts["learned_until"] == 2.0  # the event on item 2
    whole = fusion_run.run(CONFIG, dataset, tmp_path / "whole", features=folders.features)
    assert read_manifest(whole).counts["learned_until"] == 5.0


def test_features_of_another_catalogue_leave_nothing_behind(folders, tmp_path: Path) -> None:
    features = write_features(tmp_path / "features", np.eye(7, 24, dtype=np.float32))
    with pytest.raises(DataError, match="holds vectors of 7 items") as caught:
        fusion_run.run(CONFIG, folders.dataset, tmp_path / "out", features=features)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_empty_catalogue_and_no_features_are_told_so(folders, tmp_path: Path) -> None:
    empty = write_dataset(tmp_path / "dataset", Histories.from_lists([]), 0)
    with pytest.raises(CatalogError, match="the catalogue has no items"):
        fusion_run.run(CONFIG, empty, tmp_path / "out", features=folders.features)
    with pytest.raises(ConfigError, match="give --features"):
        fusion_run.run(CONFIG, folders.dataset, tmp_path / "out")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("{train: {epoch: 3}}", "train: unknown key 'epoch'; did you mean 'epochs'?"),
        ("{train: {temperature: 0}}", "temperature: must be above 0, got 0"),
        ("{train: {share: 0}}", "share: must be in (0, 1], got 0"),
        ("{encoder: {heads: 3}}", "heads: 3 does not divide width 128"),
        ("{train: 3}", "train: expected settings"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    folders, tmp_path: Path, recipe: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"fusion: {recipe}")
    flags = [f"--dataset={folders.dataset}", f"--out={tmp_path / 'out'}"]
    with pytest.raises(ConfigError) as caught:
        run_command(["train", "fusion", str(path), *flags])
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_damaged_folder_is_told_so(folders, tmp_path: Path) -> None:
    out = fusion_run.run(CONFIG, folders.dataset, tmp_path / "out", media=folders.media)
    size = (out / "features.safetensors").stat().st_size
    (out / "features.safetensors").write_bytes(b"?" * size)
    with pytest.raises(ArtifactError, match="run llmrec train fusion again"):
        load_fused(out)
    with pytest.raises(ArtifactError, match="holds the 'embed' stage, expected 'fusion'"):
        load_fused(folders.features)
