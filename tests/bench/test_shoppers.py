"""Simulated shoppers: what they need, how they answer, and when they leave."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from llmrec.bench.shoppers import needs as needs_module
from llmrec.bench.shoppers.needs import Need, Product, draw_needs, liking, product_of
from llmrec.bench.shoppers.shopper import Shopper
from llmrec.bench.shoppers.truth import Truth
from llmrec.bench.shoppers.voice import Voice
from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.serving.assistant.dialogues.phrases import all_phrases, in_split
from llmrec.serving.assistant.vocabulary import ShopVocabulary


def row(
    item_id: str, kind: str, colour: str, style: str, price: float, brand: str = "Norr"
) -> dict:
    return {
        "item_id": item_id,
        "title": f"{brand} {style} {kind} in {colour}",
        "categories": ["Clothes", kind],
        "brand": brand,
        "attributes": [f"colour={colour}", f"style={style}"],
        "price": price,
        "in_stock": True,
    }


ROWS = [
    row("a", "Scarf", "red", "street", 10.0),
    row("b", "Scarf", "blue", "street", 20.0),
    row("c", "Scarf", "blue", "classic", 30.0),
    row("d", "Mug", "blue", "classic", 12.5, brand="Velta"),
]
VOCABULARY = ShopVocabulary.of_items(pa.Table.from_pylist(ROWS))
PRODUCTS = {one["item_id"]: product_of(one, VOCABULARY) for one in ROWS}


def need(**changes) -> Need:
    fields = {
        "person": "anna",
        "history": ["d"],
        "said": {"category": "scarf"},
        "asked": {"colour": "blue"},
        "department": False,
        "budget": 25.0,
        "says_budget": False,
        "fitting": frozenset("bc"),
        "accepted": frozenset("c"),
        "taste": {("style", "classic"): 1.0, ("style", "street"): -2.0},
        "sayable": frozenset({("style", "street"), ("colour", "blue"), ("colour", "red")}),
        "patience": 4,
        "lists": 2,
    }
    return Need(**{**fields, **changes})


def shopper(seed: int = 0, **changes) -> Shopper:
    return Shopper(need(**changes), Voice([seed]), VOCABULARY)


def shown(*names: str) -> list[Product]:
    return [PRODUCTS[name] for name in names]


def test_the_first_message_says_what_is_said_at_once_and_no_more() -> None:
    for seed in range(30):
        one = shopper(seed)
        message = one.begin().lower()
        assert "blue" not in message
        assert "25" not in message
        assert "norr" not in message  # no product, no brand
    one = shopper(0, says_budget=True)
    assert any(character.isdigit() for character in one.begin()) and one.knows_budget


def test_ways_of_writing_are_those_held_out() -> None:
    held = in_split(all_phrases()["more"], "held_out")
    voice = Voice([1])
    plain = {way.lower().strip("?!., ") for way in held}
    hits = sum(any(way in voice.others().lower() for way in plain) for _ in range(400))
    assert hits > 200  # the rest have typos


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        ("What colour would you like: red, blue or another?", "colour"),
        ("Shall it be street or classic?", "style"),
        ("How much would you like to spend?", "price"),
        ("What kind of thing?", "category"),
        ("I found nothing.", None),
        ("Anything else?", None),
    ],
)
def test_a_question_is_known_by_its_words(reply: str, asked: str | None) -> None:
    one = shopper()
    one.begin()
    assert one.asked_for(reply) == asked


def test_a_question_is_answered_from_the_need_or_does_not_matter() -> None:
    class Said(Voice):
        def value(self, field: str, value: str) -> str:
            return f"{field}={value}"

        def no_matter(self) -> str:
            return "no matter"

        def spend(self, budget: float) -> str:
            return f"spend {budget}"

    one = Shopper(need(), Said([0]), VOCABULARY)
    one.begin()
    assert one.next_message("Which colour: red or blue?", []) == "colour=blue"
    assert one.told["colour"] == "blue"
    assert one.next_message("Which style: street or classic?", []) == "no matter"
    assert one.next_message("How much may it cost?", []) == "spend 25.0"


class Reasons(Voice):
    """Says which reason it is, in a word."""

    def too_dear(self, budget: float) -> str:
        return f"dear {budget}"

    def rather(self, field: str, value: str) -> str:
        return f"rather {value}"

    def unwanted(self, field: str, value: str) -> str:
        return f"not {value}"

    def others(self) -> str:
        return "others"

    def happens(self, probability: float) -> bool:
        return True


def test_reasons_come_from_the_need() -> None:
    one = Shopper(need(), Reasons([0]), VOCABULARY)
    one.begin()
    assert one.next_message("Here:", shown("c")) == "dear 25.0"
    assert one.knows_budget
    assert one.next_message("Here:", shown("a")) == "rather blue"
    assert one.next_message("Here:", shown("b")) == "not street"  # all that they said
    assert one.unwanted == [("style", "street")]
    assert one.next_message("Here:", shown("b")) is None  # bored


def test_the_budget_is_no_reason_where_it_is_kept() -> None:
    one = Shopper(need(budget=100.0), Reasons([0]), VOCABULARY)
    one.begin()
    assert one.next_message("Here:", shown("b", "c")) == "not street"


def test_what_is_taken_is_most_to_the_taste_of_what_will_do() -> None:
    one = shopper(accepted=frozenset("bc"))
    assert one.choose(shown("a", "b", "c")) == 3
    assert one.choose(shown("a")) is None
    assert liking(one.need.taste, PRODUCTS["c"]) > liking(one.need.taste, PRODUCTS["b"])


@pytest.fixture(scope="module")
def few(tiny_data: Dataset) -> list[Need]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needs_module, "LEAST_LATER", 1)
        patch.setattr(needs_module, "LEAST_EARLIER", 2)
        patch.setattr(needs_module, "LEAST_FITTING", 6)
        return draw_needs(tiny_data, 12)


def test_needs_are_drawn_from_what_people_took_later(tiny_data: Dataset, few: list[Need]) -> None:
    cases = tiny_data.cases("test")
    vocabulary = ShopVocabulary.of_items(tiny_data.items)
    rows = {one["item_id"]: product_of(one, vocabulary) for one in tiny_data.items.to_pylist()}
    assert len({one.person for one in few}) == len(few)
    for one in few:
        user = tiny_data.user_ids.index(one.person)
        (case,) = [n for n, theirs in enumerate(cases.users) if theirs == user]
        taken = tiny_data.item_ids[cases.targets[case]]
        known = [event["item_id"] for event in one.history]
        assert taken in one.accepted <= one.fitting
        assert known == [tiny_data.item_ids[item] for item in cases.histories[case]]
        share = math.ceil(needs_module.TASTEFUL * len(one.fitting))
        assert len(one.accepted) <= share + 1
        for name in one.fitting:
            assert (rows[name].price or math.inf) <= one.budget and rows[name].in_stock
            assert all(v in rows[name].fields[f] for f, v in one.spoken.items())
        others = [liking(one.taste, rows[name]) for name in one.fitting - one.accepted]
        best = [liking(one.taste, rows[name]) for name in one.accepted - {taken}]
        assert not best or min(best) >= max(others, default=-math.inf)


def test_needs_are_the_same_for_a_seed(tiny_data: Dataset, few: list[Need]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needs_module, "LEAST_LATER", 1)
        patch.setattr(needs_module, "LEAST_EARLIER", 2)
        patch.setattr(needs_module, "LEAST_FITTING", 6)
        assert draw_needs(tiny_data, 12) == few
        assert draw_needs(tiny_data, 12, seed=1) != few


def test_too_many_shoppers_are_an_error(tiny_data: Dataset) -> None:
    with pytest.raises(DataError, match="lower --shoppers"):
        draw_needs(tiny_data, 100_000)


TRUTH = Truth({one["item_id"]: one for one in ROWS}, VOCABULARY)
LIST = "Look:\n1. Norr street Scarf in red, 10.00 USD\n2. Norr street Scarf in blue, 20.00 USD"


@pytest.mark.parametrize(
    ("text", "cards", "wrong"),
    [
        (LIST, "ab", 0),
        (LIST, "ba", 2),
        (LIST.replace("10.00", "9.00"), "ab", 1),
        ("1. Velta classic Mug in blue, 12.50 USD, by Norr", "d", 1),
        ("For scarf, up to 77.00 USD:", "", 0),
        ("For scarf, up to 78.00 USD:", "", 1),
    ],
)
def test_a_reply_is_read_against_the_cards(text: str, cards: str, wrong: int) -> None:
    found = list(TRUTH._own(text, list(cards), ["scarf under 77"]))
    assert len(found) == wrong, found


def test_titles_in_a_text_are_found() -> None:
    assert TRUTH.titles_in("the Velta classic Mug in blue!") == ["Velta classic Mug in blue"]
    assert TRUTH.titles_in("a mug") == []
