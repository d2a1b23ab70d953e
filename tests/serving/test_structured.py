"""Answers in the shape of a schema, asked for by the official client's ``parse()``."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from llmrec.serving.bundle import Bundle
from llmrec.serving.structured import AnswerFormat, FormatError

WORDS: Any = [{"role": "user", "content": ""}]


class Product(BaseModel):
    item_id: str
    name: str
    price: float | None
    brand: str | None
    category: str | None
    colour: str | None
    why: str | None
    reason: str
    rank: int
    p_click: float | None


class Shelf(BaseModel):
    kind: Literal["shelf"]
    products: list[Product]
    titles: list[str]
    best: Product
    notes: list[str]
    wishes: str | None


def test_parsed_by_the_official_client(client: openai.OpenAI, atomic: Bundle) -> None:
    history = atomic.item_ids[:3]
    found = client.chat.completions.parse(
        model="llmrec", messages=WORDS, response_format=Shelf, extra_body={"history": history}
    )
    shelf, extra = found.choices[0].message.parsed, found.model_extra
    assert shelf is not None and extra is not None
    expected = extra["recommendations"]
    assert [one.item_id for one in shelf.products] == [one["item_id"] for one in expected]
    assert [one.reason for one in shelf.products] == [one["reason"] for one in expected]
    assert shelf.titles == [one["title"] for one in expected]
    assert shelf.best == shelf.products[0]
    assert (shelf.kind, shelf.wishes, shelf.notes) == ("shelf", None, [])
    for one in shelf.products:
        facts = atomic.items.facts(one.item_id)
        assert (one.price, one.brand) == (facts.get("price"), facts.get("brand"))
        assert one.category == facts["categories"][-1]
        assert one.colour == facts["attributes"].get("colour")
        assert one.why is None and one.p_click is None  # no click model ranks here


def test_streamed_by_the_official_client(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="llmrec", messages=WORDS, response_format=Shelf
    ) as stream:
        found = stream.get_final_completion()
    shelf = found.choices[0].message.parsed
    assert shelf is not None and len(shelf.products) == 10


def test_plain_json(client: openai.OpenAI) -> None:
    found: Any = client.chat.completions.create(
        model="llmrec", messages=WORDS, response_format={"type": "json_object"}
    )
    said = json.loads(found.choices[0].message.content)
    assert [one["item_id"] for one in said["recommendations"]] == [
        one["item_id"] for one in found.recommendations
    ]


ITEMS = [{"item_id": "a", "title": "A", "score": 0.5}, {"item_id": "b", "title": "B", "score": 0.1}]


def filled(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> Any:
    schema = {"type": "object", "properties": properties, "required": list(required)} | more
    found = AnswerFormat.of({"type": "json_schema", "schema": schema}, "response_format")
    assert found is not None
    return found.fill({"notes": [], "model": "m"}, ITEMS)


def test_lists_of_strings() -> None:
    texts = {"type": "array", "items": {"type": "string"}}
    names = {"item_ids": texts, "titles": texts, "names": texts, "anything": texts}
    by_id, by_title = ["a", "b"], ["A", "B"]
    expected = {"item_ids": by_id, "titles": by_title, "names": by_title, "anything": by_id}
    assert filled(names) == expected
    assert filled({"scores": {"type": "array", "items": {"type": "number"}, "maxItems": 1}}) == {
        "scores": [0.5]
    }


TEXT = {"type": "string"}
CIRCLE = {"$ref": "#/$defs/A"}


@pytest.mark.parametrize(
    ("properties", "more", "message"),
    [
        ({"mood": TEXT}, {"required": ["mood"]}, "the answer has no 'mood'"),
        ({"model": {"type": "integer"}}, {}, "does not fit: model: 'm' is not of type"),
        ({"model": {"type": "string", "pattern": "(a+)+$"}}, {}, "keyword 'pattern'"),
        ({"model": {"$ref": "http://shop.example/s"}}, {}, "'http://shop.example/s' is not among"),
        ({"model": CIRCLE}, {"$defs": {"A": CIRCLE}}, "leads to itself"),
        ({"model": {"anyOf": [TEXT, {"type": "number"}]}}, {}, "anyOf may only name one"),
        ({"model": {"type": "word"}}, {}, "the schema is none"),
        ({"all": {"type": "array"}}, {}, "'all' is an array without items"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    properties: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatError, match=r"^response_format: ") as caught:
        filled(properties, **more)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "value", [{"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "schema": TEXT}]
)
def test_formats_that_there_are_not(client: openai.OpenAI, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="llmrec", messages=WORDS, response_format=value)
    assert caught.value.param == "response_format"
