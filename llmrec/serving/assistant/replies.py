"""What is said of an outcome: templates, with slots that the catalogue fills.

No product, price, stock or attribute can be in a reply but as a slot. A line of the list is a
place, a title, a price, the values that were asked for, and why it is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmrec.serving.assistant.outcome import Outcome, Question
from llmrec.serving.assistant.vocabulary import ShopVocabulary
from llmrec.serving.assistant.wording import Part, Slot, Wording, field_name, listed, quoted, say
from llmrec.serving.one_line import one_line

Json = dict[str, Any]
MOST_DESCRIPTION = 240  # characters


class Replies:
    """Words for outcomes.

    Args:
        wording: of the shop's slots.
        personal: whether a list is of this person's own taste.
    """

    def __init__(self, wording: Wording) -> None:
        self.wording = wording

    def parts(
        self, outcome: Outcome, vocabulary: ShopVocabulary, *, heading: bool = True
    ) -> Iterator[Part]:
        """A reply, in the order in which it is shown.

        Args:
            heading: False where somebody else has said what the list is.
        """
        special = {
            "ask": self._asked,
            "product": self._product,
            "compared": self._compared,
            "cart": self._cart,
            "cart_changed": self._cart,
            "cart_removed": self._cart,
            "sold_out": self._sold_out,
        }.get(outcome.situation)
        if special is not None:
            yield from special(outcome, vocabulary)
        elif outcome.items:
            if heading:
                yield from self._heading(outcome)
                yield "\n"
            yield from self._lines(outcome, vocabulary)
            if outcome.question is not None:
                yield "\n"
                yield from self._narrow(outcome.question)
        else:
            yield from self._plain(outcome)

    def _plain(self, outcome: Outcome) -> list[Part]:
        slots: dict[str, Part] = {
            "wish": self.wording.wish(outcome.state.wish),
            "query": Slot(quoted(outcome.words.get("query", "")), "wish"),
            "topic": Slot(outcome.words.get("topic", ""), "wish"),
            "policy": Slot(outcome.words.get("policy", ""), "policy"),
        }
        return say(outcome.situation, outcome.state.turns, **slots)

    def _heading(self, outcome: Outcome) -> list[Part]:
        state, wish = outcome.state, self.wording.wish(outcome.state.wish)
        situation = outcome.situation
        if situation == "by_meaning":
            wish = self.wording.wish(replace(state.wish, query=""))
        if not wish.text and situation in ("found", "more", "by_meaning"):
            situation += "_open"
        if situation == "found_open" and outcome.words.get("taste") == "nobody":
            situation = "found_open_new"
        if situation == "relaxed" and set(state.seen) - set(state.shown):
            situation = "relaxed_seen"
        slots: dict[str, Part] = {
            "wish": wish,
            "given_up": Slot(listed(map(field_name, outcome.given_up), "and"), "wish")
            if outcome.given_up
            else "",
            "query": Slot(quoted(outcome.words.get("query", "")), "wish"),
        }
        return say(situation, state.turns, **slots)

    def _lines(self, outcome: Outcome, vocabulary: ShopVocabulary) -> Iterator[Part]:
        """A line an item: place, title, price, values that were asked for, reason."""
        wish = outcome.state.wish
        asked = {*wish.attributes, *wish.without_attributes, *outcome.given_up}
        reasons = {one.reason for one in outcome.items}
        for place, one in enumerate(outcome.items, 1):
            row = outcome.rows.get(one.item_id)
            if row is None:
                continue
            yield f"{place}. "
            yield self.wording.title(row)
            yield ", "
            yield self.wording.price(row)
            fields = vocabulary.fields_of(row)
            for name in fields:
                if name in asked:
                    yield ", "
                    yield self._values(fields[name], one.item_id, name)
            if one.reason and len(reasons) > 1:  # the same of all of them explains nothing
                yield " ("
                yield Slot(one_line(one.reason), "catalogue", one.item_id, "reason")
                yield ")"
            yield "\n" if place < len(outcome.items) else ""

    @staticmethod
    def _values(values: Sequence[str], item_id: str, name: str) -> Slot:
        return Slot(", ".join(dict.fromkeys(values)), "catalogue", item_id, name)

    def _narrow(self, question: Question) -> list[Part]:
        values: Part = Slot(listed(question.values), "catalogue")
        if question.field == "category":
            return say("narrow_kind", 0, values=values)
        return say("narrow", 0, field=field_name(question.field), values=values)

    def _asked(self, outcome: Outcome, _vocabulary: ShopVocabulary) -> list[Part]:
        question, turn = outcome.question, outcome.state.turns
        assert question is not None
        values = Slot(listed(question.values), "catalogue")
        if question.field == "category":
            return say("ask", turn, values=values)
        return say("ask_field", turn, field=field_name(question.field), values=values)

    def _product(self, outcome: Outcome, vocabulary: ShopVocabulary) -> Iterator[Part]:
        row = outcome.rows[outcome.words["item"]]
        yield from say("product", 0, **self._of(row))
        for name, values in vocabulary.fields_of(row).items():
            yield f"\n{field_name(name)}: "
            yield self._values(values, row["item_id"], name)
        description = one_line(row.get("description") or "")
        if description:
            cut = len(description) > MOST_DESCRIPTION
            description = description[:MOST_DESCRIPTION].rstrip() + ("…" if cut else "")
            yield "\n"
            yield Slot(description, "catalogue", row["item_id"], "description")

    def _compared(self, outcome: Outcome, vocabulary: ShopVocabulary) -> Iterator[Part]:
        """Each item with the fields in which they differ, then those in which they do not."""
        place = {item_id: n for n, item_id in enumerate(outcome.state.shown, 1)}
        fields = {one: vocabulary.fields_of(row) for one, row in outcome.rows.items()}
        names = list(dict.fromkeys(name for of_one in fields.values() for name in of_one))
        same = [n for n in names if len({of_one.get(n) for of_one in fields.values()}) == 1]
        for item_id, row in outcome.rows.items():
            yield from say("compared", 0, number=str(place.get(item_id, "-")), **self._of(row))
            for name, values in fields[item_id].items():
                if name not in same:
                    yield f", {field_name(name)} "
                    yield self._values(values, item_id, name)
            yield "\n"
        if same:
            first = next(iter(fields.values()))
            text = "; ".join(
                f"{field_name(name)} {self._values(first[name], '', name)}" for name in same
            )
            yield from say("compared_same", 0, fields=Slot(text, "catalogue"))
            yield "\n"
        prices = {one: row["price"] for one, row in outcome.rows.items() if row.get("price")}
        least = [one for one, price in prices.items() if price == min(prices.values())]
        if len(prices) == len(outcome.rows) and len(least) == 1:
            yield from say("compared_cheapest", 0, number=str(place.get(least[0], "-")))

    def _cart(self, outcome: Outcome, _vocabulary: ShopVocabulary) -> Iterator[Part]:
        cart = outcome.cart
        assert cart is not None
        name: Part = Slot(cart["id"].removeprefix("cart-")[:8], "cart")
        lines = cart["line_items"]
        yield from self._changes(cart)
        if not lines:
            yield from say("cart_empty", 0, cart=name)
            return
        yield from say(outcome.situation, 0, cart=name)
        for line in lines:
            row = outcome.rows[line["item"]["id"]]
            count: Part = Slot(str(line["quantity"]), "cart")
            yield "\n"
            slots = {"item": self.wording.title(row), "price": self.wording.price(row)}
            yield from say("cart_line", 0, quantity=count, **slots)
        prices = [outcome.rows[line["item"]["id"]]["price"] for line in lines]
        counts = [line["quantity"] for line in lines]
        total = sum(price * count for price, count in zip(prices, counts, strict=True))
        yield "\n"
        yield from say("cart_total", 0, total=Slot(self.wording.amount(total), "cart"))

    def _changes(self, cart: Json) -> Iterator[Part]:
        """What is no longer in a cart, in the cart's own words."""
        for message in cart.get("messages", ()):
            if message["type"] == "error":
                yield Slot(f"{one_line(message['content'])}.\n", "cart")

    def _sold_out(self, outcome: Outcome, vocabulary: ShopVocabulary) -> Iterator[Part]:
        row = outcome.rows.get(outcome.words["item"])
        if row is None:
            yield from say("no_such_item", outcome.state.turns)
            return
        if row.get("in_stock") is not False:
            yield from say("not_for_sale", 0, item=self.wording.title(row))
            return
        situation = "sold_out" if outcome.items else "sold_out_alone"
        yield from say(situation, 0, item=self.wording.title(row))
        if outcome.items:
            yield "\n"
            yield from self._lines(outcome, vocabulary)

    def _of(self, row: Mapping[str, Any]) -> dict[str, Part]:
        wording = self.wording
        return {
            "item": wording.title(row), "price": wording.price(row), "stock": wording.stock(row)
        }  # fmt: skip
