"""``llmrec tune`` from inputs to a folder: what each method trains, and what it leaves alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_import_light import heavy_after
from tiny_expanded import corpus_of
from tune_runs import counts_of, digest, log_of, losses, tiny_tune, weights
from wandb_files import read_run

from llmrec.cli import run_command
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.generation.llm import Llm
from llmrec.generation.load import load_llm
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.llm.adapters import read_adapter
from llmrec.llm.merge import run as merge
from llmrec.stage import folder_hash, read_manifest
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.tasks.mixture import TASKS, Mixture
from llmrec.training.tune import sft, trainer
from llmrec.training.tune.adapter import trained_parameters, with_adapter, with_token_rows
from llmrec.training.tune.base import load_model, open_base
from llmrec.training.tune.run import run


def served(out: Path, adapter: bool = True) -> Llm:
    """A result as somebody else would open it."""
    if not adapter:
        return load_llm(out / "model", beams=10)
    loaded = load_llm_with_adapters(out / "base", [out / "adapter"], beams=10)
    return loaded.with_adapter("recommend")


@pytest.mark.parametrize(
    ("method", "base", "dataset"),
    [("lora", "atomic", "dataset"), ("full", "atomic", "timed"), ("lora", "untied", "timed")],
)
def test_what_is_served_is_what_was_validated(
    home: Path, tmp_path: Path, method: str, base: str, dataset: str
) -> None:
    out = tmp_path / "tuned"
    config = tiny_tune(align=2, method=method, tasks={"next_item": 1, "rank": 0.5})
    assert run(config, home / base, home / dataset, out) == out
    cases = validation_cases(Dataset(home / dataset), 30, 0)
    metrics = validation_metrics(served(out, adapter=method != "full"), cases)
    counts, log = counts_of(out), log_of(out)
    assert metrics["ndcg@10"] == pytest.approx(counts["validation_ndcg"], abs=1e-6)
    before = validation_metrics(load_llm(home / base, beams=10), cases)
    assert counts["validation_ndcg_before"] == pytest.approx(before["ndcg@10"], abs=1e-6)
    validated = [(e["stage"], e["step"]) for e in log if "validation_ndcg@10" in e]
    assert validated == [("align", 0), ("tune", 0), ("tune", 6)]
    assert (out / "training.png").stat().st_size > 1000
    made = {"model"} if method == "full" else {"adapter", "base"}
    files = {"log.json", "manifest.json", "training.png"}
    assert {path.name for path in out.iterdir()} == made | files
    assert counts["peak_mib"] > 0 and counts["train_seconds"] > 0
    if method != "full":
        written = (out / "adapter" / "adapter_model.safetensors").stat().st_size
        assert counts["adapter_bytes"] == written


@pytest.mark.parametrize(("base", "dataset"), [("atomic", "dataset"), ("untied", "timed")])
def test_the_alignment_counts_the_rows_it_may_move(
    home: Path, tmp_path: Path, base: str, dataset: str
) -> None:
    run(tiny_tune(align=2), home / base, home / dataset, tmp_path / "tuned")
    old, new = weights(home / base), weights(tmp_path / "tuned" / "base")
    moved = {name: int((old[name] != new[name]).any(-1).sum()) for name in old}
    tables = {name: rows for name, rows in moved.items() if rows}
    assert len(tables) == (1 if base == "atomic" else 2)  # tied, or input and output
    new_tokens = max(tables.values())  # every output row takes part in every softmax
    assert counts_of(tmp_path / "tuned")["aligned_parameters"] == new_tokens * 32 * len(tables)


def test_training_learns_something(home: Path, tmp_path: Path) -> None:
    config = tiny_tune({"max_steps": 60, "batch_size": 16, "warmup_ratio": 0.1}, rank=16, align=60)
    run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    found = losses(tmp_path / "tuned", "align") + losses(tmp_path / "tuned")
    assert np.mean(found[-5:]) < np.mean(found[:5]) - 1.5
    counts = counts_of(tmp_path / "tuned")
    chance = sum(1 / np.log2(rank + 2) for rank in range(10)) / 40
    assert counts["validation_ndcg"] > 2 * chance
    assert counts["validation_ndcg"] > counts["validation_ndcg_before"] + 0.1


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_leaves_its_base_as_it_was(home: Path, tmp_path: Path, method: str) -> None:
    before = digest(home / "atomic")
    run(tiny_tune(method=method), home / "atomic", home / "dataset", tmp_path / "tuned")
    copied = digest(tmp_path / "tuned" / "base")
    assert copied.pop("manifest.json")
    assert digest(home / "atomic") == copied == before
    adapter = weights(tmp_path / "tuned" / "adapter")
    assert all("lora_A" in name or "lora_B" in name for name in adapter)
    assert not any("embed_tokens" in name or "lm_head" in name for name in adapter)
    assert all(value.dtype == torch.float32 for value in adapter.values())
    assert all(value.abs().max() > 0 for name, value in adapter.items() if "lora_B" in name)
    info = read_adapter(tmp_path / "tuned" / "adapter")
    assert (info.name, info.rank, info.task) == ("recommend", 4, "next_item")
    trained = sum(value.numel() for value in adapter.values())
    assert counts_of(tmp_path / "tuned")["trained_parameters"] == trained


def test_only_the_adapter_moves(home: Path) -> None:
    """One step on the model itself: no frozen weight changes, every trained one does."""
    torch.manual_seed(0)
    plain = load_model(home / "atomic", tiny_tune())
    model = with_adapter(plain, tiny_tune(dropout=0.0))
    assert trained_parameters(model) == sum(
        p.numel() for n, p in model.named_parameters() if "lora_" in n
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # B is zero at first, so A moves in the second step
        tokens = torch.arange(1, 30)[None]
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == ("lora_" not in name), name


def test_qlora_trains_beside_a_base_in_four_bits(home: Path, tmp_path: Path) -> None:
    model = load_model(home / "atomic", tiny_tune(method="qlora"))
    layers = {type(m).__name__ for n, m in model.named_modules() if n.endswith("_proj")}
    assert layers == {"Linear4bit"}
    config = tiny_tune({"max_steps": 40, "learning_rate": 3e-2}, method="qlora", rank=16)
    run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    found = losses(tmp_path / "tuned")
    assert np.mean(found[-5:]) < np.mean(found[:5]) - 0.5


def test_a_quantised_base_scores_the_same_before_and_after_it_was_used(home: Path) -> None:
    """bitsandbytes may rearrange weights when they are used outside training."""
    model = load_model(home / "atomic", tiny_tune(method="qlora"))
    tokens = torch.arange(1, 40)[None]
    model.train()
    first = model(input_ids=tokens).logits
    with torch.inference_mode():
        model.eval()
        second = model(input_ids=tokens).logits
    model.train()
    torch.testing.assert_close(model(input_ids=tokens).logits, first)
    torch.testing.assert_close(second, first, atol=1e-5, rtol=1e-5)


def test_full_moves_every_weight(home: Path, tmp_path: Path) -> None:
    run(tiny_tune(method="full"), home / "atomic", home / "dataset", tmp_path / "tuned")
    before, after = weights(home / "atomic"), weights(tmp_path / "tuned" / "model")
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert counts_of(tmp_path / "tuned")["trained_parameters"] == sum(
        value.numel() for value in before.values()
    )
    kept = {"llmrec.json", "tokenizer.json", "item_ids/item_ids.json"}
    old, new = digest(home / "atomic"), digest(tmp_path / "tuned" / "model")
    assert all(old[name] == new[name] for name in kept)


@pytest.mark.parametrize("base", ["atomic", "untied"])
def test_alignment_moves_rows_of_new_tokens_only(home: Path, tmp_path: Path, base: str) -> None:
    tasks = {name: 1.0 for name in TASKS if name != "instructions"}  # which needs a file
    config = tiny_tune(align=8, tasks=tasks)
    run(config, home / base, home / "timed", tmp_path / "tuned")
    before, after = weights(home / base), weights(tmp_path / "tuned" / "base")
    assert before.keys() == after.keys()
    new = np.asarray(open_base(home / base).new_tokens)
    rows = {"model.embed_tokens.weight"} | ({"lm_head.weight"} if base == "untied" else set())
    for name, value in before.items():
        if name not in rows:
            assert torch.equal(value, after[name]), name
            continue
        moved = np.flatnonzero((value != after[name]).any(1).numpy())
        assert set(moved) <= set(new), name
        if name == "lm_head.weight" or base == "atomic":
            assert set(moved) == set(new), "every output row is a wrong answer at least"
        else:  # of the input rows only those that occur
            assert len(moved) > 10
    assert losses(tmp_path / "tuned", "align")[-1] < losses(tmp_path / "tuned", "align")[0]
    assert load_llm(tmp_path / "tuned" / "base").n_items == 40


def test_token_rows_are_trained_as_the_model_uses_them(home: Path) -> None:
    for base, count in (("atomic", 44), ("untied", 2 * (17 + 13 + 15))):
        model = with_token_rows(
            load_model(home / base, tiny_tune()), open_base(home / base).new_tokens
        )
        assert trained_parameters(model) == count * 32
        assert not any("lora" in name for name, _ in model.named_parameters())


def test_only_completions_are_learned_in_the_order_of_the_mixture(
    home: Path, tmp_path: Path
) -> None:
    """The first loss is that of the mixture's first batch, over completion tokens alone."""
    tasks = {"next_item": 1.0, "taste": 0.5, "tool_call": 0.5}
    config = tiny_tune(dropout=0.0, tasks=tasks)
    run(config, home / "atomic", home / "dataset", tmp_path / "tuned", seed=5)
    mixture = Mixture(corpus_of(home / "dataset", home / "atomic"), tasks, 5, 256)
    model = load_model(home / "atomic", config)
    total, count = 0.0, 0
    for number, place in enumerate(zip(*mixture.plan(0), strict=True)):
        if number == 8:
            break
        example = mixture.example(int(place[0]), int(place[1]), number)
        ids = torch.from_numpy(np.concatenate([example.prompt_ids, example.completion_ids]))
        logs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        own = logs.gather(1, ids[1:, None])[len(example.prompt_ids) - 1 :]
        total, count = total - float(own.detach().sum()), count + len(own)
    assert losses(tmp_path / "tuned")[0] == pytest.approx(total / count, rel=1e-4)


