"""``llmrec prefer`` from inputs to a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from prefer_runs import counts_of, log_of, tiny_prefer
from safetensors.torch import load_file
from test_import_light import heavy_after

from llmrec.cli import main as cli
from llmrec.config import build, load_yaml
from llmrec.data.dataset import Dataset
from llmrec.generation.llm import Llm
from llmrec.generation.load import load_llm
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.llm.adapters import read_adapter
from llmrec.metrics.bootstrap import compare
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.preference.reward_cases import reward_per_case
from llmrec.training.preference.run import run
from llmrec.training.preference.settings import PreferConfig

RECIPES = Path(__file__).parents[3] / "training"


def served(base: Path, adapter: Path) -> Llm:
    """An adapter as somebody else would open it."""
    loaded = load_llm_with_adapters(base, [adapter], beams=40)
    return loaded.with_adapter(read_adapter(adapter).name)


@pytest.mark.parametrize("method", ["dpo", "grpo"])
@pytest.mark.parametrize(("base", "dataset"), [("atomic", "dataset"), ("untied", "timed")])
def test_what_is_served_is_what_was_measured(
    home: Path, tmp_path: Path, method: str, base: str, dataset: str
) -> None:
    out, start = tmp_path / "out", home / f"{base}-adapter"
    config = tiny_prefer(method)
    assert run(config, home / base, home / dataset, out, start) == out
    data = Dataset(home / dataset)
    cases = validation_cases(data, 30, 0)
    before, after = served(home / base, start), served(home / base, out / "adapter")
    counts, log = counts_of(out), log_of(out)
    for llm, name in ((before, "_before"), (after, "")):
        rewards = reward_per_case(llm, cases, data, config.rewards)
        assert counts[f"reward{name}"] == pytest.approx(rewards["total"].mean(), abs=1e-6)
        assert counts[f"reward_stock{name}"] == pytest.approx(rewards["stock"].mean(), abs=1e-6)
        metrics = validation_metrics(llm, cases)
        assert counts[f"validation_ndcg{name}"] == pytest.approx(metrics["ndcg@10"], abs=1e-6)
    one, other = (
        reward_per_case(llm, cases, data, config.rewards)["total"] for llm in (before, after)
    )
    (expected,) = compare({"total": one}, {"total": other}, cases.users)
    assert counts["reward_interval"] == pytest.approx(expected.interval, abs=1e-6)
    assert [e["step"] for e in log] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert log[0]["validation_reward"] == counts["reward_before"]
    assert log[-1]["validation_ndcg@10"] == pytest.approx(counts["validation_ndcg"])
    kept = {"dpo": {"accuracy", "margin"}, "grpo": {"kl", "expected_reward"}}[method]
    assert all({"loss", "grad_norm", *kept} <= line.keys() for line in log[1:-1])
    files = {"adapter", "log.json", "manifest.json", "training.png"}
    assert {path.name for path in out.iterdir()} == files
    assert (out / "training.png").stat().st_size > 1000


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_only_the_adapter_changes_and_it_changes_from_its_start(
    home: Path, tmp_path: Path, method: str
) -> None:
    start = home / "atomic-adapter"
    before = {p: p.read_bytes() for p in (home / "atomic").rglob("*") if p.is_file()}
    config = tiny_prefer(method, {"max_steps": 1, "learning_rate": 1e-3, "warmup_ratio": 0.0})
    run(config, home / "atomic", home / "dataset", tmp_path / "out", start)
    assert all(path.read_bytes() == content for path, content in before.items())
    old = load_file(start / "adapter_model.safetensors")
    new = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert old.keys() == new.keys() and all(v.dtype == torch.float32 for v in new.values())
    moved = [float((new[name] - value).abs().max()) for name, value in old.items()]
    assert min(moved) > 1e-5 and max(moved) <= 1.01e-3, "Adam's first step is the rate at most"
    info = read_adapter(tmp_path / "out" / "adapter")
    assert (info.name, info.rank, info.task) == ("prefer", 4, f"next_item, {method}")


def test_grpo_learns_to_keep_a_rule(home: Path, tmp_path: Path) -> None:
    config = tiny_prefer(
        loop={"max_steps": 25, "batch_size": 8, "learning_rate": 2e-2},
        rewards={"hit": 0.0, "stock": 1.0},
        grpo={"group": 8},
        beta=0.01,
        rank=8,
    )
    run(config, home / "atomic", home / "dataset", tmp_path / "out")
    counts, log = counts_of(tmp_path / "out"), log_of(tmp_path / "out")
    expected = [entry["expected_reward"] for entry in log if "expected_reward" in entry]
    assert np.mean(expected[-3:]) > np.mean(expected[:3]) + 0.15
    assert counts["reward_stock"] > counts["reward_stock_before"] + 0.15
    assert counts["reward_interval"][0] > 0
    assert log[1]["kl"] == pytest.approx(0.0, abs=1e-6) and log[-2]["kl"] > 0.01


def test_beta_holds_the_model_to_its_start(home: Path, tmp_path: Path) -> None:
    kl = {}
    for beta in (0.001, 10.0):
        loop = {"max_steps": 30, "learning_rate": 2e-4}
        config = tiny_prefer(loop=loop, rewards={"stock": 1.0}, beta=beta)
        out = tmp_path / str(beta)
        run(config, home / "atomic", home / "dataset", out, home / "atomic-adapter")
        kl[beta] = np.mean([entry["kl"] for entry in log_of(out) if "kl" in entry][-10:])
    assert kl[10.0] < kl[0.001] / 3


def test_dpo_learns_its_pairs(home: Path, tmp_path: Path) -> None:
    config = tiny_prefer(
        "dpo",
        {"max_steps": 25, "batch_size": 16},
        dpo={"negatives": "model", "rejected": 2, "likelihood": 0.1},
        rank=8,
    )
    run(config, home / "atomic", home / "dataset", tmp_path / "out")
    log = [entry for entry in log_of(tmp_path / "out") if "accuracy" in entry]
    assert log[0]["accuracy"] == 0, "the start prefers neither, as it is the reference"
    assert np.mean([e["accuracy"] for e in log[-5:]]) > 0.8
    assert np.mean([e["margin"] for e in log[-5:]]) > 0.1
    assert (
        counts_of(tmp_path / "out")["reward_hit"] > counts_of(tmp_path / "out")["reward_hit_before"]
    )


def test_the_likelihood_of_the_chosen_item_counts_by_its_weight(home: Path, tmp_path: Path) -> None:
    beside = {}
    for weight in (0.0, 0.1, 0.3):
        config = tiny_prefer("dpo", {"max_steps": 1}, dpo={"likelihood": weight})
        run(config, home / "atomic", home / "dataset", tmp_path / str(weight))
        loss = next(entry["loss"] for entry in log_of(tmp_path / str(weight)) if "loss" in entry)
        beside[weight] = loss - np.log(2)  # of a pair before the first step
    assert beside[0.0] == pytest.approx(0.0, abs=1e-4)
    assert beside[0.1] > 0.01
    assert beside[0.3] == pytest.approx(3 * beside[0.1], rel=1e-3)


def test_gradients_are_accumulated_over_whole_groups(home: Path, tmp_path: Path) -> None:
    kept = {}
    for name, loop in (("whole", {}), ("halves", {"batch_size": 2, "gradient_accumulation": 2})):
        config = tiny_prefer(loop={"max_steps": 2, "gradient_checkpointing": True} | loop)
        run(config, home / "atomic", home / "dataset", tmp_path / name, home / "atomic-adapter")
        kept[name] = log_of(tmp_path / name)[1:3]
    for one, other in zip(kept["whole"], kept["halves"], strict=True):
        for key in ("loss", "grad_norm", "expected_reward"):
            assert one[key] == pytest.approx(other[key], rel=2e-3), key


def test_a_base_in_four_bits(home: Path, tmp_path: Path) -> None:
    config = tiny_prefer(quantise=True, loop={"max_steps": 2})
    run(config, home / "atomic", home / "dataset", tmp_path / "out", home / "atomic-adapter")
    assert counts_of(tmp_path / "out")["steps"] == 2
    assert load_llm(home / "atomic").n_items == 40


def test_a_recipe_runs_and_is_not_repeated(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "prefer: {method: grpo, rank: 2, rewards: {stock: 1}, grpo: {group: 3},\n"
        "  loop: {epochs: 1, batch_size: 64}, validation_users: 20}\n"
    )
    out = tmp_path / "out"
    argv = ["prefer", str(recipe), "--base", str(home / "atomic")]
    argv += ["--dataset", str(home / "dataset"), "--out", str(out), "--seed", "3"]
    assert cli(argv) == 0
    printed = capsys.readouterr()
    events = sum(max(0, len(h) - 1) for h in Dataset(home / "dataset").train_histories())
    assert f"a fresh adapter, {events // 64} steps; {events} prompts" in printed.out
    assert f"grpo: step {events // 64}/{events // 64}" in printed.err
    assert "reward_stock" in printed.out and "validation_ndcg" in printed.out
    assert cli(argv) == 0
    assert "prefer: up to date" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_the_shipped_recipes_are_right(method: str) -> None:
    recipe = RECIPES / f"prefer_demo_{method}.yaml"
    config = build(PreferConfig, load_yaml(recipe)["prefer"], str(recipe))
    assert config.method == method


def test_settings_load_nothing_heavy() -> None:
    assert heavy_after("import llmrec.training.preference.run") == []
