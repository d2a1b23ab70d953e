"""``llmrec bench fusion`` on the small world: nothing leaks, and its figures are what it says."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")

from fusion_world import World

from llmrec.bench.fusion import FusionBenchConfig
from llmrec.bench.fusion_compare import make_task
from llmrec.cli import run_command
from llmrec.config import build
from llmrec.content.fusion.settings import FusionConfig
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.metrics.results import read_result

SETTINGS = {
    "encoder": {"dim": 16, "width": 32, "heads": 2, "queries": 1, "input_dropout": 0.0},
    "train": {
        "epochs": 3,
        "steps_per_epoch": 20,
        "batch_size": 128,
        "contrast_batch": 32,
        "learning_rate": 3e-3,
        "validation_users": 0.2,
        "device": "cpu",
    },
}


@pytest.fixture(scope="module")
def result(folders, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A result, through the command line; its folder is under ``where``."""
    home = tmp_path_factory.mktemp("bench_fusion")
    recipe = home / "recipe.yaml"
    recipe.write_text(json.dumps({"bench_fusion": SETTINGS}))
    flags = [f"--{name}={getattr(folders, name)}" for name in folders._fields]
    out = home / "results" / "fusion-world.json"
    more = [
        "--draws=2",
        "--resamples=200",
        "--learning-rates",
        "3e-3",
        "1e-5",
        f"--work={home / 'work'}",
    ]
    run_command(["bench", "fusion", str(recipe), *flags, f"--out={out}", *more])
    return read_result(out) | {"where": out.parent}


def test_no_item_or_person_is_on_two_sides(world: World, folders) -> None:
    config = build(FusionConfig, SETTINGS, "test")
    task = make_task(Dataset(folders.dataset), world.modalities, config, 0.2, 0.2, seed=1)
    assert 20 < task.cold.sum() < 70
    for items in (task.pairs.left, task.pairs.right, task.validation.queries):
        assert not task.cold[items].any()
    assert not task.cold[task.validation.liked % 216].any()
    assert task.cold[task.cold_test.queries].all()
    assert task.cold[task.test.queries].any()


def test_fused_vectors_find_more_than_half_the_modalities_do(result: dict) -> None:
    metrics, spans = result["metrics"], result["intervals"]
    assert metrics["fused_recall@10"] > metrics["text_recall@10"] > 0
    difference = metrics["fused_recall@10"] - metrics["text_recall@10"]
    assert metrics["fused_minus_text_recall@10"] == pytest.approx(difference)
    low, high = spans["fused_minus_text_recall@10"]
    assert 0 < low < difference < high
    assert spans["user_fused_minus_text_recall@10"] != [low, high]
    assert metrics["cold_fused_recall@10"] > metrics["cold_text_raw_recall@10"]


def test_what_is_lost_is_the_share_of_the_whole(result: dict) -> None:
    metrics = result["metrics"]
    for way, whole in (("fused", "fused"), ("fused_zeros", "fused"), ("concat", "concat")):
        share = 1 - metrics[f"missing_{way}_recall@10"] / metrics[f"{whole}_recall@10"]
        assert metrics[f"missing_{way}_loss_recall@10"] == pytest.approx(share)
    assert metrics["missing_fused_recall@10"] != metrics["missing_fused_zeros_recall@10"]


def test_the_file_says_what_it_rests_on(result: dict) -> None:
    assert result["counts"]["items"] == 216
    assert result["counts"]["with_image"] == 216
    assert [sorted(one) for one in result["trainings"]] == [
        ["concat", "concat_plain", "fused", "text"]
    ]
    assert result["settings"]["train"]["epochs"] == 3
    assert all(np.isfinite(span).all() for span in result["intervals"].values())


def test_each_encoder_has_the_learning_rate_that_was_best_on_other_users(result: dict) -> None:
    for training in result["trainings"]:
        assert {one["learning_rate"] for one in training.values()} == {3e-3}
    page = (result["where"] / "fusion-world.md").read_text()
    assert "their epoch and learning rate were chosen on yet other users" in page


def test_the_page_shows_the_figures_of_the_file(result: dict) -> None:
    page = (result["where"] / "fusion-world.md").read_text()
    assert f"{result['metrics']['fused_recall@10']:.4f}" in page
    assert f"{result['metrics']['fused_minus_text_recall@10']:+.4f}" in page
    assert (result["where"] / "fusion-world.png").read_bytes().startswith(b"\x89PNG")


def test_text_alone_cannot_be_compared_with_itself(world: World, folders) -> None:
    config = build(FusionConfig, SETTINGS, "test")
    with pytest.raises(ConfigError, match="compared with text alone: give --features"):
        make_task(Dataset(folders.dataset), world.modalities.only(["text"]), config, 0.2, 0.2, 0)


def test_too_few_users_are_told_so(world: World, folders) -> None:
    config = build(FusionConfig, SETTINGS | {"train": {"min_rating": 6.0}}, "test")
    with pytest.raises(DataError, match="parting 240 users leaves no pairs to learn from"):
        make_task(Dataset(folders.dataset), world.modalities, config, 0.2, 0.2, 0)


def test_a_flag_that_cannot_be_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"cold_items: must be in \(0, 1\), got 1.5"):
        FusionBenchConfig(cold_items=1.5)
