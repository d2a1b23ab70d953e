"""What a model may answer in a turn, and what it reads, for a toy shop."""

import json
from typing import Any

import jsonschema
import pyarrow as pa
import pytest

from llmrec.serving.assistant.calls import (
    ShownItem,
    ToolCall,
    TurnView,
    arguments_schema,
    render_turn,
    tools,
    turn_schema,
)
from llmrec.serving.assistant.mentions import numbers_of
from llmrec.serving.assistant.vocabulary import ShopVocabulary

ROWS: list[dict[str, Any]] = [
    {
        "categories": ["Accessories", "Beanie"],
        "brand": "Okapi Lane",
        "attributes": ["category=beanie", "colour=red", "material=wool", "motion=still"],
    },
    {
        "categories": ["Accessories", "Scarf"],
        "brand": "Corner & Co",
        "attributes": ["category=scarf", "colour=navy,red", "material=silk", "motion=turning"],
    },
    {
        "categories": ["Dresses", "Summer dress"],
        "brand": None,
        "attributes": ["category=summer dress", "colour=white", "material=cotton"],
    },
    {"categories": ["Kitchen", "Evening dress"], "brand": None, "attributes": None},
]
SHOP = ShopVocabulary.of_items(pa.Table.from_pylist(ROWS), ["returns"])
TWO_SHOWN = TurnView(
    (ShownItem(SHOP.fields_of(ROWS[0]), 12.9), ShownItem(SHOP.fields_of(ROWS[1]), 8.0)), focus=1
)


def accepts(schema: dict[str, Any], name: str, **arguments: Any) -> bool:
    call = {"name": name, "arguments": arguments}
    return jsonschema.Draft202012Validator(schema).is_valid(call)


def test_the_vocabulary_is_the_closed_fields_of_the_catalogue() -> None:
    assert SHOP.fields["category"][0] == "accessories"  # the most frequent first
    assert set(SHOP.fields["colour"]) == {"red", "navy", "white"}
    assert SHOP.brands == ("Okapi Lane", "Corner & Co")
    assert "category" not in SHOP.attributes  # an argument's name
    assert SHOP.fields_of(ROWS[1])["colour"] == ("navy", "red")


def test_an_attribute_of_many_values_is_found_by_words_alone() -> None:
    rows = [
        {"attributes": [f"shape=s{n}", f"colour={'red' if n % 2 else 'blue'}"]} for n in range(99)
    ]
    vocabulary = ShopVocabulary.of_items(pa.Table.from_pylist(rows))
    assert list(vocabulary.attributes) == ["colour"]


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("Any crimson BEANIES?", "crimson = colour red; beanies = category beanie"),
        ("scraf, navy blue", "scraf = category scarf; navy blue = colour navy"),
        ("a dress", "dress = category dresses"),
        ("corner & co scarves", "corner & co = brand Corner & Co; scarves = category scarf"),
        ("summer dresses", "summer dresses = category summer dress"),
        ("sumemr dress", "sumemr dress = category summer dress"),
        ("women's wool-hat under 40", "material wool; number 40; words womens hat"),
    ],
)
def test_the_prompt_says_which_values_a_message_names(message: str, found: str) -> None:
    prompt = render_turn(SHOP, message, TurnView())
    assert prompt == f"Customer: {message}\nFound: {found}"


def test_a_common_word_is_no_value_and_no_typo_of_one() -> None:
    # "still" is a value of motion, "while" one letter from "white"
    assert render_turn(SHOP, "still here, while", TurnView()).count("\n") == 0


def test_the_prompt_says_what_is_on_the_screen_without_its_words() -> None:
    prompt = render_turn(SHOP, "the red one", TurnView(TWO_SHOWN.shown, 2, "colour"))
    assert prompt.split("\n")[1:] == [
        "Found: colour red (1,2)",
        "Shown:2 lowest:2 highest:1 focus:2",
        "Asked: colour",
    ]


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("no wool or silk please", "not material wool (1); not material silk (2)"),
        ("red, not navy", "colour red (1,2); not colour navy (2)"),
        ("wool is not for me, cotton", "not material wool (1); material cotton"),
        ("anything but red", "not colour red (1,2)"),
        (
            "a wool scarf for my sister",
            "material wool (1); category scarf (2); other person",
        ),
        ("add #2 and the cheapest", "number 2; item 2; words cheapest"),
        ("the last or the first of them", "item 1; item 2"),
        ("the third", ""),
        ("two of the first", "item 1; quantity 2"),
        ("compare the first two", "item 1; item 2"),
        ("any colour will do", "about colour"),
        ("a fluffy scarf, size 40", "category scarf (2); number 40; words fluffy"),
        ("pleaase exchnage the fluffy one", "words fluffy"),
        ("none in wool, get rid of red", "not material wool (1); not colour red (1,2)"),
        ("wool is a no-go, red would not suit me", "not material wool (1); not colour red (1,2)"),
        ("no show me red ones", "colour red (1,2)"),
        ("no 2 in red; no, I meant navy", "colour red (1,2); colour navy (2); number 2; item 2"),
    ],
)
def test_the_prompt_hints_at_what_is_meant(message: str, found: str) -> None:
    lines = render_turn(SHOP, message, TWO_SHOWN).split("\n")
    assert lines[1:-1] == ([f"Found: {found}"] if found else [])


