"""The closed vocabulary: where values come from, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from caption_world import write_items

from llmrec.captions.prompting import (
    ModelInput,
    catalogue_text,
    instruction,
    target_response,
)
from llmrec.config import build
from llmrec.content.schema import Field, Schema, load_resolved, load_schema, save_resolved
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.types import Item


def made(tmp_path: Path, items: list[dict[str, Any]]) -> Dataset:
    return Dataset(write_items(tmp_path / "dataset", items))


def test_values_come_from_the_catalogue_the_most_frequent_of_them(tmp_path: Path) -> None:
    items = [{"attributes": [f"fit={fit}"]} for fit in ("slim", "slim", "wide", "wide", "odd")]
    schema = Schema({"fit": Field("catalogue", max_values=2)}).resolved(made(tmp_path, items))
    assert schema.values("fit") == ["slim", "wide"]
    assert schema.known(Item("1", attributes={"fit": "wide"})) == {"fit": "wide"}
    assert schema.known(Item("1", attributes={"fit": "odd"})) == {}


def test_a_category_is_the_most_special_one(tmp_path: Path) -> None:
    items = [{"categories": ["Clothing", "Shirts"]}, {"categories": ["Clothing", "Hats"]}, {}]
    field = Field("catalogue", source="categories")
    assert Schema({"c": field}).resolved(made(tmp_path, items)).values("c") == ["Hats", "Shirts"]


def test_price_bands_hold_as_many_items_each(tmp_path: Path) -> None:
    items = [{"price": float(price)} for price in range(1, 10)] + [{}]
    field = Field(["low", "middle", "high"], source="price")
    schema = Schema({"band": field}).resolved(made(tmp_path, items))
    bands = [schema.known(Item("1", price=float(price)))["band"] for price in range(1, 10)]
    assert bands == ["low"] * 3 + ["middle"] * 3 + ["high"] * 3
    assert schema.known(Item("1")) == {}
    save_resolved(schema, tmp_path / "schema.json")
    assert load_resolved(tmp_path / "schema.json") == schema


def test_a_price_limit_belongs_to_the_band_above_it() -> None:
    schema = Schema({"band": Field(["low", "high"], source="price", limits=(10.0,))})
    assert schema.known(Item("1", price=9.99)) == {"band": "low"}
    assert schema.known(Item("1", price=10.0)) == {"band": "high"}


def test_the_schema_that_comes_along_can_be_read() -> None:
    schema = load_schema("shop")
    assert {"category", "colour", "pattern", "price_band"} <= set(schema.names)
    with pytest.raises(ConfigError, match="'category' are not resolved from a catalogue"):
        schema.values("category")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "a schema needs at least one"),
        ({"a": {"values": []}}, "has none, or an empty one"),
        ({"a": {"values": ["x", " "]}}, "has none, or an empty one"),
        ({"a": {"values": ["x", "y", "x"]}}, "'x' is listed twice"),
        ({"a": {"values": ["x"], "colour": 1}}, "unknown key 'colour'"),
        ({"a": {"values": "catalog"}}, "a list, or the word catalogue"),
        ({"a": {"values": ["x"], "source": "titel"}}, "'titel' is not one of attributes.NAME"),
        ({"a": {"values": "catalogue", "source": "price"}}, "price bands need a list of names"),
        ({"a": {"values": ["x"], "limits": [1.0]}}, "limits are the prices between bands"),
        ({"a": {"source": "brand"}}, "missing key 'values'"),
        ({"caption": {"values": ["x"]}}, "'caption' is a column of every table of captions"),
        ({"p_colour": {"values": ["x"]}}, "'p_colour' is a column"),
        ({"": {"values": ["x"]}}, "a field has no name"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        build(Schema, {"fields": fields}, "my.yaml")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("my.yaml")


def test_an_unknown_schema_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"schema 'shoes': no such schema; .* shop"):
        load_schema("shoes")
    with pytest.raises(ConfigError, match="no such recipe"):
        load_schema(tmp_path / "fields.yaml")


def test_a_catalogue_that_says_nothing_of_a_field_is_told_so(tmp_path: Path) -> None:
    data = made(tmp_path, [{"title": "x"}])
    with pytest.raises(ConfigError, match=r"has 'attributes\.fit', so the field 'fit'"):
        Schema({"fit": Field("catalogue")}).resolved(data)
    with pytest.raises(ConfigError, match="no item of the catalogue has a price"):
        Schema({"band": Field(["low", "high"], source="price")}).resolved(data)


def test_what_is_known_is_said_in_one_line_and_bounded() -> None:
    item = Item("1", title="Shirt", brand="B", description="word " * 200, price=19.5)
    text = catalogue_text(item)
    assert text.startswith("Shirt; B; word word")
    assert text.endswith("word; 19.5")
    assert len(text) < 320
    assert catalogue_text(item, ["title", "price"]) == "Shirt; 19.5"
    assert catalogue_text(Item("1")) == ""
    schema = Schema({"colour": Field(["red"])})
    prompt = instruction("caption", ModelInput(text="a\nb", transcript="c" * 900), schema)
    assert prompt.startswith("Known: a b\nSaid: ccc")
    assert len(prompt) < 400


def test_what_training_learns_can_be_written_under_the_constraint() -> None:
    schema = Schema({"colour": Field(["red"])})
    item = Item("1", description='A "fine" cup\\\nof tea. More.', attributes={"colour": "red"})
    learnt = json.loads(target_response("enhance", item, schema) or "")
    assert learnt["summary"] == "A 'fine' cup/ of tea"


def test_a_category_can_be_named_by_its_place() -> None:
    schema = build(
        Schema,
        {"fields": {
            "first": {"values": ["Comedy", "Drama"], "source": "categories.0"},
            "third": {"values": ["Comedy", "Drama"], "source": "categories.2"},
            "last": {"values": ["Comedy", "Drama"], "source": "categories"},
        }},
        "s",
    )  # fmt: skip
    assert schema.known(Item("1", categories=("Comedy", "Drama"))) == {
        "first": "Comedy",
        "last": "Drama",
    }
    with pytest.raises(ConfigError, match=r"categories\.NUMBER"):
        build(Schema, {"fields": {"a": {"values": ["x"], "source": "categories.x"}}}, "s")