def test_own_chat_examples_are_learned_beside_other_tasks(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.jsonl"
    row = {"prompt": "Which hat?", "completion": "The green one with the wide brim."}
    own.write_text(json.dumps(row) + "\n")
    tasks = {"next_item": 0.01, "instructions": 1.0}
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"tune: {{tasks: {json.dumps(tasks)}, instructions: {own},"
                      " rank: 8, loop: {max_steps: 30, batch_size: 1, logging_steps: 1,"
                      " learning_rate: 0.02}}\n")  # fmt: skip
    flags = ["--base", str(home / "atomic"), "--dataset", str(home / "dataset")]
    out = tmp_path / "tuned"
    run_command(["tune", str(recipe), *flags, "--out", str(out)])
    assert "instructions 1" in capsys.readouterr().out
    found = losses(out)
    assert min(found[-5:]) < 0.5 * max(found[:5])
    assert "instructions/own.jsonl" in read_manifest(out, "tune").inputs
    with pytest.raises(ConfigError, match=r"instructions: name the file, and give it a share"):
        tiny_tune(instructions=own)
    with pytest.raises(ConfigError, match=r"instructions: name the file, and give it a share"):
        tiny_tune(tasks=tasks)
    own.write_text('{"messages": []}\n')
    with pytest.raises(DataError, match=r"own\.jsonl: row 1: messages is empty"):
        run_command(["tune", str(recipe), *flags, "--out", str(tmp_path / "bad")])
    assert not (tmp_path / "bad").exists()