def test_a_long_message_is_cut_in_its_middle_and_no_token_of_a_template_survives() -> None:
    prompt = render_turn(SHOP, "<|im_end|>\n" + "word " * 5000 + "red", TurnView())
    assert len(prompt.split()) < 80
    assert "<|" not in prompt
    assert prompt.endswith("Found: colour red")


def test_numbers_are_those_that_are_said() -> None:
    assert numbers_of("between 20 and 39,90 €, or thirty; 2nd, one, 15€") == [20, 39.9, 30, 15]


def test_a_call_holds_only_what_the_message_says() -> None:
    schema = turn_schema(SHOP, "a warm red scarf under 40, no wool", TurnView())
    assert accepts(schema, "search_catalog", category="scarf", colour="red", price_max=40)
    assert accepts(schema, "search_catalog", not_material="wool", query="warm")
    assert not accepts(schema, "search_catalog", colour="navy")
    assert not accepts(schema, "search_catalog", price_max=41)
    assert not accepts(schema, "search_catalog", query="cold")
    assert not accepts(schema, "search_catalog", query="scarf")  # a category, not free words
    assert not accepts(schema, "compare", items=[1, 2])


def test_a_number_bounds_the_way_its_words_say() -> None:
    schema = turn_schema(SHOP, "scarves under 40 please", TurnView())
    assert accepts(schema, "search_catalog", price_max=40)
    assert not accepts(schema, "search_catalog", price_min=40)
    schema = turn_schema(SHOP, "a scarf, 40 euros or more but not over ninety", TurnView())
    assert accepts(schema, "search_catalog", price_min=40, price_max=90)
    assert not accepts(schema, "search_catalog", price_max=40)
    assert not accepts(schema, "search_catalog", price_min=90)
    schema = turn_schema(SHOP, "a minimum price of 40, nothing dearer than 90", TurnView())
    assert accepts(schema, "search_catalog", price_min=40, price_max=90)
    assert not accepts(schema, "search_catalog", price_max=40)
    assert not accepts(turn_schema(SHOP, "40% wool", TurnView()), "search_catalog", price_max=40)
    schema = turn_schema(SHOP, "a scarf for 40", TurnView())
    assert accepts(schema, "search_catalog", price_min=40)
    assert accepts(schema, "search_catalog", price_max=40)


def test_several_values_may_be_named_of_one_field() -> None:
    schema = turn_schema(SHOP, "a red or a navy scarf", TurnView())
    assert accepts(schema, "search_catalog", colour=["red", "navy"])
    assert ToolCall("search_catalog", {"colour": ["red", "navy"]}).values("colour") == (
        "red",
        "navy",
    )
    assert ToolCall("search_catalog", {"colour": "red"}).values("colour") == ("red",)
    assert ToolCall("search_catalog").values("colour") == ()


def test_only_items_that_are_shown_can_be_pointed_at() -> None:
    schema = turn_schema(SHOP, "compare them", TWO_SHOWN)
    assert accepts(schema, "compare", items=[1, 2])
    assert accepts(schema, "update_cart", item=2, quantity=1)
    assert accepts(schema, "search_catalog", price="lower", more=True)
    assert not accepts(schema, "get_product", item=3)
    one = TurnView(TWO_SHOWN.shown[:1])
    assert not accepts(turn_schema(SHOP, "compare", one), "compare", items=[1, 1])


def test_a_call_is_written_and_read() -> None:
    call = ToolCall("search_catalog", {"brand": "Café"})
    assert call.to_json() == '{"name": "search_catalog", "arguments": {"brand": "Café"}}'
    assert ToolCall.of_json(call.to_json()) == call
    twice = ToolCall.of_json('{"name": "x", "arguments": {"colour": ["a", "a"], "items": [1, 1]}}')
    assert twice.arguments == {"colour": "a", "items": [1]}
    for wrong in ("[]", '{"arguments": {}}', '{"name": "x", "arguments": 3}', "no"):
        with pytest.raises(ValueError, match=r"."):
            ToolCall.of_json(wrong)


def test_the_tools_in_openais_form_take_every_call_of_a_turn() -> None:
    parameters = {one["function"]["name"]: one["function"]["parameters"] for one in tools(SHOP)}
    for schema in parameters.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("search_catalog", "similar_items", "compare", "update_cart", "reply"):
        narrow = arguments_schema(name, SHOP, "a warm red or navy scarf under 40", TWO_SHOWN)
        assert set(narrow["properties"]) <= set(parameters[name]["properties"])
        assert set(narrow["required"]) == set(parameters[name].get("required", ()))
    assert "compare" not in {one["function"]["name"] for one in tools(SHOP, TurnView())}
    assert json.dumps(tools(SHOP))


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("tops", "category tops"),
        ("tops, 30 dollars tops", "category tops; number 30"),
        ("thirty tops", "number 30; words tops"),
        (
            "30 at the most, whatever it costs",
            "number 30; about price",
        ),  # one letter from "coats"
        ("something that works in winter", "season winter"),
        ("something for work", "work = occasion office"),
    ],
)
def test_words_of_a_price_and_words_of_use_are_no_values(message: str, found: str) -> None:
    rows = [
        {
            "categories": ["Tops", "Winter coat"],
            "attributes": [f"occasion={occasion}", f"season={season}"],
        }
        for occasion, season in (("office", "winter"), ("party", "summer"))
    ]
    shop = ShopVocabulary.of_items(pa.Table.from_pylist(rows), [])
    assert render_turn(shop, message, TurnView()) == f"Customer: {message}\nFound: {found}"
