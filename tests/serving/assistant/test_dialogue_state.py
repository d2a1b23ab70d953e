"""What is kept of a conversation, message by message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmrec.errors import ConfigError
from llmrec.serving.assistant.state import DialogueState, Wish
from llmrec.serving.filters import CatalogFilter, Without


def after(*calls: dict[str, Any], prices: tuple[float, ...] = ()) -> Wish:
    """The wish after some messages."""
    wish = Wish()
    for said in calls:
        wish = wish.merged(said, prices)
    return wish


def test_a_message_says_what_is_new_and_the_rest_stays() -> None:
    wish = after({"category": "coat", "price_max": 90}, {"colour": "red"}, {"query": " warm "})
    assert wish == Wish("warm", ("coat",), attributes={"colour": ("red",)}, price_max=90.0)
    assert wish.where() == CatalogFilter(
        in_stock=True, categories=("coat",), price_max=90.0, attributes={"colour": ("red",)}
    )


def test_what_is_not_wanted_is_a_filter_and_takes_back_what_was() -> None:
    wish = after(
        {"category": "coat", "colour": "red", "brand": "Velta"},
        {"not_colour": "red", "not_brand": "Velta"},
        {"not_colour": ["grey"], "not_category": "rain jacket"},
    )
    assert wish.where() == CatalogFilter(
        in_stock=True,
        categories=("coat",),
        without=Without(("rain jacket",), ("Velta",), {"colour": ("red", "grey")}),
    )
    again = wish.merged({"colour": "grey", "brand": "Velta", "not_category": "coat"})
    assert (again.attributes, again.without_attributes) == (
        {"colour": ("grey",)},
        {"colour": ("red",)},
    )
    assert (again.brands, again.without_brands) == (("Velta",), ())
    assert (again.categories, again.without_categories) == ((), ("rain jacket", "coat"))
    assert again.merged({"category": "coat"}).without_categories == ("rain jacket",)


def test_another_category_keeps_the_budget_alone() -> None:
    before = {"category": "coat", "colour": "red", "not_style": "street", "query": "warm"}
    wish = after(before, {"price_max": 40}, {"category": "mug"})
    assert wish == Wish(categories=("mug",), price_max=40.0)


def test_a_category_within_the_old_one_and_a_first_one_keep_everything() -> None:
    wish = after({"colour": "red"}, {"category": "kitchen"})
    assert wish.attributes == {"colour": ("red",)}
    assert wish.merged({"category": "mug"}, narrower={"mug"}).attributes == wish.attributes
    assert wish.merged({"category": "mug"}).attributes == {}


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [
        ({"price": "lower"}, None, 29.99),
        ({"price": "higher"}, 30.01, None),
        ({"price_max": 20}, None, 20.0),
        ({"price_max": 20, "price_min": 5}, 5.0, 20.0),
    ],
)
def test_prices_are_bounds(said: dict[str, Any], low: float | None, high: float | None) -> None:
    wish = after(said, prices=(10.0, 30.0, 90.0))
    assert (wish.price_min, wish.price_max) == (low, high)


def test_a_bound_that_rules_out_the_other_takes_its_place() -> None:
    assert after({"price_min": 50}, {"price_max": 20}) == Wish(price_max=20.0)
    assert after({"price_max": 20}, {"price_min": 50}) == Wish(price_min=50.0)
    prices = (10.0, 30.0, 90.0)
    assert after({"price_max": 25}, {"price": "lower"}, prices=prices).price_max == 25.0
    assert after({"price": "lower"}) == Wish()  # than nothing


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("colour", {"attributes": {"style": ("street",)}, "without_attributes": {}}),
        ("price", {"price_max": None}),
        ("category", {"categories": ()}),
        ("query", {"query": ""}),
        ("brand", {"without_brands": ()}),
        ("size", {}),
    ],
)
def test_one_field_is_dropped(name: str, gone: dict[str, Any]) -> None:
    said = {"category": "coat", "colour": "red", "style": "street", "query": "warm"}
    wish = after(said, {"price_max": 90, "not_brand": "Velta", "not_colour": "blue"})
    assert wish.merged({"clear": name}) == Wish(**(vars(wish) | gone))
    assert wish.merged({"clear": "all", "colour": "blue"}) == after({"colour": "blue"})


def test_whom_it_is_for_stays_until_all_is_dropped() -> None:
    state = DialogueState().merged({"for_someone_else": True}).merged({"category": "mug"})
    assert state.for_someone_else
    assert not state.merged({"clear": "all"}).for_someone_else


def test_what_was_shown_is_counted_and_seen_until_the_wish_is_another() -> None:
    state = DialogueState().merged({"category": "mug"}).showing(["a", "b"])
    more = state.merged({}).showing(["c"])
    assert (more.item(1), more.item(2), more.item(0), more.item(True)) == ("c", None, None, None)
    assert more.seen == ("a", "b", "c")
    assert more.merged({"colour": "red"}).seen == ()


def test_a_state_is_json_and_back() -> None:
    state = DialogueState(asked="colour", cart_id="cart-1", turns=3).showing(["a"])
    said = {"category": "mug", "not_colour": "red", "price_max": 9, "for_someone_else": True}
    state = state.merged(said)
    state = DialogueState(**vars(state) | {"wish": Wish(picture=(-0.25, 0.5))})
    assert DialogueState.of_dict(json.loads(json.dumps(state.as_dict()))) == state
    with pytest.raises(ConfigError, match="state: unknown key 'mood'"):
        DialogueState.of_dict({"mood": "good"})
