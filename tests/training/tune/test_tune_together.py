"""Two processes train as one does with batches twice as large, whole or in shards."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from forked import Forks
from tune_runs import counts_of, log_of, losses, weights

from llmrec.stage import read_manifest

CONFIGS = Path(__file__).parents[3] / "training" / "accelerate"


def recipe(batch: int, align: int = 0, **loop: Any) -> dict[str, Any]:
    steps = {"max_steps": 5, "learning_rate": 1e-2, "logging_steps": 2, "save_steps": 2}
    return {
        "rank": 4,
        "dropout": 0.0,
        "validation_users": 30,
        "beams": 10,
        "tasks": {"next_item": 1.0, "rank": 0.5, "item_to_text": 0.5},  # answers of any length
        "align": {"steps": align, "learning_rate": 1e-2},
        "loop": steps | {"batch_size": batch} | loop,
    }


def environment_of(config: str) -> dict[str, str]:
    """What ``accelerate launch --config_file`` sets for a run; a file it cannot read fails."""
    arguments = ["--config_file", str(CONFIGS / config), "-m", "llmrec"]
    parsed, *_ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    wanted = prepare_multi_gpu_env(parsed)
    return {k: v for k, v in wanted.items() if os.environ.get(k) != v and "MASTER" not in k}


def test_two_processes_train_as_one(home: Path, tmp_path: Path, forks: Forks) -> None:
    two, job = recipe(4, align=3, gradient_accumulation=2), tmp_path / "job"
    job.mkdir()
    assert forks.tune(recipe(16, align=3), home, tmp_path / "one").statuses == [0]
    # stopped in the alignment and in the training that follows; where one is asked, both stop
    for _ in range(2):
        (job / "stop").touch()
        asked = {"LLMREC_JOB": str(job)}
        ended = forks.tune(two, home, tmp_path / "two", processes=2, first=asked)
        assert ended.statuses == [143, 143], ended.printed[0]
        (job / "stop").unlink()
    ended = forks.tune(two, home, tmp_path / "two", processes=2, LLMREC_JOB=str(job))
    assert ended.statuses == [0, 0]
    for stage in ("align", "tune"):
        found = losses(tmp_path / "two", stage)
        assert found == pytest.approx(losses(tmp_path / "one", stage), rel=1e-5)
    for part in ("base", "adapter"):
        one, other = weights(tmp_path / "one" / part), weights(tmp_path / "two" / part)
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, atol=1e-4, rtol=1e-3)
    assert [line["step"] for line in log_of(tmp_path / "two")] == [0, 2, 3, 0, 2, 4, 5, 5]
    first, second = ended.printed
    assert "validation_ndcg@10" in first and "step 8/8" in first
    assert "validation" not in second and "step" not in second
    whole = read_manifest(tmp_path / "two")
    assert whole.config["processes"] == 2  # as many examples again make another run
    ended = forks.tune(two, home, tmp_path / "two", processes=2)
    assert ended.statuses == [0, 0] and "up to date" in ended.printed[0]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_in_shards_trains_as_a_whole_one(
    home: Path, tmp_path: Path, forks: Forks, method: str
) -> None:
    more = {"validate_every": 2, "keep": "best", "learning_rate": 2e-2}
    one, two = (recipe(batch, **more) | {"method": method} for batch in (8, 4))
    assert forks.tune(one, home, tmp_path / "one").statuses == [0]
    sharded = environment_of("fsdp.yaml")
    assert sharded["ACCELERATE_USE_FSDP"] == "true" and sharded["FSDP_VERSION"] == "2"
    job = tmp_path / "job"
    job.mkdir()
    (job / "stop").touch()
    ended = forks.tune(two, home, tmp_path / "two", processes=2, LLMREC_JOB=str(job), **sharded)
    assert ended.statuses == [143, 143], ended.printed[0]
    ended = forks.tune(two, home, tmp_path / "two", processes=2, **sharded)
    assert ended.statuses == [0, 0], ended.printed[0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    part = "model" if method == "full" else "adapter"
    expected, found = weights(tmp_path / "one" / part), weights(tmp_path / "two" / part)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-2)
    assert counts_of(tmp_path / "two")["kept_step"] < 5, "the best is not the last"
    for name in ("kept_step", "trained_parameters"):
        assert counts_of(tmp_path / "two")[name] == counts_of(tmp_path / "one")[name]


def test_what_is_not_trained_in_shards_is_refused(home: Path, tmp_path: Path, forks: Forks) -> None:
    for wrong, message in (
        (recipe(4) | {"method": "qlora"}, "method: weights in 4 bits are not divided"),
        (recipe(4, align=2), "align.steps: rows of new tokens are not trained in parts"),
    ):
        ended = forks.tune(wrong, home, tmp_path / "out", ACCELERATE_USE_FSDP="true")
        assert ended.statuses == [2]
        assert message in ended.printed[0]


def test_a_loss_that_is_no_number_ends_both(home: Path, tmp_path: Path, forks: Forks) -> None:
    wild = recipe(4, learning_rate=1e25, save_steps=1, warmup_ratio=0.0)
    ended = forks.tune(wild, home, tmp_path / "out", processes=2)
    assert ended.statuses == [2, 2]
    assert all("the last good checkpoint is" in printed for printed in ended.printed)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("cpu-2.yaml", "MULTI_GPU"),
        ("ddp.yaml", "MULTI_GPU"),
        ("fsdp.yaml", "FSDP"),
        ("deepspeed_zero3.yaml", "DEEPSPEED"),
    ],
)
def test_accelerate_reads_every_config(config: str, kind: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(CONFIGS / config))
    assert loaded.distributed_type.value == kind
    assert loaded.num_processes == 2
    assert {path.name for path in CONFIGS.iterdir()} == {
        "cpu-2.yaml",
        "ddp.yaml",
        "fsdp.yaml",
        "deepspeed_zero3.yaml",
    }
    arguments = ["--config_file", str(CONFIGS / config), "-m", "llmrec"]
    parsed, *_ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    assert parsed.multi_gpu or parsed.use_fsdp or parsed.use_deepspeed, "one process otherwise"
    assert parsed.num_processes == 2
