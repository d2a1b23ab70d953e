"""A killed run goes on exactly where it was; a diverging one keeps its last checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from tiny_models import Folders, tiny_config

from llmrec.config import build
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.loop.checkpoint import STATE, load_checkpoint
from llmrec.training.next_item.llm_run import prepare
from llmrec.training.next_item.loop import NextItemTrainer
from llmrec.training.next_item.run import run
from llmrec.training.next_item.settings import TrainConfig, TrainLoopConfig
from llmrec.training.next_item.validation import validation_cases

EPOCHS = 6
SETTINGS: dict[str, Any] = {
    "base": "nano",
    "content": {},
    "dropout": 0.2,  # so that the random state matters
    "max_items": 8,
    "beams": 5,
    "validation_users": 40,
    "loop": {
        "epochs": EPOCHS,
        "patience": EPOCHS,
        "warmup_steps": 2,
        "tokens_per_batch": 40,
        "schedule": "cosine",
    },
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums must be made in one order to be equal to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in entry.items() if k != "minutes"} for entry in log]


def train_and_kill(folders: Folders, out: Path) -> list[dict[str, float]]:
    """Train in a process of its own, SIGKILL it after its first checkpoint; the log so far."""
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"train": SETTINGS}))
    command = [sys.executable, "-m", "llmrec", "train", str(recipe), "--seed", "5"]
    command += ["--dataset", str(folders.dataset), "--item-ids", str(folders.semantic)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [*command, "--out", str(out)], env=environment, stdout=subprocess.PIPE, text=True
    )
    checkpoint = out.parent / f".{out.name}.part" / "work" / STATE
    deadline = time.monotonic() + 240
    while not checkpoint.is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    printed, _ = child.communicate()
    assert child.returncode == -signal.SIGKILL, f"the run was over before the kill: {printed}"
    log: list[dict[str, float]] = json.loads(checkpoint.read_text())["log"]
    return log


def test_a_killed_run_ends_as_if_it_had_not_been(
    folders: Folders, tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = build(TrainConfig, SETTINGS, "test")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    before_kill = train_and_kill(folders, killed)
    assert 1 <= len(before_kill) < EPOCHS
    assert not killed.exists(), "an unfinished model must not look like a finished one"
    for out in (whole, killed):
        run(config, folders.dataset, out, folders.semantic, seed=5)
    printed = capsys.readouterr().out
    assert printed.count("epoch 1 ") == 1, "the killed run began again"
    logs = [losses(json.loads((out / "log.json").read_text())) for out in (killed, whole)]
    assert len(logs[1]) == EPOCHS
    assert logs[0] == logs[1]
    assert losses(before_kill) == logs[1][: len(before_kill)]
    weights = [load_file(out / "model.safetensors") for out in (killed, whole)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[1].items():
        np.testing.assert_array_equal(weights[0][name], value, err_msg=name)
    assert not list(tmp_path.glob(".*.part")), "the work folder must be gone"


def prepared_trainer(folders: Folders, folder: Path, **loop: Any) -> NextItemTrainer:
    """A trainer as ``run`` makes it, with its work folder in our hands."""
    config = tiny_config(loop)
    torch.manual_seed(0)
    dataset = Dataset(folders.dataset)
    cases = validation_cases(dataset, 20, 0)
    made = prepare(config, dataset, folders.atomic, None, cases, 0)
    return NextItemTrainer(made.model, made.batches, made.validate, config.loop, folder)


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(
    folders: Folders, tmp_path: Path
) -> None:
    prepared_trainer(folders, tmp_path, epochs=1).run()
    saved = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    diverging = prepared_trainer(folders, tmp_path, epochs=3, learning_rate=1e30)
    with pytest.raises(LlmrecError, match=r"the loss became (nan|inf) in epoch 2, step") as caught:
        diverging.run()
    assert str(tmp_path) in str(caught.value)
    assert "lower learning_rate" in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == saved
    assert prepared_trainer(folders, tmp_path, epochs=2).run().epoch == 2


def test_a_diverging_run_leaves_no_model(folders: Folders, tmp_path: Path) -> None:
    config = tiny_config({"learning_rate": 1e30, "warmup_steps": 1})
    with pytest.raises(LlmrecError, match="the loss became"):
        run(config, folders.dataset, tmp_path / "model", folders.atomic)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("damage", ["cut", "missing", "not json"])
def test_a_damaged_checkpoint_is_named(folders: Folders, tmp_path: Path, damage: str) -> None:
    prepared_trainer(folders, tmp_path, epochs=1).run()
    (tensors,) = tmp_path.glob("*-checkpoint.safetensors")
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:500])
    elif damage == "missing":
        tensors.unlink()
    else:
        (tmp_path / STATE).write_text("{")
    with pytest.raises(ArtifactError, match=f"{tmp_path}: cannot go on .* remove it to start"):
        prepared_trainer(folders, tmp_path, epochs=2).run()


def test_a_checkpoint_restores_weights_average_optimizer_and_randomness(
    folders: Folders, tmp_path: Path
) -> None:
    first = prepared_trainer(folders, tmp_path, epochs=1)
    assert not load_checkpoint(tmp_path, first.weights, first.optimizer, first.state)
    first.run()
    drawn = torch.rand(3)
    moments = first.optimizer.state_dict()["state"]
    second = prepared_trainer(folders, tmp_path, epochs=1)
    assert load_checkpoint(tmp_path, second.weights, second.optimizer, second.state)
    assert second.state == first.state and second.state.epoch == 1
    assert torch.equal(torch.rand(3), drawn)
    average = first.validated_model.state_dict()
    for name, value in second.validated_model.state_dict().items():
        assert torch.equal(value, average[name]), name
    restored = second.optimizer.state_dict()["state"]
    assert restored.keys() == moments.keys()
    for index, values in moments.items():
        for name, value in values.items():
            assert torch.equal(restored[index][name], value)


def test_settings_of_the_loop_are_checked() -> None:
    for wrong in ({"epochs": 0}, {"learning_rate": 0.0}, {"average_decay": 1.0}, {"patience": 0}):
        with pytest.raises(ConfigError, match=f"train.{next(iter(wrong))}: must be"):
            TrainLoopConfig(**wrong)