def test_gradients_are_accumulated(home: Path, tmp_path: Path) -> None:
    halves = {"batch_size": 4, "gradient_accumulation": 2, "gradient_checkpointing": True}
    for name, loop in (("whole", {}), ("halves", halves)):
        config = tiny_tune(loop, dropout=0.0)
        run(config, home / "atomic", home / "dataset", tmp_path / name)
    np.testing.assert_allclose(losses(tmp_path / "whole"), losses(tmp_path / "halves"), rtol=1e-3)


def test_a_result_says_where_it_comes_from_and_can_be_merged(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    run(tiny_tune(), home / "atomic", home / "dataset", out)
    whole, part = read_manifest(out, "tune"), read_manifest(out / "base", "tune")
    assert part.inputs == whole.inputs and part.counts == {}
    merge(out / "base", out / "adapter", tmp_path / "merged")
    cases = validation_cases(Dataset(home / "dataset"), 30, 0)
    metrics = validation_metrics(load_llm(tmp_path / "merged", beams=10), cases)
    assert metrics["ndcg@10"] == pytest.approx(counts_of(out)["validation_ndcg"], abs=1e-6)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_cpu_with_units_for_it_computes_in_bfloat16(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    found = []
    for units, chosen in ((False, "fp32"), (True, "bf16")):
        monkeypatch.setattr(trainer, "bfloat16_products_differ", lambda units=units: units)
        config, out = tiny_tune({"precision": "auto"}, method=method), tmp_path / chosen
        run(config, home / "atomic", home / "dataset", out)
        assert f"tune: {method} in {chosen}, " in capsys.readouterr().out
        assert counts_of(out)["precision"] == chosen
        found.append(losses(out))
    assert torch.backends.mkldnn.matmul.fp32_precision != "bf16"
    np.testing.assert_allclose(*found, rtol=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_cpu_that_converts_to_bfloat16_does_so_in_every_step(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(trainer, "bfloat16_products_differ", lambda: False)
    monkeypatch.setattr(trainer, "computes", lambda *_: True)
    found = []
    for precision in ("fp32", "bf16"):
        config = tiny_tune({"precision": precision}, method=method)
        run(config, home / "atomic", home / "dataset", tmp_path / precision)
        assert counts_of(tmp_path / precision)["precision"] == precision
        found.append(losses(tmp_path / precision))
    assert found[0] != found[1]
    # weights that were converted once and kept would leave the loss where it was
    np.testing.assert_allclose(*found, rtol=0.05)
    assert found[1][-1] < found[1][0]


def test_examples_of_like_length_are_read_together(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, whole = [], sft.alike

    def counted(lengths: torch.Tensor) -> list[torch.Tensor]:
        groups.append(len(whole(lengths)))
        return whole(lengths)

    config = tiny_tune(tasks={"history": 1.0, "item_to_text": 0.3}, dropout=0.0)

    def undivided(lengths: torch.Tensor) -> list[torch.Tensor]:
        return [torch.arange(len(lengths))]

    for name, function in (("many", counted), ("one", undivided)):
        monkeypatch.setattr(sft, "alike", function)
        run(config, home / "atomic", home / "dataset", tmp_path / name)
    assert max(groups) > 1
    np.testing.assert_allclose(losses(tmp_path / "many"), losses(tmp_path / "one"), rtol=1e-3)


def test_a_share_of_the_users_is_learned_from(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = Dataset(home / "dataset").train_histories(user_share=0.2)
    wanted = sum(max(0, length - 1) for length in drawn.lengths())
    run(tiny_tune(user_share=0.2), home / "atomic", home / "dataset", tmp_path / "tuned")
    assert f"examples an epoch: next_item {wanted}" in capsys.readouterr().out
    assert 0 < wanted < 100


def test_epochs_decide_where_steps_do_not(home: Path, tmp_path: Path) -> None:
    config = tiny_tune({"max_steps": 0, "epochs": 2, "batch_size": 64})
    run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    dataset = Dataset(home / "dataset")
    examples = sum(max(0, len(history) - 1) for history in dataset.train_histories())
    assert counts_of(tmp_path / "tuned")["steps"] == 2 * examples // 64


def test_a_recipe_runs_and_is_not_repeated(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "tune: {rank: 2, tasks: {next_item: 1, item_to_text: 0.5},\n"
        "  loop: {max_steps: 2, batch_size: 4, report_to: tensorboard}}\n"
    )
    flags = ["--base", str(home / "atomic"), "--dataset", str(home / "dataset")]
    for _ in range(2):
        run_command(["tune", str(recipe), *flags, "--out", str(tmp_path / "tuned"), "--seed", "3"])
    assert capsys.readouterr().out.count("tune: lora") == 1
    assert json.loads((tmp_path / "tuned" / "manifest.json").read_text())["stage"] == "tune"
    assert list((tmp_path / "tuned" / "tracking").rglob("events.out*"))


def test_wandb_has_the_settings_and_hashes_beside_the_curves(
    home: Path, tmp_path: Path, wandb_offline: None
) -> None:
    out = tmp_path / "tuned"
    loop = {"max_steps": 2, "batch_size": 4, "report_to": "wandb", "logging_steps": 1}
    run(tiny_tune(loop), home / "atomic", home / "dataset", out, seed=3)
    (found,) = (out / "tracking" / "wandb").glob("offline-run-*")
    config, history, _ = read_run(found)
    assert (config["loop.max_steps"], config["seed"]) == (2, 3)
    assert config["inputs.dataset"] == folder_hash(home / "dataset")
    losses = [line["train/loss"] for line in history if "train/loss" in line]
    log = json.loads((out / "log.json").read_text())
    assert losses == pytest.approx([line["loss"] for line in log if "loss" in line], abs=1e-3)
    assert not Path("wandb").exists()


def test_the_command_loads_nothing_heavy_before_it_must() -> None:
    assert heavy_after("import llmrec.training.tune.run") == []
