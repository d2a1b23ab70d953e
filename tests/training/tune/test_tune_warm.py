"""Fine-tuning goes on: a base on other items than it knew, and an adapter of an earlier run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_expanded import write_catalogue, write_expanded
from tiny_models import random_semantic_ids
from tune_runs import counts_of, losses, tiny_tune, weights

from llmrec.cli import run_command
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError
from llmrec.generation.load import load_llm
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.item_ids.item_ids import ItemIds
from llmrec.stage import read_manifest
from llmrec.training.tune.processes import Processes
from llmrec.training.tune.run import run
from llmrec.training.tune.training_run import TuneRun
from llmrec.types import Histories

OLD = [f"i{n}" for n in range(40)]
NEW = [*reversed(OLD[1:]), "n0", "n1", "n2"]  # one item is gone, three have come


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets ``old`` and ``new``, a base that knows the old items, and a run on it."""
    shop = tmp_path_factory.mktemp("tune_warm")
    write_catalogue(shop / "old", len(OLD))
    write_catalogue(shop / "new", len(NEW), item_id=NEW)
    ids = ItemIds.atomic(len(OLD), spare=4)
    write_expanded(shop / "base", replace(ids, names=tuple(OLD)))
    run(tiny_tune(), shop / "base", shop / "old", shop / "first")
    return shop


def ranked(folder: Path, names: list[str], history: list[str]) -> list[str]:
    """The items that both datasets have, in a model's order."""
    llm = load_llm(folder)
    place = [names.index(name) for name in history]
    found = llm.recommend(Histories.from_lists([place]), len(names), exclude_history=False)
    ordered = [names[item] for item in found.items[0]]
    return [name for name in ordered if name in OLD and name in NEW]


def test_a_base_gets_the_items_of_the_dataset(shop: Path, tmp_path: Path) -> None:
    out = run(tiny_tune(), shop / "base", shop / "new", tmp_path / "tuned")
    assert (counts_of(out)["known_items"], counts_of(out)["new_items"]) == (39, 3)
    assert ItemIds.load(out / "base" / "item_ids").names == tuple(NEW)
    for history in (["i5", "i9"], ["i39"]):
        expected = ranked(shop / "base", OLD, history)
        assert ranked(out / "base", NEW, history) == expected
    served = load_llm_with_adapters(out / "base", [out / "adapter"]).with_adapter("recommend")
    assert served.n_items == len(NEW)
    bundle = ["bundle", "--dataset", str(shop / "new"), "--model", str(out / "base")]
    run_command([*bundle, "--adapters", str(out / "adapter"), "--out", str(tmp_path / "bundle")])
    assert not (out / "work").exists()


def test_an_adapter_of_a_domain_learns_of_it_and_is_validated_on_it(tmp_path: Path) -> None:
    domains = ["food" if item % 3 else "kitchen" for item in range(len(OLD))]
    data = write_catalogue(tmp_path / "data", len(OLD), domain=domains)
    base = write_expanded(tmp_path / "base", replace(ItemIds.atomic(len(OLD)), names=tuple(OLD)))
    for domain, is_kitchen in (("kitchen", {True}), ("food", {False}), ("", {True, False})):
        config = tiny_tune(domain=domain, validation_users=0)
        place = base, None, Dataset(data), None, tmp_path / "tuned", 0
        opened = TuneRun(config, *place, Processes())
        assert set((opened.cases.targets % 3 == 0).tolist()) == is_kitchen
        corpus = opened.mixture.corpus
        learned = corpus.histories.items[corpus.events_with_history]
        assert set((learned % 3 == 0).tolist()) == is_kitchen
    with pytest.raises(ConfigError, match="domain: 'garden' is not one of food, kitchen"):
        run(tiny_tune(domain="garden"), base, data, tmp_path / "other")


def test_semantic_ids_need_features_for_new_items(shop: Path, tmp_path: Path) -> None:
    ids = replace(random_semantic_ids(len(OLD), (7, 8)), names=tuple(OLD))
    base = write_expanded(tmp_path / "semantic", ids)
    with pytest.raises(ConfigError, match=r"--features: 3 items are not among those of .*semantic"):
        run(tiny_tune(), base, shop / "new", tmp_path / "tuned")
    fewer = write_catalogue(tmp_path / "fewer", 30, item_id=OLD[:30])
    out = run(tiny_tune(), base, fewer, tmp_path / "tuned")
    kept = ItemIds.load(out / "base" / "item_ids")
    np.testing.assert_array_equal(kept.codes, ids.codes[:30])


def test_an_adapter_goes_on(shop: Path, tmp_path: Path) -> None:
    first, base = shop / "first", shop / "base"
    still = tiny_tune({"max_steps": 1, "learning_rate": 1e-12})
    out = run(still, base, shop / "old", tmp_path / "still", first / "adapter")
    before, after = weights(first / "adapter"), weights(out / "adapter")
    assert set(before) == set(after)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)
    flags = ["--from", str(base), "--dataset", str(shop / "old"), "--rank", "4"]
    flags += [
        "--adapter",
        str(first / "adapter"),
        "--loop.max-steps",
        "4",
        "--loop.batch-size",
        "8",
    ]
    flags += ["--loop.logging-steps", "1", "--validation-users", "10", "--beams", "10"]
    run_command(["tune", *flags, "--out", str(tmp_path / "more")])
    assert losses(tmp_path / "more")[0] < losses(first)[0]
    names = [
        name for name in read_manifest(tmp_path / "more").inputs if name.startswith("adapter/")
    ]
    assert "adapter/adapter_model.safetensors" in names


def test_an_adapter_goes_on_over_new_items(shop: Path, tmp_path: Path) -> None:
    still = tiny_tune({"max_steps": 1, "learning_rate": 1e-12})
    first = shop / "first"
    out = run(still, shop / "base", shop / "new", tmp_path / "tuned", first / "adapter")
    after = weights(out / "adapter")
    for name, value in weights(first / "adapter").items():
        torch.testing.assert_close(after[name], value)
    assert Dataset(shop / "new").n_items == load_llm(out / "base").n_items


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 8}, r"rank: the adapter of .*adapter has 4; set the same"),
        ({"alpha": 8.0}, r"alpha: the adapter of .*adapter has 32.0; set the same"),
        ({"targets": ["q_proj"]}, r"targets: the adapter of .*adapter has \[down_proj, "),
        ({"method": "full"}, "--adapter: method: full trains no adapter"),
    ],
)
def test_an_adapter_of_another_shape_is_named(
    shop: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = tiny_tune(**changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        run(config, shop / "base", shop / "old", tmp_path / "out", shop / "first" / "adapter")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_base_is_refused(shop: Path, tmp_path: Path) -> None:
    other = write_expanded(tmp_path / "other", ItemIds.atomic(len(OLD), spare=5))
    with pytest.raises(ArtifactError, match="was made for the base"):
        run(tiny_tune(), other, shop / "old", tmp_path / "out", shop / "first" / "adapter")
