"""Mistakes are named before time is spent, and trouble while training says what to do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_histories, write_dataset
from tune_runs import tiny_tune

from llmrec.cli import run_command
from llmrec.config import build, load_yaml
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError, LlmrecError
from llmrec.training.tasks.mixture import Mixture
from llmrec.training.tasks.names import TASK_NAMES
from llmrec.training.tune import trainer
from llmrec.training.tune.base import open_base
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.run import run
from llmrec.training.tune.settings import TuneConfig
from llmrec.training.tune.training_run import TuneRun


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rank": 0}, "rank: must be 1 or more, got 0"),
        ({"targets": []}, "targets: an adapter on no layer trains nothing"),
        ({"targets": ["q_proj", "lm_head"]}, "targets: 'lm_head' holds the rows of tokens"),
        ({"alpha": 0}, "alpha: must be above 0"),
        ({"dropout": 1.0}, r"dropout: must be in \[0, 1\)"),
        ({"tasks": {}}, "tasks: trains nothing"),
        ({"tasks": {"next_item": 0, "rank": 0}}, "tasks: trains nothing"),
        ({"tasks": {"next_itme": 1}}, "unknown key 'next_itme'; did you mean 'next_item'"),
        ({"tasks": {"poetry": 1}}, "unknown key 'poetry'; known keys: next_item, history, text"),
        ({"tasks": {"rank": -1}}, "tasks.rank: a weight must be 0 or above"),
        ({"tasks": {"rank": float("nan")}}, "tasks.rank: a weight must be 0 or above"),
        ({"loop": {"epochs": 0}}, "loop: trains nothing; set max_steps or epochs"),
        ({"loop": {"batch_size": 0}}, "loop.batch_size: must be 1 or more"),
        ({"loop": {"max_length": 4}}, "loop.max_length: must be 8 or more"),
        ({"loop": {"learning_rate": 0}}, "loop.learning_rate: must be above 0"),
        ({"loop": {"warmup_ratio": 1.5}}, "loop.warmup_ratio: must be in"),
        ({"loop": {"precision": "fp8"}}, "'fp8' is not one of auto, fp32, bf16"),
        ({"loop": {"validate_every": -1}}, "loop.validate_every: must be 0 or more"),
        ({"loop": {"keep": "best"}}, "only where loop.validate_every is set"),
        ({"loop": {"keep": "first"}}, "'first' is not one of last, best"),
        ({"loop": {"validate_every": 5, "patience": 2}}, "set loop.keep: best to keep those"),
        ({"align": {"steps": -1}}, "align.steps: must be 0 or more"),
        ({"align": {"learning_rate": 0}}, "align.learning_rate: must be above 0"),
        ({"method": "dora"}, "'dora' is not one of lora, qlora, full"),
        ({"name": "my adapter"}, "name: 'my adapter' cannot be an adapter's"),
        ({"beams": 0}, "beams: must be 1 or more"),
        ({"user_share": 0}, r"user_share: must be in \(0, 1\]"),
        ({"user_share": 1.2}, r"user_share: must be in \(0, 1\]"),
        ({"domain": "food", "tasks": {"history": 1}}, "tasks.history: learns from every event"),
        ({"validation_users": -1}, "validation_users: must be 0 or more"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(TuneConfig, section, "recipe.yaml: tune")


OURS = [name for name in TASK_NAMES if name != "instructions"]  # which need no file


def test_the_shipped_recipe_is_right() -> None:
    recipe = Path(__file__).parents[3] / "training" / "tune_demo.yaml"
    config = build(TuneConfig, load_yaml(recipe)["tune"], str(recipe))
    assert set(config.tasks) == set(OURS)


def test_a_full_run_needs_no_adapter() -> None:
    assert build(TuneConfig, {"method": "full", "rank": 0, "targets": []}, "x").rank == 0


def fails(home: Path, tmp_path: Path, message: str, **changes: Any) -> None:
    """A run must end with this message and leave nothing."""
    base, dataset = changes.pop("base", home / "atomic"), changes.pop("dataset", home / "dataset")
    with pytest.raises(ConfigError, match=message):
        run(tiny_tune(**changes), base, dataset, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_a_base_that_was_not_expanded(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "atomic", tmp_path / "base")
    (tmp_path / "base" / "llmrec.json").unlink()
    fails(home, tmp_path, r"--base: .*base has no llmrec.json", base=tmp_path / "base")
    fails(home, tmp_path, "run llmrec model expand", base=tmp_path / "nowhere")


def test_a_base_whose_layout_is_damaged(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "atomic", tmp_path / "base")
    (tmp_path / "base" / "llmrec.json").write_text('{"base_size": 3}')
    fails(home, tmp_path, "is no expanded model", base=tmp_path / "base")


def test_a_tokenizer_without_the_items(home: Path, tmp_path: Path) -> None:
    from llmrec.llm.tokenizer import train_tokenizer

    shutil.copytree(home / "atomic", tmp_path / "base")
    train_tokenizer(["item"], 300).save_pretrained(tmp_path / "base")
    fails(home, tmp_path, "has no token <item_0>; it does not belong", base=tmp_path / "base")


def test_a_tokenizer_that_splits_an_item(home: Path, tmp_path: Path) -> None:
    """The tokens are in the vocabulary, but no longer read as one."""
    shutil.copytree(home / "atomic", tmp_path / "base")
    path = tmp_path / "base" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    items = [t for t in tokenizer["added_tokens"] if t["content"].startswith("<item_")]
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t not in items]
    tokenizer["model"]["vocab"] |= {token["content"]: token["id"] for token in items}
    path.write_text(json.dumps(tokenizer))
    config = json.loads((tmp_path / "base" / "tokenizer_config.json").read_text())
    config.pop("added_tokens_decoder", None)
    config.pop("extra_special_tokens", None)
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(config))
    message = r"splits <item_0> into \d+ tokens"
    fails(home, tmp_path, message, base=tmp_path / "base")


def test_a_base_of_another_catalogue(home: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", make_histories(60, 30), 30)
    fails(home, tmp_path, "knows 40 items, .*other has 30", dataset=tmp_path / "other")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_bf16_without_units_for_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "bfloat16_products_differ", lambda: False)
    monkeypatch.setattr(trainer, "computes", lambda *_: False)
    fails(home, tmp_path, "bf16 needs a GPU, or a CPU with", loop={"precision": "bf16"})


def test_fewer_examples_than_a_step(home: Path, tmp_path: Path) -> None:
    loop = {"batch_size": 100, "gradient_accumulation": 3}
    fails(home, tmp_path, r"there are \d+ examples, fewer than the 300 of one step", loop=loop)


def test_targets_that_no_layer_has(home: Path, tmp_path: Path) -> None:
    message = "no linear layer of the base is named 'c_attn'; down_proj, gate_proj"
    fails(home, tmp_path, message, targets=["q_proj", "c_attn"])


def test_a_name_that_adapters_cannot_have(home: Path, tmp_path: Path) -> None:
    fails(home, tmp_path, "adapter: 'items' cannot be its name", name="items")
    fails(home, tmp_path, "name: 'a.b' cannot be an adapter's", name="a.b")


def test_a_base_that_is_stored_quantised(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "atomic", tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {}}))
    fails(home, tmp_path, "are stored quantised; give it in full", base=tmp_path / "base")


def test_a_length_that_holds_no_event(home: Path, tmp_path: Path) -> None:
    message = r"loop.max_length: 20 tokens cannot hold an event and its answer; set at least \d+"
    fails(home, tmp_path, message, loop={"max_length": 20}, base=home / "untied")


def test_a_dataset_without_what_a_task_needs(home: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "bare", make_histories(60, 40), 40)
    message = "tasks.taste: no item of .*bare has categories or brand"
    fails(home, tmp_path, message, dataset=tmp_path / "bare", tasks={"taste": 1})
    write_dataset(tmp_path / "short", [[n, n + 1, n + 2] for n in range(20)], 40)
    message = "tasks.next_item: nobody in .*short has two training events"
    fails(home, tmp_path, message, dataset=tmp_path / "short")


def test_a_dataset_without_validation_events(home: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "all", make_histories(60, 40), 40, held_out=False)
    with pytest.raises(DataError, match="has no validation events"):
        run(tiny_tune(), home / "atomic", tmp_path / "all", tmp_path / "tuned")


def test_a_recipe_without_a_section(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("train: {}\n")
    flags = ["--base", "b", "--dataset", "d", "--out", "o"]
    with pytest.raises(ConfigError, match=r"recipe.yaml: has no `tune:` section"):
        run_command(["tune", str(tmp_path / "recipe.yaml"), *flags])


def test_a_loss_that_is_no_number_stops_the_run(home: Path, tmp_path: Path) -> None:
    config = tiny_tune({"learning_rate": 1e25, "save_steps": 1, "warmup_ratio": 0.0})
    with pytest.raises(LlmrecError, match=r"not a number|stopped being a number") as caught:
        run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    step = int(str(caught.value).split("step ")[1].split(";")[0])
    kept = tmp_path / ".tuned.part" / "work" / "tune" / f"checkpoint-{step - 1}"
    assert step > 1 and f"the last good checkpoint is {kept}" in str(caught.value)
    from safetensors.torch import load_file

    adapter = load_file(kept / "adapter_model.safetensors")
    assert all(torch.isfinite(value).all() for value in adapter.values())


def test_memory_that_runs_out_says_what_to_lower(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: Any) -> None:
        torch.empty(2**50, dtype=torch.uint8)

    monkeypatch.setattr(Mixture, "example", greedy)
    fails(home, tmp_path, r"out of memory; lower loop.batch_size .* loop.max_length")


def test_other_errors_are_not_taken_for_memory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(Mixture, "example", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(tiny_tune(), home / "atomic", home / "dataset", tmp_path / "tuned")


def test_no_task_needs_a_chat_template(home: Path, tmp_path: Path) -> None:
    """Words come from prompts/ alone, so a base without a template learns every task."""
    shutil.copytree(home / "atomic", tmp_path / "base")
    for path in (tmp_path / "base").glob("chat_template*"):
        path.unlink()
    path = tmp_path / "base" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    path.write_text(json.dumps(config))
    assert open_base(tmp_path / "base").tokenizer.chat_template is None
    tasks = dict.fromkeys(OURS, 1.0)
    run(
        tiny_tune({"max_steps": 2}, tasks=tasks),
        tmp_path / "base",
        home / "dataset",
        tmp_path / "t",
    )


def test_a_step_is_as_large_as_all_processes_make_it(home: Path, tmp_path: Path) -> None:
    dataset = Dataset(home / "dataset")
    config = tiny_tune({"batch_size": 200})
    place = home / "atomic", None, dataset, None, tmp_path, 0
    assert TuneRun(config, *place, Processes()).progress.examples_per_step == 200
    with pytest.raises(
        ConfigError, match=r"there are 213 examples, fewer than the 400 of one step"
    ):
        TuneRun(config, *place, Processes(0, 2))
