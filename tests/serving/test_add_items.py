"""``llmrec items add``: new items are recommended at once, and nothing else changes."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ask_bundle import recommend
from safetensors.torch import load_file
from tiny_shop import TinyRun

from llmrec.bench.random_shop import NOW, RandomShop
from llmrec.cli import main, run_command
from llmrec.content.features.text import load_features
from llmrec.content.new_items import joined_blocks, values_by_content
from llmrec.data.dataset import Dataset
from llmrec.generation.beam_search import SearchOptions
from llmrec.llm.adapters import save_adapter
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender

TWIN_OF = 33
NEW = ["new-twin", "new-lamp"]


def write_items(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A CSV file of items."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def rows(tiny_data: Dataset) -> list[dict[str, Any]]:
    """Two new items: one like an old one in everything, one like none."""
    item = tiny_data.item(TWIN_OF)
    twin = {
        "item_id": NEW[0],
        "title": item.title,
        "description": item.description,
        "brand": item.brand,
        "categories": "|".join(item.categories),
        "price": item.price,
        "attributes": json.dumps(item.attributes),
        "in_stock": "true",
    }
    return [twin, {"item_id": NEW[1], "title": "A crystal lamp of the moon", "price": "12.5"}]


def add(items: Path, bundle: Path, out: Path, *flags: str) -> Path:
    run_command(["items", "add", str(items), "--bundle", str(bundle), "--out", str(out), *flags])
    return out


@pytest.fixture(scope="session", params=["atomic", "semantic"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def before(kind: str, request: pytest.FixtureRequest) -> Bundle:
    bundle: Bundle = request.getfixturevalue(kind)
    return bundle


@pytest.fixture(scope="session")
def after(
    kind: str,
    before: Bundle,
    rows: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    home = tmp_path_factory.mktemp(f"added_{kind}")
    return Bundle(add(write_items(home / "new.csv", rows), before.folder, home / "out"), beams=30)


def ids(found: Sequence[Any]) -> list[str]:
    return [one.item_id for one in found]


def test_the_new_items_follow_the_old_ones(before: Bundle, after: Bundle) -> None:
    assert after.item_ids == [*before.item_ids, *NEW]
    assert after.titles == [*before.titles, before.titles[TWIN_OF], "A crystal lamp of the moon"]
    assert after.llm.ids.names == tuple(after.item_ids)
    assert (after.llm.ids.codes[:120] == before.llm.ids.codes).all()
    assert after.catalog_version != before.catalog_version
    items = pq.read_table(after.folder / "items.parquet").slice(120).to_pylist()
    assert [row["price"] for row in items][1] == 12.5
    assert (
        items[0]["categories"]
        == pq.read_table(before.folder / "items.parquet")
        .slice(TWIN_OF, 1)["categories"]
        .to_pylist()[0]
    )


def test_all_old_items_stay_in_their_order(before: Bundle, after: Bundle) -> None:
    # not "children": there what continues a prefix shares one probability with what is new
    options = SearchOptions(normalise="level", beams=122)
    for history in ([], before.item_ids[5:9]):
        ranked = ids(recommend(after, history, 122, options=options))
        expected = ids(recommend(before, history, 122, options=options))
        assert [one for one in ranked if one not in NEW] == expected


def test_new_items_are_recommended_and_may_stand_in_histories(after: Bundle) -> None:
    history = after.item_ids[5:9]
    assert set(NEW) <= set(ids(recommend(after, history, 122)))
    assert set(ids(recommend(after, history, 5, allow=NEW))) == set(NEW)
    with_new = Recommender(after).recommend([*history, NEW[0]], 5)
    assert with_new.notes == []
    assert NEW[0] not in ids(with_new.recommendations)
    assert with_new.recommendations[0].reason == f"likely to follow {after.titles[120]!r}"


def test_a_new_item_lies_where_items_like_it_lie(before: Bundle, after: Bundle) -> None:
    """The one that is an old one's twin in content is found with it."""
    assert (
        Recommender(after).similar(NEW[0], 1).recommendations[0].item_id
        == (before.item_ids[TWIN_OF])
    )
    words = ids(recommend(after, [], 2, query=before.titles[TWIN_OF]))
    assert set(words) == {NEW[0], before.item_ids[TWIN_OF]}
    assert ids(recommend(after, [], 1, query="crystal lamp of the moon")) == [NEW[1]]


