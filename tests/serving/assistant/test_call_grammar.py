"""What a call must hold beyond its schema: all that a message names, in the sense it names it."""

import json
from typing import Any

import jsonschema
import pytest
import xgrammar
from demo_turns import SHOP, SHOWN

from llmrec.llm.adapters import base_hash, read_adapter
from llmrec.serving.assistant.calls import TurnView, turn_schema, turn_tools
from llmrec.serving.assistant.dialogues.phrases import SPLITS
from llmrec.serving.assistant.grammar import call_grammar, sensible_tools
from llmrec.serving.assistant.mind import BASE, SHIPPED

LETTERS = xgrammar.TokenizerInfo([*map(chr, range(32, 127)), "</s>"], stop_token_ids=[95])
OPEN = TurnView()


def allows(message: str, view: TurnView, name: str, **arguments: Any) -> bool:
    """Whether the grammar of a turn leaves this call; then its schema must leave it as well."""
    grammar = call_grammar(SHOP, message, view, turn_tools(SHOP, view))
    compiled = xgrammar.GrammarCompiler(LETTERS).compile_grammar(grammar)
    matcher = xgrammar.GrammarMatcher(compiled, terminate_without_stop_token=True)
    call = {"name": name, "arguments": arguments}
    if not matcher.accept_string(json.dumps(call)) or not matcher.is_terminated():
        return False
    jsonschema.Draft202012Validator(turn_schema(SHOP, message, view)).validate(call)
    return True


def test_a_search_uses_all_that_is_named() -> None:
    said = "a red wool scarf, no silk, under 40"
    whole = {"category": "scarf", "colour": "red", "not_material": "silk", "price_max": 40}
    assert not allows(said, OPEN, "search_catalog", **whole)  # wool is named, too
    both = {"category": "scarf", "colour": "red", "material": "wool", "not_material": "silk"}
    assert allows(said, OPEN, "search_catalog", **both, price_max=40)
    assert not allows(said, OPEN, "search_catalog", **both)
    assert not allows(said, OPEN, "search_catalog", **both, price_min=40)
    assert allows(said, OPEN, "reply", act="about"), "a reply needs none of it"


def test_similar_items_may_be_pointed_at_by_what_is_named() -> None:
    assert allows("like the scarf but red", SHOWN, "similar_items", item=2, colour="red")
    assert allows("like the red scarf", SHOWN, "similar_items", item=1)


def test_two_prices_are_a_range_and_a_small_number_may_be_pieces() -> None:
    said = "between 20 and 40"
    assert allows(said, OPEN, "search_catalog", price_min=20, price_max=40)
    assert not allows(said, OPEN, "search_catalog", price_min=40, price_max=20)
    assert not allows(said, OPEN, "search_catalog", price_max=40)
    assert allows("I need 2 scarves", OPEN, "search_catalog", category="scarf")
    assert allows("I have 40", OPEN, "search_catalog", price_max=40)


def test_a_field_is_given_up_where_the_message_or_the_question_is_about_it() -> None:
    assert allows("any colour is fine", OPEN, "search_catalog", clear="colour")
    assert allows("any coluor is fine", OPEN, "search_catalog", clear="colour")
    assert allows("I don't mind", TurnView(asked="colour"), "search_catalog", clear="colour")
    assert not allows("I don't mind", OPEN, "search_catalog", clear="colour")
    assert allows("forget all that", OPEN, "search_catalog", clear="all")
    assert not allows("a scarf", OPEN, "search_catalog", category="scarf", clear="all")
    assert allows("the price does not matter", OPEN, "recommend")
    assert not allows("the colour red", OPEN, "search_catalog", colour="red", clear="colour")
    assert allows("start over, a mug", OPEN, "search_catalog", category="mug", clear="all")
    assert not allows("start over, a mug", OPEN, "search_catalog", category="mug")


def test_it_is_for_oneself_only_where_one_says_so() -> None:
    assert allows("it's for me", OPEN, "search_catalog", for_someone_else=False)
    assert not allows("it's a gift", OPEN, "search_catalog", for_someone_else=False)
    assert allows("it's a gift", OPEN, "search_catalog", for_someone_else=True)


def test_it_is_for_somebody_else_only_where_somebody_is_named() -> None:
    assert not allows("a scarf to wear", OPEN, "search_catalog", category="scarf",
                      for_someone_else=True)  # fmt: skip
    assert allows("a scarf for my llama", OPEN, "search_catalog", category="scarf",
                  for_someone_else=True)  # fmt: skip
    assert not allows("I need a gift", OPEN, "search_catalog", for_someone_else=False)
    assert not allows("a scarf for my brother", OPEN, "search_catalog", category="scarf")
    assert allows("my brother has a scarf", OPEN, "search_catalog", category="scarf")
    assert not allows("I need a scarf", OPEN, "search_catalog", category="scarf",
                      for_someone_else=False)  # fmt: skip
    assert not allows("my sister needs a scarf", OPEN, "search_catalog", category="scarf")
    assert allows("I'm not buying for myself", OPEN, "search_catalog", for_someone_else=True)


