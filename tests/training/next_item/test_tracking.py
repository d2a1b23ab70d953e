"""Trackers are told the curves, the settings and the hashes of the inputs: read back from files."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import Folders, tiny_config
from wandb_files import read_run

from llmrec.loop.tracking import FOLDER, describe_run, tracked
from llmrec.stage import folder_hash, read_manifest
from llmrec.training.next_item.run import run


def check_described(told: dict[str, Any], folders: Folders, seed: int) -> None:
    """What decides the run is there, by the names of the manifest."""
    assert told["loop.epochs"] == 2
    assert told["base"] == "nano"
    assert told["seed"] == seed
    for name in ("dataset", "item_ids"):
        folder = folders.dataset if name == "dataset" else folders.atomic
        assert told[f"inputs.{name}"] == folder_hash(folder)


def curve(log: list[dict[str, Any]], name: str) -> list[float]:
    return [line[name] for line in log if name in line]


def test_wandb_offline_holds_curves_settings_and_hashes(
    folders: Folders, tmp_path: Path, wandb_offline: None
) -> None:
    out = tmp_path / "model"
    run(tiny_config({"report_to": "wandb"}), folders.dataset, out, folders.atomic, seed=3)
    (found,) = (out / FOLDER / "wandb").glob("offline-run-*")
    config, history, summary = read_run(found)
    check_described(config, folders, 3)
    log = json.loads((out / "log.json").read_text())
    assert len(log) == 2
    for name in ("loss", "validation_ndcg@10"):
        assert curve(history, name) == pytest.approx(curve(log, name))
        assert summary[name] == pytest.approx(curve(log, name)[-1])
    steps = curve(history, "_step")
    assert steps == sorted(set(steps))
    read_manifest(out, "train", hashes=True)  # and the folder is whole


def test_tensorboard_holds_curves_settings_and_hashes(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "model"
    run(tiny_config({"report_to": "tensorboard"}), folders.dataset, out, folders.atomic, seed=3)
    log = json.loads((out / "log.json").read_text())
    scalars, told = read_events(out / FOLDER)
    check_described(told, folders, 3)
    for name in ("loss", "validation_ndcg@10"):
        assert scalars[name] == pytest.approx(curve(log, name))


def read_events(folder: Path) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Curves, and settings, of all event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    scalars: dict[str, list[float]] = {}
    told: dict[str, Any] = {}
    for path in sorted(folder.rglob("events.out*")):
        events = EventAccumulator(str(path))
        events.Reload()
        for name in events.Tags()["scalars"]:
            scalars[name] = [event.value for event in events.Scalars(name)]
        try:
            contents = events.PluginTagToContent("hparams")
        except KeyError:  # a file of curves alone
            contents = {}
        for data in contents.values():
            content = plugin_data_pb2.HParamsPluginData.FromString(data)
            for name, value in content.session_start_info.hparams.items():
                told[name] = getattr(value, value.WhichOneof("kind"))
    return scalars, told


def test_a_run_that_was_killed_goes_on_as_the_same_one(tmp_path: Path, wandb_offline: None) -> None:
    described = describe_run({"loop": {"rate": 0.5}}, {"dataset": "ab"}, 1)
    for _ in range(2):
        with tracked("wandb", tmp_path, described):
            import wandb

            assert wandb.run is not None
            wandb.run.log({"x": 1.0})
    found = list((tmp_path / FOLDER / "wandb").glob("offline-run-*/run-*.wandb"))
    assert (len(found), len({path.stem for path in found})) == (2, 1)


def test_a_trainer_of_transformers_has_settings_beside_its_curves(tmp_path: Path) -> None:
    described = describe_run({"loop": {"rate": 0.5}, "on": True}, {"dataset": "ab"}, 1)
    with tracked("tensorboard", tmp_path, described):
        pass
    _, told = read_events(tmp_path / FOLDER)
    assert told == {"loop.rate": 0.5, "on": True, "seed": 1.0, "inputs.dataset": "ab"}
