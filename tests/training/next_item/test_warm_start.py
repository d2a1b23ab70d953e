"""Training goes on from an earlier model, on the same items and on others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusion_world import write_features
from tiny_models import (
    Folders,
    make_histories,
    tiny_config,
    tiny_llama,
    write_dataset,
    write_item_ids,
)

from llmrec.cli import run_command
from llmrec.content.features.models import unit_rows
from llmrec.content.new_items import values_by_content
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.llm import Llm, make_llm
from llmrec.generation.load import load_llm
from llmrec.item_ids.index import IndexConfig
from llmrec.item_ids.index import run as index
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.tokenizer import train_tokenizer
from llmrec.stage import read_manifest
from llmrec.training.next_item.run import run
from llmrec.training.next_item.warm_start import continued, ids_for
from llmrec.types import Histories

N_OLD, NEW = 40, ["n0", "n1"]
# the old items but one, in another order, with new ones between them
NAMES = [NEW[0], *(f"i{n}" for n in range(39, -1, -1) if n != 3), NEW[1]]


def vectors_of(names: list[str]) -> np.ndarray:
    """float32 ``[items, 6]``: each item's own, the same in every dataset."""
    rows = [np.random.default_rng([ord(name[0]), int(name[1:])]).normal(size=6) for name in names]
    return unit_rows(np.array(rows))


