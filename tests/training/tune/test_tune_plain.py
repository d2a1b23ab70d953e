"""Chat examples alone, learned by a model that knows no items: an adapter of the last blocks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import save_chat_model
from tune_runs import counts_of, log_of, losses, tiny_tune, weights

from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.llm.adapters import base_hash, read_adapter
from llmrec.training.tune.run import run


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model``, that chats, and ``own.jsonl``, of short and long examples."""
    folder = tmp_path_factory.mktemp("plain")
    save_chat_model(folder / "model", [f"say {n} please" for n in range(40)])
    rows = [
        [{"role": "user", "content": f"say {n} " + "please " * (n % 9)},
         {"role": "assistant", "content": f"{n % 2}"}]
        for n in range(60)
    ]  # fmt: skip
    own = folder / "own.jsonl"
    own.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return folder


def tune(chat: Path, home: Path, out: Path, **changes: Any) -> Path:
    config = tiny_tune(
        **({"tasks": {"instructions": 1.0}, "instructions": chat / "own.jsonl"} | changes)
    )
    return run(config, chat / "model", home / "dataset", out)


def test_an_adapter_of_the_last_blocks_is_all_that_is_written(
    chat: Path, home: Path, tmp_path: Path
) -> None:
    out = tune(chat, home, tmp_path / "tuned", blocks=1, name="talks")
    assert {path.name for path in out.iterdir()} == {
        "adapter", "log.json", "manifest.json", "training.png"
    }  # fmt: skip
    learned = weights(out / "adapter")
    assert learned and all(".layers.1." in name for name in learned)
    assert any(value.abs().max() > 0 for name, value in learned.items() if "lora_B" in name)
    info = read_adapter(out / "adapter")
    assert (info.name, info.task) == ("talks", "instructions")
    assert info.base_hash == base_hash(chat / "model", items=False)
    assert all("validation_ndcg@10" not in line for line in log_of(out))
    assert losses(out)[-1] < losses(out)[0] and counts_of(out)["steps"] == 6


def test_an_adapter_is_trained_further(chat: Path, home: Path, tmp_path: Path) -> None:
    first = tune(chat, home, tmp_path / "first", blocks=1)
    config = tiny_tune(tasks={"instructions": 1.0}, instructions=chat / "own.jsonl", blocks=1)
    second = run(
        config, chat / "model", home / "dataset", tmp_path / "second", first / "adapter", seed=1
    )
    assert losses(second)[0] < losses(first)[0]
    assert set(weights(second / "adapter")) == set(weights(first / "adapter"))
    with pytest.raises(ConfigError, match=r"rank: the adapter of .* has 4; set the same"):
        other = tiny_tune(tasks=config.tasks, instructions=config.instructions, rank=2)
        run(other, chat / "model", home / "dataset", tmp_path / "third", first / "adapter")


def test_everything_may_be_in_bf16(
    chat: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmrec.training.tune.trainer.computes_bfloat16", lambda: True)
    out = tune(chat, home, tmp_path / "tuned", loop={"precision": "bf16-true"})
    assert {value.dtype for value in weights(out / "adapter").values()} == {torch.bfloat16}
    assert losses(out)[-1] < losses(out)[0]


def test_a_batch_has_examples_of_about_one_length(chat: Path, home: Path, tmp_path: Path) -> None:
    from llmrec.data.dataset import Dataset
    from llmrec.training.tune.plain import PlainRun
    from llmrec.training.tune.processes import Processes

    config = tiny_tune(tasks={"instructions": 1.0}, instructions=chat / "own.jsonl")
    plain = PlainRun(
        config, chat / "model", None, Dataset(home / "dataset"), tmp_path, 0, Processes.join()
    )
    mixture = plain.mixture
    _, rows = mixture.plan(0)
    assert sorted(rows.tolist()) == list(range(60)), "each once"
    lengths = mixture.lengths[rows[:56]].reshape(7, 8)
    spread = lengths.max(1) - lengths.min(1)
    assert spread.sum() <= lengths.max() - lengths.min()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "full"}, "method: a base without item tokens is tuned by an adapter"),
        ({"loop": {"validate_every": 2}}, "loop.validate_every: without item tokens no ranking"),
        ({"align": 3}, "align.steps: the base has no rows of item tokens"),
        ({"blocks": 9}, "blocks: the base has 2, not 9"),
        ({"tasks": {"instructions": 1.0, "rank": 0.1}}, "run llmrec model expand on it first"),
    ],
)
def test_what_such_a_base_cannot_do_is_named(
    chat: Path, home: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(chat, home, tmp_path / "tuned", **changes)


def test_items_are_not_words_of_such_a_base(chat: Path, home: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "hello", "completion": "take <item:i3>"}] * 8
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="item 'i3' is not in the catalogue"):
        tune(chat, home, tmp_path / "tuned", instructions=own)


def test_a_base_for_recommendations_must_know_items(chat: Path) -> None:
    with pytest.raises(ArtifactError, match="is no base for adapters"):
        base_hash(chat / "model")
    assert base_hash("smollm2-135m", items=False) != base_hash(chat / "model", items=False)
