"""Several shops in one dataset: items kept apart, customers brought together."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmrec.cli import run_command
from llmrec.data.dataset import Dataset
from llmrec.data.domains import Domains
from llmrec.data.ingest import run
from llmrec.data.settings import DomainFiles, IngestConfig
from llmrec.errors import ConfigError, DataError


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def events(*rows: tuple[str, Any, float]) -> list[dict[str, Any]]:
    return [{"user_id": u, "item_id": i, "timestamp": t} for u, i, t in rows]


FOOD = events(("ann", 7.0, 1), ("ann", 8.0, 3), ("ben", 7.0, 1), ("ben", 8.0, 2))
KITCHEN = events(("ann", 7, 2), ("ann", 9, 4), ("cy", 9, 1), ("cy", 7, 2))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Two shops that both have an item 7 and a customer ann."""
    titles = {"food": {7: "Rice", 8: "Tea"}, "kitchen": {7: "Pan", 9: "Kettle"}}
    items = {
        shop: lines(
            tmp_path / f"{shop}-items.jsonl",
            [{"item_id": i, "title": title} for i, title in found.items()],
        )
        for shop, found in titles.items()
    }
    kitchen = lines(tmp_path / "kitchen.jsonl", KITCHEN)
    return {
        "events": lines(tmp_path / "food.jsonl", FOOD),
        "items": items["food"],
        "domain": "food",
        "other_domains": {"kitchen": DomainFiles(kitchen, items["kitchen"])},
        "timestamp_unit": "s",
    }


def sequences(dataset: Dataset) -> dict[str, list[str]]:
    names = enumerate(dataset.user_ids)
    return {name: [dataset.item_ids[i] for i in dataset.history(user)] for user, name in names}


def test_two_shops_make_one_sequence_a_customer(files: dict[str, Any], tmp_path: Path) -> None:
    dataset = Dataset(run(IngestConfig(**files), tmp_path / "out"))
    assert sequences(dataset) == {
        "ann": ["food/7", "kitchen/7", "food/8", "kitchen/9"],
        "ben": ["food/7", "food/8"],
        "cy": ["kitchen/9", "kitchen/7"],
    }
    titles = [(dataset.item(i).title, dataset.item(i).domain) for i in range(dataset.n_items)]
    assert titles == [("Rice", "food"), ("Tea", "food"), ("Pan", "kitchen"), ("Kettle", "kitchen")]
    domains = Domains.of(dataset)
    assert domains.names == ("food", "kitchen")
    assert domains.items(1).tolist() == [2, 3]
    train = dataset.train_histories(validation=True)
    assert [h.tolist() for h in domains.only(train, 1)] == [[2], [], [3, 2]]
    assert domains.events_in(train, 0).tolist() == [2, 2, 0]


def test_a_table_says_who_is_who(files: dict[str, Any], tmp_path: Path) -> None:
    rows = [("food", "ann", "1"), ("kitchen", "cy", "1"), ("kitchen", "ann", "2")]
    names = ("domain", "user_id", "customer_id")
    who = lines(tmp_path / "who.jsonl", [dict(zip(names, row, strict=True)) for row in rows])
    dataset = Dataset(run(IngestConfig(**files, customers=who), tmp_path / "out"))
    found = sequences(dataset)
    assert sorted(found) == ["1", "2", "food/ben"], "ben is not in the table"
    assert sorted(found["1"]) == ["food/7", "food/8", "kitchen/7", "kitchen/9"]
    lines(who, [dict(zip(names, row, strict=True)) for row in [*rows, ("food", "ann", "3")]])
    with pytest.raises(DataError, match=r"row 4: user 'ann' of food is customer '3' here and '1'"):
        run(IngestConfig(**files, customers=who), tmp_path / "two")
    lines(who, [dict(zip(names, ("garden", "ann", "3"), strict=True))])
    with pytest.raises(DataError, match="row 1: domain 'garden' is not one of food, kitchen"):
        run(IngestConfig(**files, customers=who), tmp_path / "three")


def test_one_log_with_a_column_of_domains(tmp_path: Path) -> None:
    log = [row | {"shop": "food"} for row in FOOD] + [row | {"shop": "kitchen"} for row in KITCHEN]
    items = [("food", 7), ("food", 8), ("kitchen", 7), ("kitchen", 9)]
    settings: dict[str, Any] = {
        "events": lines(tmp_path / "events.jsonl", log),
        "items": lines(
            tmp_path / "items.jsonl", [{"item_id": i, "title": "x", "shop": s} for s, i in items]
        ),
        "ids_by_domain": True,
        "event_columns": {"domain": "shop"},
        "item_columns": {"domain": "shop"},
        "timestamp_unit": "s",
    }
    dataset = Dataset(run(IngestConfig(**settings), tmp_path / "out"))
    assert sequences(dataset)["ann"] == ["food/7", "kitchen/7", "food/8", "kitchen/9"]
    del log[3]["shop"]
    lines(settings["events"], log)
    with pytest.raises(DataError, match="row 4: names no domain"):
        run(IngestConfig(**settings), tmp_path / "again")


def test_shops_in_a_recipe(files: dict[str, Any], tmp_path: Path) -> None:
    kitchen = files["other_domains"]["kitchen"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""ingest:
  events: {files["events"]}
  items: {files["items"]}
  domain: food
  timestamp_unit: s
  other_domains:
    kitchen: {{events: {kitchen.events}, items: {kitchen.items}}}
"""
    )
    out = str(tmp_path / "out")
    run_command(["ingest", str(recipe), "--out", out])
    assert Domains.of(Dataset(out)).names == ("food", "kitchen")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"domain": ""}, "name the first shop and the further ones"),
        ({"domain": "kitchen"}, "other_domains: 'kitchen' is the first shop already"),
        ({"ids_by_domain": True}, "ids_by_domain: is for one log"),
        ({"domain": "a/b"}, "must be a plain name"),
    ],
)
def test_settings_that_contradict(files: dict[str, Any], values: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        IngestConfig(**{**files, **values})


def test_an_item_without_a_domain_is_named(tmp_path: Path) -> None:
    log = lines(tmp_path / "events.jsonl", FOOD)
    items = lines(tmp_path / "items.jsonl", [{"item_id": i, "title": "x"} for i in (7, 8)])
    dataset = Dataset(run(IngestConfig(log, items, timestamp_unit="s"), tmp_path / "out"))
    with pytest.raises(DataError, match="item '7' has no domain"):
        Domains.of(dataset)