def domain_of(name: str) -> str:
    """The shop of an item."""
    return "food" if int(name[1:]) % 3 else "kitchen"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets ``old`` and ``new`` and features of both, IDs and models of the old one."""
    home = tmp_path_factory.mktemp("warm")
    for name, items, seed in (("old", old_names(), 0), ("new", NAMES, 1)):
        columns = {"item_id": items, "domain": [domain_of(item) for item in items]}
        histories = make_histories(120, len(items), seed=seed)
        write_dataset(home / name, histories, len(items), items=columns)
    for name, items in (("old", old_names()), ("new", NAMES)):
        write_features(home / f"{name}_features", vectors_of(items))
    semantic = {"kind": "semantic", "levels": 2, "codebook_size": 8}
    own = {kind: {"kind": kind, "spare": 4} for kind in ("atomic", "domain")}
    for kind, settings in (own | {"semantic": semantic}).items():
        config = IndexConfig(**settings)  # type: ignore[arg-type]
        index(config, home / "old", home / f"{kind}_ids", home / "old_features")
        train = tiny_config({"learning_rate": 3e-3}, content={"text": 4})
        run(train, home / "old", home / kind, home / f"{kind}_ids", home / "old_features")
    return home


def scores(llm: Llm, names: list[str], history: list[str]) -> dict[str, float]:
    """Log-likelihood of every item by name, up to a constant of those that share a softmax."""
    place = {name: row for row, name in enumerate(names)}
    options = SearchOptions(normalise="level")
    items = np.arange(len(names))[None]
    histories = Histories.from_lists([[place[name] for name in history]])
    found = llm.score_items(histories, items, options=options)[0]
    if llm.ids.kind != "semantic":
        known = np.array([name.startswith("i") and name != "i3" for name in names])
        before = llm.ids.codes[:, 0] if llm.ids.kind == "domain" else np.zeros(len(names))
        for code in np.unique(before):
            found[before == code] -= found[known & (before == code)].mean()
    return dict(zip(names, found.tolist(), strict=True))


def old_names() -> list[str]:
    return [f"i{n}" for n in range(N_OLD)]


@pytest.mark.parametrize("kind", ["atomic", "domain", "semantic"])
def test_what_the_model_knew_it_knows_on_the_new_dataset(home: Path, kind: str) -> None:
    ids = ids_for(home / kind, Dataset(home / "new"), home / "new_features")
    model, expanded = continued(home / kind, ids, home / "new_features")
    llm = make_llm(model.eval(), expanded.encoder, ids)
    for history in (["i5", "i9"], ["i39"], []):
        before = scores(load_llm(home / kind), old_names(), history)
        after = scores(llm, NAMES, history)
        common = [name for name in NAMES if name in before]
        assert len(common) == 39
        assert [after[name] for name in common] == pytest.approx(
            [before[name] for name in common], abs=2e-4
        )


@pytest.mark.parametrize("kind", ["atomic", "domain"])
def test_a_new_row_is_what_items_of_like_content_have(home: Path, kind: str) -> None:
    ids = ids_for(home / kind, Dataset(home / "new"), home / "new_features")
    model, expanded = continued(home / kind, ids, home / "new_features")
    first = expanded.vocabulary.own_offset
    rows = model.get_input_embeddings().weight.detach()[first : first + len(NAMES)].numpy()
    is_new = np.isin(NAMES, NEW)
    content = vectors_of(NAMES)
    expected = values_by_content(content[~is_new], rows[~is_new], content[is_new])
    np.testing.assert_allclose(rows[is_new], expected, atol=1e-5)
    old = load_llm(home / kind).engine.model.get_input_embeddings().weight.detach()
    np.testing.assert_array_equal(rows[NAMES.index("i7")], old[first + 7].numpy())
    assert expanded.vocabulary.size == len(old)  # the spare tokens were enough


def test_semantic_codes_stay_and_new_items_get_theirs_by_content(home: Path) -> None:
    old = ItemIds.load(home / "semantic_ids")
    ids = ids_for(home / "semantic", Dataset(home / "new"), home / "new_features")
    for row, name in enumerate(NAMES):
        if name.startswith("i"):
            assert ids.codes[row].tolist() == old.codes[int(name[1:])].tolist()
    assert old.quantizer is not None
    vectors = vectors_of(NEW)
    expected = old.quantizer.codes(old.quantizer.latents(vectors))
    rows = [NAMES.index(name) for name in NEW]
    assert ids.codes[rows, 0].tolist() == expected[:, 0].tolist()
    assert ids.names == tuple(NAMES)
    assert ids.level_sizes == old.level_sizes


@pytest.mark.parametrize("kind", ["atomic", "domain", "semantic"])
def test_a_start_without_steps_is_the_earlier_model(home: Path, tmp_path: Path, kind: str) -> None:
    still = tiny_config(
        {"epochs": 1, "learning_rate": 1e-12}, content={"text": 4}, base=str(home / kind)
    )
    out = run(still, home / "old", tmp_path / "model", features=home / "old_features")
    before, after = load_llm(home / kind), load_llm(out)
    for history in (["i5", "i9"], []):
        expected = scores(before, old_names(), history)
        assert scores(after, old_names(), history) == pytest.approx(expected, abs=2e-4)
    counts = read_manifest(out).counts
    assert (counts["known_items"], counts["new_items"]) == (N_OLD, 0)
    assert counts["row_scale"] == 8.0  # the nano model of 64 dimensions goes on as it began


def test_an_untied_base_goes_on_with_both_tables(folders: Folders, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tokenizer = train_tokenizer(["Thing number one of the shop"] * 3, 300)
    tiny_llama(len(tokenizer), tied=False).save_pretrained(base)
    tokenizer.save_pretrained(base)
    first = tiny_config(base=str(base))
    run(first, folders.dataset, tmp_path / "one", folders.atomic)
    still = tiny_config({"epochs": 1, "learning_rate": 1e-12}, base=str(tmp_path / "one"))
    run(still, folders.dataset, tmp_path / "two")
    one, two = (load_llm(tmp_path / name) for name in ("one", "two"))
    assert scores(two, old_names(), ["i5"]) == pytest.approx(
        scores(one, old_names(), ["i5"]), abs=2e-4
    )


@pytest.mark.parametrize("kind", ["atomic", "domain", "semantic"])
def test_training_goes_on_with_new_items(home: Path, tmp_path: Path, kind: str) -> None:
    """By the command, with IDs of the command; it begins better than a fresh model."""
    dataset, features = str(home / "new"), str(home / "new_features")
    places = ["--dataset", dataset, "--features", features]
    ids = ["--kind", kind, "--from", str(home / kind), "--out", str(tmp_path / "ids")]
    run_command(["index", *places, *ids])
    assert ItemIds.load(tmp_path / "ids").names == tuple(NAMES)
    recipe = tmp_path / "train.yaml"
    recipe.write_text("train: {content: {text: 4}, loop: {epochs: 1, warmup_steps: 2}}")
    more = ["--base", "nano"], ["--from", str(home / kind)]
    losses = []
    for name, base in zip(("fresh", "warm"), more, strict=True):
        out = ["--item-ids", str(tmp_path / "ids"), "--out", str(tmp_path / name)]
        run_command(["train", str(recipe), *places, *base, *out])
        losses.append(json.loads((tmp_path / name / "log.json").read_text())[0]["loss"])
    assert losses[1] < losses[0] - 0.02
    manifest = read_manifest(tmp_path / "warm")
    assert (manifest.counts["known_items"], manifest.counts["new_items"]) == (39, 2)
    assert {"base/llmrec.json", "base/model.safetensors"} <= set(manifest.inputs)
    llm = load_llm(tmp_path / "warm")
    assert llm.ids.names == tuple(NAMES)
    found = llm.recommend(Histories.from_lists([[NAMES.index("n1")]]), 40)
    assert sorted(found.items[0].tolist()) == list(range(40))  # all but the history


def test_more_items_than_spare_tokens_get_more_tokens(home: Path, tmp_path: Path) -> None:
    names = [*old_names(), *(f"n{n}" for n in range(9))]
    histories = make_histories(60, len(names))
    dataset = write_dataset(tmp_path / "large", histories, len(names), items={"item_id": names})
    config = tiny_config({"epochs": 1}, base=str(home / "atomic"))
    out = run(config, dataset, tmp_path / "model")
    llm = load_llm(out)
    assert llm.ids.level_sizes == (49 + 64,)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    before = AutoTokenizer.from_pretrained(home / "atomic")
    assert tokenizer.encode("<item_112> Thing", add_special_tokens=False) == [
        llm.encoder.vocabulary.item_offset + 112,
        *before.encode(" Thing", add_special_tokens=False),
    ]
    table = llm.engine.model.get_input_embeddings().weight
    assert len(table) == len(tokenizer) == llm.encoder.vocabulary.size
    assert torch.isfinite(table).all()


def test_ids_of_another_catalogue_are_noticed(home: Path, tmp_path: Path) -> None:
    other = write_dataset(
        tmp_path / "other",
        make_histories(30, N_OLD),
        N_OLD,
        items={"item_id": [*old_names()[:-1], "x"]},
    )
    with pytest.raises(ConfigError, match=r"atomic_ids: item 39 is 'i39' there and 'x' in .*other"):
        run(tiny_config(), other, tmp_path / "model", home / "atomic_ids")


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("atomic", {"time_tokens": ["gap"]}, "train.time_tokens: the dataset has no timestamps"),
    ("semantic", {}, r"--features: 2 items are not among those of .*semantic, and their IDs are"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), WRONG)
def test_what_does_not_go_on_is_named(
    home: Path, tmp_path: Path, kind: str, changes: dict[str, Any], message: str
) -> None:
    config = tiny_config(base=str(home / kind), **changes)
    with pytest.raises(ConfigError, match=message):
        run(config, home / "new", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_time_tokens_must_be_those_of_the_model(home: Path, tmp_path: Path) -> None:
    times = [[1.5e9 + 86400.0 * n for n in range(len(row))] for row in make_histories(30, N_OLD)]
    timed = write_dataset(tmp_path / "timed", make_histories(30, N_OLD), N_OLD, times)
    config = tiny_config(base=str(home / "atomic"), time_tokens=["gap"])
    with pytest.raises(ConfigError, match=r"train.time_tokens: .*atomic has \[\]; set the same"):
        run(config, timed, tmp_path / "model")


def test_ids_that_do_not_go_on_are_named(home: Path, tmp_path: Path) -> None:
    dataset, features = home / "new", home / "new_features"
    out = tmp_path / "model"
    fresh = IndexConfig(kind="semantic", levels=2, codebook_size=8)
    ids = index(fresh, dataset, tmp_path / "fresh", features, seed=4)
    config = tiny_config(base=str(home / "semantic"))
    with pytest.raises(ConfigError, match=r"item_ids: give 'i\d+' another ID than .*--base"):
        run(config, dataset, out, ids, features)
    with pytest.raises(ConfigError, match=r"item_ids: are semantic, those of .*atomic atomic"):
        run(tiny_config(base=str(home / "atomic")), dataset, out, ids, features)
    few = write_item_ids(tmp_path / "few", ItemIds.atomic(41))
    with pytest.raises(ConfigError, match=r"item_ids: have 41 tokens, .*atomic has 44"):
        run(tiny_config(base=str(home / "atomic")), dataset, out, few)
    with pytest.raises(
        ConfigError, match=r"kind: the IDs of .*semantic are semantic; set the same"
    ):
        index(replace(fresh, kind="atomic", base=home / "semantic"), dataset, out, features)
    another_space = np.roll(vectors_of(NAMES), 2, axis=1) * np.array([1, -1] * 3, np.float32)
    turned = write_features(tmp_path / "turned", another_space)
    with pytest.raises(ConfigError, match=r"no nearer to the first codes of the known items in"):
        index(replace(fresh, base=home / "semantic_ids"), dataset, out, turned)
    other = write_dataset(tmp_path / "other", [[0, 1, 1, 0]], 2, items={"item_id": ["a", "b"]})
    with pytest.raises(ConfigError, match=r"knows none of the 2 items \('i0' there, 'a' here\)"):
        run(tiny_config(base=str(home / "atomic")), other, out)
