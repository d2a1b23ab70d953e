"""``llmrec train`` from inputs to a folder that serves, and what it says of wrong inputs."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import (
    Folders,
    make_histories,
    tiny_config,
    tiny_llama,
    write_dataset,
    write_item_ids,
)

from llmrec.bench.recommenders import load_recommender
from llmrec.cli import run_command
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.generation.load import load_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.tokenizer import train_tokenizer
from llmrec.stage import read_manifest
from llmrec.training.next_item import llm_run, sasrec
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.item_content import principal_components
from llmrec.training.next_item.run import run
from llmrec.training.next_item.sasrec import load_sasrec
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.types import Histories


def write_base(folder: Path, *, tied: bool, bos: bool = True) -> str:
    """A pretrained model's folder, as a hub would give it."""
    tokenizer = train_tokenizer(["Thing number one of the shop"] * 3, 300)
    if not bos:
        tokenizer.bos_token = None
    model = tiny_llama(len(tokenizer), tied=tied)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("ids", "base"),
    [
        ("atomic", "nano"),
        ("semantic", "nano"),
        ("atomic", "tied folder"),
        ("semantic", "untied folder"),
    ],
)
def test_what_is_served_is_what_was_validated(
    folders: Folders, tmp_path: Path, ids: str, base: str
) -> None:
    if base != "nano":
        base = write_base(tmp_path / "base", tied=base.startswith("tied"))
    config = tiny_config(base=base, beams=30, prompt="recommend_instruct")
    out = tmp_path / "model"
    assert run(config, folders.dataset, out, getattr(folders, ids)) == out
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    served = load_llm(out, beams=30)
    cases = validation_cases(Dataset(folders.dataset), 0, 0)
    assert validation_metrics(served, cases)["ndcg@10"] == pytest.approx(
        counts["best_validation_ndcg"], abs=1e-6
    )
    assert counts["best_validation_ndcg"] > 0
    assert (out / "training.png").stat().st_size > 1000