def test_the_row_of_a_new_token_points_where_its_twins_does(kind: str, after: Bundle) -> None:
    if kind == "semantic":
        pytest.skip("its tokens are known ones")
    first = after.llm.encoder.vocabulary.item_offset
    rows = after.llm.engine.model.get_input_embeddings().weight.detach()[first : first + 122]
    apart = rows - rows[:120].mean(0)
    lengths = apart.norm(dim=1)
    torch.testing.assert_close(lengths[120:], lengths[:120].mean().expand(2), rtol=1e-3, atol=0)
    cosines = torch.nn.functional.cosine_similarity(apart[:120], apart[120:121])
    assert TWIN_OF in cosines.topk(3).indices.tolist()


def test_features_are_those_that_the_catalogue_would_have(before: Bundle, after: Bundle) -> None:
    old, new = (load_features(bundle.folder / "features") for bundle in (before, after))
    assert set(old) == set(new) == {"text", "attributes", "present"}
    for name in old:
        np.testing.assert_array_equal(new[name][:120], old[name])
    np.testing.assert_allclose(new["text"][120], old["text"][TWIN_OF], atol=1e-5)
    np.testing.assert_allclose(new["attributes"][120], old["attributes"][TWIN_OF], atol=1e-5)
    assert new["present"].tolist() == [1] * 122


def test_weights_change_in_the_rows_of_new_tokens_alone(
    kind: str, before: Bundle, after: Bundle
) -> None:
    old, new = (
        load_file(bundle.folder / "model" / "model.safetensors") for bundle in (before, after)
    )
    assert set(old) == set(new)
    table = "model.embed_tokens.weight"
    changed = torch.nonzero((old[table] != new[table]).any(1)).flatten().tolist()
    for name in set(old) - {table, "lm_head.weight"}:
        assert torch.equal(old[name], new[name])
    if kind == "semantic":
        assert changed == []
        return
    first = after.llm.encoder.vocabulary.item_offset
    assert changed == [first + 120, first + 121]
    features = load_features(after.folder / "features")
    content = joined_blocks({k: features[k] for k in ("text", "attributes")}, 122)
    learned = old[table][first : first + 120].numpy()
    expected = values_by_content(content[:120], learned, content[120:])
    np.testing.assert_allclose(new[table][changed].numpy(), expected, atol=1e-5)


