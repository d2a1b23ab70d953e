"""Mistakes are named before time is spent."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from prefer_runs import make_adapter, tiny_prefer
from tiny_models import make_histories, write_dataset

from llmrec.cli import run_command
from llmrec.config import build
from llmrec.errors import ArtifactError, ConfigError, DataError, LlmrecError
from llmrec.training.preference.run import run
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.tune import trainer


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"method": "ppo"}, "'ppo' is not one of dpo, grpo"),
        ({"beta": 0}, "beta: must be above 0, got 0.0"),
        ({"beta": -0.1}, "beta: must be above 0, got -0.1"),
        ({"beta": float("nan")}, "beta: must be above 0, got nan"),
        ({"grpo": {"group": 1}}, "grpo.group: must be 2 or more, got 1"),
        ({"grpo": {"scale": "batch"}}, "'batch' is not one of none, group"),
        ({"rewards": {"hit": 0}}, "rewards: all weights are 0"),
        ({"rewards": {"hit": 0, "valid": 1}}, "only valid has a weight, .* trains nothing"),
        ({"rewards": {"stock": -1}}, "rewards.stock: must be 0 or more, got -1"),
        ({"rewards": {"price": float("inf")}}, "rewards.price: must be 0 or more, got inf"),
        ({"rewards": {"brand": 1}}, "unknown key 'brand'; did you mean 'rank'"),
        ({"rewards": {"price_share": 0}}, "rewards.price_share: must be in"),
        ({"rewards": {"price_margin": 0.5}}, "rewards.price_margin: must be 1 or more"),
        ({"dpo": {"rejected": 0}}, "dpo.rejected: must be 1 or more"),
        ({"dpo": {"chosen": []}}, "dpo.chosen: 'nothing' is no event type"),
        ({"dpo": {"chosen": ["klick"]}}, "dpo.chosen: 'klick' is no event type; known: view"),
        ({"dpo": {"likelihood": -1}}, "dpo.likelihood: must be 0 or more"),
        ({"dpo": {"negatives": "random"}}, "'random' is not one of shown, popular, model"),
        ({"rank": 0}, "rank: must be 1 or more"),
        ({"targets": ["lm_head"]}, "targets: 'lm_head' holds the rows of tokens"),
        ({"loop": {"max_steps": 0, "epochs": 0}}, "loop: trains nothing"),
        ({"loop": {"validate_every": 5}}, "loop: validate_every, keep and patience are of"),
        ({"name": "my adapter"}, "name: 'my adapter' cannot be an adapter's"),
        ({"validation_users": -1}, "validation_users: must be 0 or more"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(PreferConfig, section, "recipe.yaml: prefer")


def fails(home: Path, tmp_path: Path, message: str, **changes: Any) -> None:
    """A run must end with this message and leave nothing."""
    place = {"base": home / "atomic", "adapter": home / "atomic-adapter", "impressions": None}
    place |= {"dataset": home / "dataset"}
    given = {name: changes.pop(name) for name in place if name in changes}
    with pytest.raises((ConfigError, ArtifactError, DataError), match=message):
        run(tiny_prefer(**changes), out=tmp_path / "out", **(place | given))
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_base(home: Path, tmp_path: Path) -> None:
    message = "adapter 'start' was made for the base 'untied' .* is another"
    fails(home, tmp_path, message, adapter=home / "untied-adapter")
    fails(home, tmp_path, "not found; save the adapter again", adapter=tmp_path / "nowhere")


def test_a_base_that_was_not_expanded(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "atomic", tmp_path / "base")
    (tmp_path / "base" / "llmrec.json").unlink()
    fails(home, tmp_path, "base has no llmrec.json", base=tmp_path / "base")


def test_a_base_of_another_catalogue(home: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", make_histories(60, 30), 30)
    fails(home, tmp_path, "knows 40 items, .*other has 30", dataset=tmp_path / "other")


def test_rules_about_what_the_catalogue_does_not_say(home: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "bare", make_histories(60, 40), 40)
    bare = tmp_path / "bare"
    fails(home, tmp_path, "rewards.stock: no item", dataset=bare, rewards={"stock": 1.0})
    fails(home, tmp_path, "rewards.price: no item", dataset=bare, rewards={"price": 1.0})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_bf16_without_units_for_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "bfloat16_products_differ", lambda: False)
    monkeypatch.setattr(trainer, "computes", lambda *_: False)
    fails(home, tmp_path, "bf16 needs a GPU, or a CPU with", loop={"precision": "bf16"})


def test_several_processes(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    fails(home, tmp_path, "runs in one process")


def test_a_log_without_pairs(home: Path, tmp_path: Path) -> None:
    message = "has no record of what was shown .* give a log of lists with --impressions"
    fails(home, tmp_path, message, method="dpo", dpo={"negatives": "shown"})


def test_impressions_that_are_not_read(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    fails(home, tmp_path, "are read for method: dpo with", impressions=path)
    shown = {"method": "dpo", "dpo": {"negatives": "shown"}, "impressions": path}
    fails(home, tmp_path, "lists.jsonl: no such file", **shown)
    path.write_text("{}\n")
    fails(home, tmp_path, "lists.jsonl: no column 'user_id'", **shown)


def test_a_group_as_large_as_the_catalogue(home: Path, tmp_path: Path) -> None:
    fails(
        home,
        tmp_path,
        "40 different items cannot be sampled from a catalogue of 40",
        grpo={"group": 40},
    )


def test_fewer_examples_than_a_step(home: Path, tmp_path: Path) -> None:
    message = r"loop: there are \d+ examples, fewer than the 900 of one step"
    for method in ("dpo", "grpo"):
        fails(home, tmp_path, message, method=method, loop={"batch_size": 900})


def test_histories_too_short_to_ask(home: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "short", [[n, n + 1, n + 2] for n in range(20)], 40)
    message = "nobody in .*short has two training events"
    fails(home, tmp_path, message, dataset=tmp_path / "short", rewards={"hit": 1.0})


def test_a_recipe_without_a_section(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("tune: {}\n")
    flags = ["--base", "b", "--dataset", "d", "--out", "o"]
    with pytest.raises(ConfigError, match=r"recipe.yaml: has no `prefer:` section"):
        run_command(["prefer", str(tmp_path / "recipe.yaml"), *flags])


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_numbers_that_are_none_stop_the_run(home: Path, tmp_path: Path, method: str) -> None:
    loop = {"learning_rate": 1e25, "save_steps": 1, "warmup_ratio": 0.0}
    place = home / "atomic", home / "dataset"
    with pytest.raises(LlmrecError, match=r"training: the .* stopped being .* lower loop.learning"):
        run(tiny_prefer(method, loop), *place, tmp_path / "out", home / "atomic-adapter")
    kept = tmp_path / ".out.part" / "work" / method / "checkpoint-1"
    assert json.loads((kept / "trainer_state.json").read_text())["global_step"] == 1


def test_a_start_with_a_damaged_file(home: Path, tmp_path: Path) -> None:
    make_adapter(home / "atomic", tmp_path / "start")
    path = tmp_path / "start" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    fails(home, tmp_path, "save the adapter again", adapter=tmp_path / "start")