def test_a_word_that_describes_a_thing_is_looked_for() -> None:
    wish = {"category": "scarf", "colour": "red"}
    assert allows("a fluffy red scarf", OPEN, "search_catalog", **wish, query="fluffy")
    assert not allows("a fluffy red scarf", OPEN, "search_catalog", **wish)
    assert not allows("looking for fluffy red scarves", OPEN, "search_catalog", **wish)
    assert allows("a big fluffy red scarf", OPEN, "search_catalog", **wish, query="big fluffy")
    assert not allows("a big fluffy red scarf", OPEN, "search_catalog", **wish, query="fluffy")
    assert allows("preferably red scarves", OPEN, "search_catalog", **wish)
    assert not allows("a scarf in the colour red", OPEN, "search_catalog", **wish, query="colour")
    assert allows("display red scarves", OPEN, "search_catalog", **wish)
    assert allows("a scarf in the colour red", OPEN, "search_catalog", **wish)


def test_words_to_search_for_are_not_torn_and_none_are_everyday_ones() -> None:
    said = "something against draughty windows"
    assert allows(said, OPEN, "search_catalog", query="draughty windows")
    assert not allows(said, OPEN, "search_catalog", query="windows")
    assert not allows("wehther you have scarves", OPEN, "search_catalog", category="scarf",
                      query="wehther")  # fmt: skip
    wish = {"category": "mug", "query": "gardening"}
    assert allows("a mug for gardening", OPEN, "search_catalog", **wish)
    assert not allows("a mug for gardening", OPEN, "search_catalog", category="mug")
    assert allows("gardening, a mug", OPEN, "search_catalog", category="mug")


@pytest.mark.parametrize(
    ("message", "act"),
    [
        ("Hello there!", "greet"),
        ("ok, thank you so much", ""),  # yes, or thanks
        ("thanks a lot", "thanks"),
        ("no thanks", "refuse"),
        ("bye then", "goodbye"),
        ("hello, a mug", ""),
        ("Ищу красный шарф", "other_language"),
        ("I want to die", "self_harm"),
    ],
)
def test_small_talk_danger_and_other_languages_are_replied_to(message: str, act: str) -> None:
    assert (sensible_tools(SHOP, message, OPEN) == ["reply"]) == bool(act)
    if message.isascii():
        assert allows(message, OPEN, "reply", act=act or "ask")
        assert allows(message, OPEN, "reply", act="about") == (not act)


def test_words_of_one_topic_of_the_policy_name_it() -> None:
    assert sensible_tools(SHOP, "can I pay with PayPal?", SHOWN) == ["store_policy"]
    assert allows("can I pay with PayPal?", SHOWN, "store_policy", topic="payment")
    assert not allows("can I pay with PayPal?", SHOWN, "store_policy", topic="returns")
    assert "search_catalog" in sensible_tools(SHOP, "a mug, with fast delivery", SHOWN)


def test_what_the_shop_has_is_not_said_to_be_missing() -> None:
    assert not allows("can I get a mug?", OPEN, "reply", act="not_sold")
    assert allows("can I get a mug press?", OPEN, "reply", act="not_sold", query="press")


def test_cheaper_is_lower_and_must_be_said() -> None:
    assert allows("something cheaper", SHOWN, "search_catalog", price="lower")
    assert not allows("something cheaper", SHOWN, "search_catalog", price="higher")
    assert not allows("something cheaper", SHOWN, "search_catalog")
    assert not allows("like the mug but pricier", SHOWN, "similar_items", item=3)
    assert allows("cheaper than 40", SHOWN, "search_catalog", price_max=40)
    assert allows("these look shabby", SHOWN, "search_catalog", price="higher")
    assert not allows("a mug", SHOWN, "search_catalog", category="mug", price="higher")


def test_an_item_is_one_that_is_pointed_at_or_in_focus() -> None:
    said, focused = "tell me more about the silk one", TurnView(SHOWN.shown, focus=3)
    assert allows(said, SHOWN, "get_product", item=2)
    assert not allows(said, SHOWN, "get_product", item=1)
    assert allows(said, focused, "get_product", item=3)
    assert allows("tell me more about that", SHOWN, "get_product", item=1)


def test_a_place_on_the_screen_is_that_item_and_it_the_one_in_focus() -> None:
    focused = TurnView(SHOWN.shown, focus=3)
    assert allows("the second one", focused, "get_product", item=2)
    assert not allows("the second one", focused, "get_product", item=3)
    assert allows("add it to my cart", focused, "update_cart", item=3, quantity=1)
    assert not allows("add it to my cart", focused, "update_cart", item=1, quantity=1)
    assert allows("add it to my cart", SHOWN, "update_cart", item=1, quantity=1)
    assert not allows("change it to three", focused, "update_cart", item=3, quantity=1)
    assert allows("change it to three", focused, "update_cart", item=3, quantity=3)
    assert not allows("take it out again", focused, "update_cart", item=3, quantity=1)