def test_the_saved_folder_is_ordinary(folders: Folders, tmp_path: Path) -> None:
    """Transformers alone opens it, and its tokenizer knows the items."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run(tiny_config(), folders.dataset, tmp_path / "model", folders.atomic)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    served = load_llm(tmp_path / "model")
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    prompt = served.encoder.encode(np.array([3, 7], dtype=np.int32))
    assert tokenizer.encode("<s><item_3><item_7>", add_special_tokens=False) == prompt.tolist()
    logits = model(torch.from_numpy(prompt)[None]).logits[0, -1]
    first = tokenizer.convert_tokens_to_ids("<item_0>")
    expected = logits[first : first + served.n_items].log_softmax(-1)
    scores = served.score(Histories.from_lists([[3, 7]]))[0]
    np.testing.assert_allclose(scores, expected.detach().numpy(), atol=1e-5)


def test_training_learns_something(folders: Folders, tmp_path: Path) -> None:
    config = tiny_config({"epochs": 12, "learning_rate": 5e-3, "average_decay": 0.9})
    run(config, folders.dataset, tmp_path / "model", folders.atomic)
    log = json.loads((tmp_path / "model" / "log.json").read_text())
    assert log[-1]["loss"] < log[0]["loss"] - 0.5
    best = max(entry["validation_ndcg@10"] for entry in log)
    chance = sum(1 / np.log2(rank + 2) for rank in range(10)) / 40
    assert best > 2 * chance


def test_a_finished_run_is_not_repeated(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config({"epochs": 1}, kind="sasrec")
    for _ in range(2):
        run(config, folders.dataset, tmp_path / "model")
    assert capsys.readouterr().out.count("epoch 1 ") == 1


def test_sasrec_is_served_as_it_was_validated(folders: Folders, tmp_path: Path) -> None:
    run(tiny_config(kind="sasrec"), folders.dataset, tmp_path / "model")
    counts = json.loads((tmp_path / "model" / "manifest.json").read_text())["counts"]
    cases = validation_cases(Dataset(folders.dataset), 0, 0)
    metrics = validation_metrics(load_recommender(tmp_path / "model"), cases)
    assert metrics["ndcg@10"] == pytest.approx(counts["best_validation_ndcg"], abs=1e-6)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ArtifactError, match=r"model: cannot be read .*; run llmrec train again"):
        load_sasrec(tmp_path / "model")


def test_a_base_without_a_start_token_uses_its_end_token(folders: Folders, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tied=True, bos=False)
    config = tiny_config({"epochs": 1}, base=base, validation_users=5)
    run(config, folders.dataset, tmp_path / "model", folders.atomic)
    layout = json.loads((tmp_path / "model" / "llmrec.json").read_text())
    assert layout["prefix"] == [2]


def with_times(tmp_path: Path) -> Path:
    histories = make_histories(30, 40)
    times = [[1.5e9 + 86400.0 * n for n in range(len(row))] for row in histories]
    return write_dataset(tmp_path / "timed", histories, 40, times)


def test_time_tokens_are_kept_for_serving(folders: Folders, tmp_path: Path) -> None:
    config = tiny_config({"epochs": 1}, time_tokens=["gap", "month"])
    run(config, with_times(tmp_path), tmp_path / "model", folders.atomic)
    served = load_llm(tmp_path / "model")
    assert served.encoder.vocabulary.time_fields == ("gap", "month")


def test_a_share_of_the_training_events_is_their_earliest_part(
    folders: Folders, tmp_path: Path
) -> None:
    dataset = with_times(tmp_path)
    whole = Dataset(dataset).train_histories()
    part = Dataset(dataset).train_histories(0.5)
    assert whole.timestamps is not None and part.timestamps is not None
    assert 0.4 < len(part.items) / len(whole.items) < 0.6
    assert part.timestamps.max() <= np.quantile(whole.timestamps, 0.5)
    run(tiny_config({"epochs": 1}, share=0.5), dataset, tmp_path / "model", folders.atomic)
    until = read_manifest(tmp_path / "model").counts["learned_until"]
    assert until == part.timestamps.max()


@pytest.mark.parametrize("kind", [llm_run, sasrec])
def test_a_refreshed_model_learns_from_the_validation_part_and_from_nothing_later(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: ModuleType
) -> None:
    learned: list[Histories] = []

    def batches(histories: Histories, *rest: Any) -> TrainingBatches:
        learned.append(histories)
        return TrainingBatches(histories, *rest)

    monkeypatch.setattr(kind, "TrainingBatches", batches)
    dataset = with_times(tmp_path)
    train, both = (Dataset(dataset).train_histories(validation=more) for more in (False, True))
    validation = Dataset(dataset).cases("validation")
    assert [both[user][-1] for user in validation.users] == validation.targets.tolist()
    assert len(both.items) == len(train.items) + len(validation)
    name = "llm" if kind is llm_run else "sasrec"
    config = tiny_config({"epochs": 1}, kind=name, learn_validation=True)
    run(config, dataset, tmp_path / "model", folders.atomic)
    assert learned[0].items.tolist() == both.items.tolist()
    assert both.timestamps is not None and train.timestamps is not None
    until = read_manifest(tmp_path / "model").counts["learned_until"]
    assert until == both.timestamps.max() > train.timestamps.max()


def test_a_share_of_the_users_is_learned_from(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Histories] = []

    def batches(histories: Histories, *rest: Any) -> TrainingBatches:
        learned.append(histories)
        return TrainingBatches(histories, *rest)

    monkeypatch.setattr(llm_run, "TrainingBatches", batches)
    config = tiny_config({"epochs": 1}, user_share=0.2)
    run(config, folders.dataset, tmp_path / "model", folders.atomic)
    drawn = Dataset(folders.dataset).train_histories(user_share=0.2)
    assert 0 < len(drawn.items) == len(learned[0].items)
    with pytest.raises(ConfigError, match=r"train.user_share: must be in \(0, 1\]"):
        tiny_config(user_share=0.0)
    with pytest.raises(ConfigError, match=r"train.tasks: history is trained on the histories"):
        tiny_config(tasks={"history": 1.0})


def test_a_share_and_what_comes_after_it_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"train.learn_validation: .* set share: 1"):
        tiny_config(share=0.5, learn_validation=True)


def test_without_times_there_is_no_earliest_part(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no earliest ones; set share: 1"):
        run(tiny_config(share=0.5), folders.dataset, tmp_path / "model", folders.atomic)
    with pytest.raises(ConfigError, match=r"train.share: must be in"):
        tiny_config(share=0.0)
    with pytest.raises(ConfigError, match="tasks in words learn from all events"):
        tiny_config(share=0.5, tasks={"search": 1.0})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"time_tokens": ["gap"]}, "train.time_tokens: the dataset has no timestamps"),
    ({"base": "no-such-folder"}, "base: 'no-such-folder'"),
    ({"prompt": "no-such-prompt"}, "prompt 'no-such-prompt': no such template"),
    ({"content": {"text": 8}}, "train.content: names feature blocks"),
    ({"kind": "sasrec", "base": "giant"}, r"base: sasrec takes a size \(nano, micro"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_settings_are_named_before_any_training(
    folders: Folders, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run(tiny_config(**changes), folders.dataset, tmp_path / "model", folders.atomic)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_inputs_that_do_not_fit_are_named(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "model"
    few = write_item_ids(tmp_path / "few", ItemIds.atomic(39))
    with pytest.raises(ConfigError, match=r"few: holds IDs of 39 items, .* has 40"):
        run(tiny_config(), folders.dataset, out, few)
    with pytest.raises(ConfigError, match="--item-ids: needed to train an llm"):
        run(tiny_config(), folders.dataset, out)
    with pytest.raises(ArtifactError, match=r"nowhere.*not found"):
        run(tiny_config(), tmp_path / "nowhere", out, folders.atomic)
    with pytest.raises(ArtifactError, match="holds the 'ingest' stage"):
        load_recommender(folders.dataset)
    unsplit = write_dataset(tmp_path / "unsplit", [[1, 2, 3]], 40, held_out=False)
    with pytest.raises(DataError, match="has no validation events"):
        run(tiny_config(), unsplit, out, folders.atomic)


def test_a_recipe_without_a_train_section_is_named(folders: Folders, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: shop\nmodels: {}\n")
    arguments = ["--dataset", str(folders.dataset), "--item-ids", str(folders.atomic)]
    with pytest.raises(ConfigError, match=r"recipe.yaml: has no `train:` section"):
        run_command(["train", str(recipe), *arguments, "--out", str(tmp_path / "model")])


def test_validation_users_are_drawn_once(folders: Folders) -> None:
    dataset = Dataset(folders.dataset)
    first, again = (validation_cases(dataset, 30, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.users, again.users)
    assert len(np.unique(first.users)) == 30
    assert len(validation_cases(dataset, 0, seed=1)) == len(dataset.user_ids)
    assert not np.array_equal(first.users, validation_cases(dataset, 30, seed=2).users)


def test_principal_components_keep_distances_and_have_unit_mean_square() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 12)) + 5  # three real dimensions
    kept = principal_components(flat.astype(np.float32), 3)
    assert kept.shape == (50, 3)
    assert kept.dtype == np.float32
    assert np.square(kept).mean() == pytest.approx(1, abs=1e-5)
    before = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    after = np.linalg.norm(kept[:, None] - kept[None], axis=-1)
    ratio = after[before > 0] / before[before > 0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert principal_components(flat.astype(np.float32), 99).shape == (50, 12)