def test_the_same_again_is_up_to_date(
    before: Bundle, after: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    add(after.folder.parent / "new.csv", before.folder, after.folder)
    assert "up to date" in capsys.readouterr().out
    assert main(["verify", str(after.folder)]) == 0


def test_more_can_be_added_to_the_result(after: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    path.write_text('{"item_id": "new-3", "title": "A bag of sand"}\n')
    third = Bundle(add(path, after.folder, tmp_path / "out"))
    assert third.item_ids == [*after.item_ids, "new-3"]
    assert ids(recommend(third, [], 1, query="bag of sand")) == ["new-3"]
    counts = json.loads((third.folder / "manifest.json").read_text())["counts"]
    assert (counts["items"], counts["new_items"]) == (123, 1)


def test_columns_by_a_recipe(atomic: Bundle, tmp_path: Path) -> None:
    path = write_items(tmp_path / "shop.csv", [{"sku": "new-1", "name": "Blue hat", "colour": "b"}])
    recipe = tmp_path / "shop.yaml"
    recipe.write_text(
        "ingest:\n  events: nowhere.csv\n  item_columns: {item_id: sku, title: name}\n"
        "  attribute_columns: [colour]\n"
    )
    opened = Bundle(add(path, atomic.folder, tmp_path / "out", "--recipe", str(recipe)))
    assert opened.titles[-1] == "Blue hat"
    last = pq.read_table(opened.folder / "items.parquet").slice(120).to_pylist()
    assert last[0]["attributes"] == ["colour=b"]


def test_known_items_are_left_out_where_that_is_asked_for(atomic: Bundle, tmp_path: Path) -> None:
    every = [{"item_id": item} for item in (*atomic.item_ids[:3], "new-1", atomic.item_ids[9])]
    path = write_items(tmp_path / "all.csv", every)
    opened = Bundle(add(path, atomic.folder, tmp_path / "out", "--skip-known"))
    assert opened.item_ids == [*atomic.item_ids, "new-1"]
    assert opened.titles[:120] == atomic.titles


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("item_id\nnew-1\nOLD\n", [], "new.csv: row 3: item_id 'OLD' is in the catalogue already"),
        ("item_id,title\n,Lamp\n", [], "new.csv: row 2: no item_id; every item needs one"),
        ("item_id\nnew-1\nnew-1\n", [], "new.csv: row 3: item_id 'new-1' occurs a second time"),
        ("item_id\nOLD\n", ["--skip-known"], "new.csv: holds no new items; there is nothing to"),
        ("sku\nnew-1\n", [], "new.csv: no column 'item_id'"),
        ("item_id,in_stock\nnew-1,often\n", [], "new.csv: row 2: in_stock is 'often'"),
        (
            "item_id\n" + "".join(f"new-{n}\n" for n in range(65)),
            [],
            "65 new items, but only 64 spare item tokens are left",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    atomic: Bundle,
    tmp_path: Path,
    text: str,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "new.csv"
    path.write_text(text.replace("OLD", atomic.item_ids[7]))
    words = ["items", "add", str(path), "--bundle", str(atomic.folder)]
    assert main([*words, "--out", str(tmp_path / "out"), *flags]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "llmrec: error" in line]
    assert len(lines) == 1
    assert message.replace("OLD", atomic.item_ids[7]) in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_a_damaged_bundle_gets_no_items(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(tiny_run.bundle("atomic"), tmp_path / "bundle"))
    weights = bundle / "model" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-5] ^= 1
    weights.write_bytes(bytes(damaged))
    path = write_items(tmp_path / "new.csv", [{"item_id": "new-1"}])
    flags = ["--bundle", str(bundle), "--out", str(tmp_path / "out")]
    assert main(["items", "add", str(path), *flags]) == 2
    assert f"{weights}: is not what was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_semantic_ids_need_the_features_they_are_made_of(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [f"--dataset={tiny_run.folder / 'dataset'}", f"--model={tiny_run.model('semantic')}"]
    run_command(["bundle", *parts, f"--out={tmp_path / 'bundle'}"])
    path = write_items(tmp_path / "new.csv", [{"item_id": "new-1"}])
    flags = ["--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out")]
    assert main(["items", "add", str(path), *flags]) == 2
    assert "the item IDs are made of the features text, and 'text' is not known of new items" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_without_features_a_new_item_is_like_the_mean(tiny_run: TinyRun, tmp_path: Path) -> None:
    parts = [f"--dataset={tiny_run.folder / 'dataset'}", f"--model={tiny_run.model('atomic')}"]
    run_command(["bundle", *parts, f"--out={tmp_path / 'bundle'}"])
    path = write_items(tmp_path / "new.csv", [{"item_id": "new-1"}])
    opened = Bundle(add(path, tmp_path / "bundle", tmp_path / "out"))
    table = opened.llm.engine.model.get_input_embeddings().weight
    first = opened.llm.encoder.vocabulary.item_offset
    torch.testing.assert_close(table[first + 120], table[first : first + 120].mean(0))


def test_adapters_still_fit(tiny_run: TinyRun, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tiny_run.model("atomic")
    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    adapter = save_adapter(
        model, tmp_path / "gifts", name="gifts", version="1", task="recommend", base=base
    )
    run = tiny_run.folder
    parts = [f"--dataset={run / 'dataset'}", f"--model={base}", f"--adapters={adapter}"]
    run_command(["bundle", *parts, f"--features={run / 'features'}", f"--out={tmp_path / 'one'}"])
    old = Bundle(tmp_path / "one")
    path = write_items(tmp_path / "new.csv", rows)
    new = Bundle(add(path, tmp_path / "one", tmp_path / "two"))
    history = old.item_ids[5:9]
    for name in (None, "gifts"):
        expected = ids(recommend(old, history, 120, adapter=name))
        found = ids(recommend(new, history, 122, adapter=name))
        assert [one for one in found if one not in NEW] == expected
    assert recommend(new, history, 5, adapter="gifts") != recommend(new, history, 5)


def test_the_click_model_knows_the_new_items(
    shop: RandomShop, recommender: Recommender, tmp_path: Path
) -> None:
    text = "item_id,title,categories,price,available_from\nnew-1,A lamp,Category 2,20,NOW\n"
    path = tmp_path / "new.csv"
    path.write_text(text.replace("NOW", str(NOW - 1000)))
    opened = Recommender.load(add(path, shop.bundle, tmp_path / "out"))
    model, old = opened.click_model, recommender.click_model
    assert model is not None and old is not None
    items = model.item_features
    assert (items.n_items, items.price[60]) == (61, 20.0)
    assert items.categories[items.category[60]] == "Category 2"
    assert items.available_from[60] == NOW - 1000
    assert not items.fused[60].any() and not items.totals[60].any()
    history = shop.history(3)
    found = opened.recommend(history, 61, now=NOW, allow=["new-1", "item-5"]).recommendations
    assert {one.item_id for one in found} == {"new-1", "item-5"}
    assert all(0 < one.p_click < 1 for one in found if one.p_click is not None)
    candidates = ["item-5", "item-8", "item-30"]
    one, two = (
        asked.recommend(history, 3, now=NOW, candidates=candidates, rerank={}).recommendations
        for asked in (opened, recommender)
    )
    assert ids(one) == ids(two)