def test_one_place_is_compared_with_nothing() -> None:
    assert "compare" not in sensible_tools(SHOP, "the second one", SHOWN)
    for said in ("is that better than the second one?", "the second one or the mug", "compare"):
        assert "compare" in sensible_tools(SHOP, said, SHOWN)


@pytest.mark.parametrize(
    ("message", "focus", "tools"),
    [
        ("surprise me", None, ["recommend"]),
        ("what would you recommend?", None, ["recommend"]),
        ("recommend me a smartwatch", None, ["recommend", "reply"]),  # which is not sold here
        ("based on my orders, what would fit?", None, ["recommend"]),
        ("let's start over", None, ["search_catalog"]),
        ("scrap all that, from scratch please", None, ["search_catalog"]),
        ("what's in my cart?", None, ["get_cart", "create_cart", "update_cart"]),
        ("change it to three", 1, ["update_cart"]),
        ("remove it again", 1, ["update_cart"]),
        ("put it in my basket", None, ["update_cart"]),
        ("take all of it out of my basket", None, ["get_cart", "create_cart", "update_cart"]),
        ("is this similar?", None, ["similar_items"]),
        ("more details about the first one please", None, ["get_product"]),
        ("how does the first one differ from the last?", None, ["compare"]),
    ],
)
def test_some_messages_leave_no_doubt_of_the_tool(
    message: str, focus: int | None, tools: list[str]
) -> None:
    view = TurnView(SHOWN.shown, focus=focus)
    assert sensible_tools(SHOP, message, view) == tools
    for open_to_any in (
        "remove it from the list of colours I gave",
        "my friends recommended it",
        "reset the colour filter",
        "delete all red ones",
        "your second suggestion",
        "more details please",
        "does it make a difference?",
        "show me something similar",
    ):
        assert len(sensible_tools(SHOP, open_to_any, SHOWN)) > 3
    asked = TurnView(asked="colour")  # where any answer will do
    assert "reply" in sensible_tools(SHOP, "surprise me", asked)


def test_no_tool_is_for_an_item_that_is_not_shown() -> None:
    assert {"get_product", "update_cart"} <= {*sensible_tools(SHOP, "the silk one", SHOWN)}
    cotton = TurnView(SHOWN.shown[2:])
    tools = sensible_tools(SHOP, "the silk one", cotton)
    assert not {"get_product", "update_cart"} & {*tools} and "similar_items" in tools
    assert "update_cart" in sensible_tools(SHOP, "add it, no silk please", cotton)


def test_items_are_compared_that_are_pointed_at() -> None:
    said = "is the mug better than the silk one?"
    assert allows(said, SHOWN, "compare", items=[3, 2]) and allows(
        said, SHOWN, "compare", items=[2, 3]
    )
    assert not allows(said, SHOWN, "compare", items=[1, 2, 3])
    assert allows("the first two, side by side", SHOWN, "compare", items=[1, 2])
    assert not allows("the first two, side by side", SHOWN, "compare", items=[1, 3])
    assert allows("compare them all", SHOWN, "compare", items=[1, 2, 3])


def test_pieces_are_as_many_as_are_said() -> None:
    said = "I'll take three of the mug"
    assert allows(said, SHOWN, "update_cart", item=3, quantity=3)
    assert not allows(said, SHOWN, "update_cart", item=3, quantity=2)
    assert allows("the mug, please", SHOWN, "update_cart", item=3, quantity=1)
    assert not allows("2 of number 3", SHOWN, "update_cart", item=3, quantity=3)
    assert not allows("take the mug out again", SHOWN, "update_cart", item=3, quantity=1)


def test_what_no_shown_item_has_is_wanted_of_similar_ones() -> None:
    said = "like the mug but not in wool"
    assert allows(said, SHOWN, "similar_items", item=3, not_material="wool")
    assert not allows(said, SHOWN, "similar_items", item=3)
    said = "like number 3 but under 40"
    assert allows(said, SHOWN, "similar_items", item=3, price_max=40)
    assert not allows(said, SHOWN, "similar_items", item=3)


@pytest.mark.parametrize("split", SPLITS)
def test_nearly_every_made_turn_can_be_called_right(split: Any) -> None:
    import pyarrow as pa
    from demo_turns import ROWS

    from llmrec.serving.assistant.dialogues.turns import TurnMaker

    items = [row | {"price": 5.0 + n, "brand": "Velta"} for n, row in enumerate(ROWS * 6)]
    maker = TurnMaker(SHOP, pa.Table.from_pylist(items), split, 0)
    turns = [maker.make() for _ in range(60)]
    right = [
        allows(turn.message, turn.view, turn.call.name, **turn.call.arguments)
        for turn in turns
        if turn.message.isascii()
    ]
    assert sum(right) >= 0.9 * len(right)


def test_the_shipped_adapter_is_whole_small_and_of_its_base() -> None:
    info = read_adapter(SHIPPED)  # compares the sha256 of its files
    assert (info.base_name, info.base_hash) == (BASE, base_hash(BASE, items=False))
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 12 * 2**20
    card = (SHIPPED / "README.md").read_text()
    assert "license: apache-2.0" in card and "training/assistant.yaml" in card
