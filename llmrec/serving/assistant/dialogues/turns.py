"""Turns of conversations with a shop, made from its catalogue: what is said, and the right call.

Each intent is a function of :class:`TurnMaker` that gives the message with its call; what cannot be
said by the schema of its turn (a typo that no longer names the value) is made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from llmrec.serving.assistant.calls import (
    ACTS,
    CLEAR_ALL,
    ToolCall,
    TurnView,
    arguments_schema,
    finder,
    turn_tools,
)
from llmrec.serving.assistant.dialogues.handwriting import (
    decorated,
    marked,
    plural,
    with_article,
)
from llmrec.serving.assistant.dialogues.parts import Draft, Parts, whole
from llmrec.serving.assistant.mentions import lexicon
from llmrec.serving.assistant.vocabulary import ShopVocabulary

Json = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One turn.

    Attributes:
        intent: what it was made to be.
        view: what is on the screen before it.
        message: of the customer, with the words to search for in brackets while it is made.
        call: the right one.
        vocabulary: of the shop.
    """

    intent: str
    view: TurnView
    message: str
    call: ToolCall
    vocabulary: ShopVocabulary = field(repr=False)


class TurnMaker(Parts):
    """Makes turns; arguments as of :class:`Parts`."""

    def make(self, intent: str | None = None) -> Turn:
        """A turn, of any intent or of this one."""
        names, weights = list(INTENTS), np.array(list(INTENTS.values()), dtype=np.float64)
        if self.split == "train":
            weights **= EVENED
        shares = weights / weights.sum()
        for _ in range(1000):
            turn = self._try(intent or names[int(self.rng.choice(len(names), p=shares))])
            if turn is not None:
                return turn
        raise AssertionError(f"no turn of intent {intent!r} can be made of this catalogue")

    def _try(self, name: str) -> Turn | None:
        view = self.view()
        made: Draft | None = self.talk(name) if name in ACTS else getattr(self, f"say_{name}")(view)
        if made is None:
            return None
        view = made.view or view
        message, query = marked(decorated(self.phrases, made.text, made.chatty))
        arguments = made.arguments | ({"query": query} if query else {})
        schema = arguments_schema(made.tool, self.vocabulary, message, view)
        if made.tool not in turn_tools(self.vocabulary, view):
            return None
        # in the order in which a constrained model writes them
        ordered = {key: arguments[key] for key in schema["properties"] if key in arguments}
        if len(ordered) < len(arguments) or not _fits(ordered, schema):
            return None
        return Turn(name, view, message, ToolCall(made.tool, ordered), self.vocabulary)

    def say_search(self, view: TurnView) -> Draft | None:
        """A wish."""
        wish = self.wish()
        if wish is None:
            return None
        wish.text = self.phrases.pick("search").format(wish=wish.text)
        return self.clauses(wish, 0.28)

    def say_next_thing(self, view: TurnView) -> Draft | None:
        """Another wish, after the first."""
        wish = self.wish()
        if wish is None or "category" not in wish.arguments:
            return None
        wish.text = self.phrases.pick("next_thing").format(wish=wish.text)
        wish.view = view if view.shown else self.view(1)
        return self.clauses(wish, 0.2)

    def say_free_wish(self, view: TurnView) -> Draft | None:
        """A wish that no field has."""
        text = self.phrases.pick("free_wishes")
        draft = Draft(self.phrases.pick("search").format(wish=text))
        return self.clauses(draft, 0.25)

    def say_start_over(self, view: TurnView) -> Draft | None:
        """Everything said is dropped."""
        draft = Draft(self.phrases.pick("start_over"), arguments={"clear": CLEAR_ALL})
        if self.phrases.happens(0.5) and (wish := self.wish(free=0.05)):
            words = self.phrases.pick("search").format(wish=wish.text)
            draft.add(self.phrases.choose([", ", ". ", " and "]) + words, **wish.arguments)
        return draft

    def say_recommend(self, view: TurnView) -> Draft | None:
        """What this person would like."""
        draft = Draft(self.phrases.pick("recommend"), "recommend")
        if self.phrases.happens(0.12):
            self.joined(draft, self.gift(), {"for_someone_else": True})
        if self.phrases.happens(0.1):
            self.joined(draft, *self.bound())
        return draft

    def say_recommend_wish(self, view: TurnView) -> Draft | None:
        """What this person would like among some things."""
        wish = self.wish(values=int(self.rng.integers(0, 2)), free=0)
        if wish is None:
            return None
        wish.tool = "recommend"
        wish.text = self.phrases.pick("recommend_wish").format(wish=wish.text)
        return self.clauses(wish, 0.15)

    def say_ask_for_someone(self, view: TurnView) -> Draft | None:
        """A wish that says nothing but whom it is for."""
        draft = Draft(self.phrases.pick("ask"))
        self.joined(draft, self.gift(), {"for_someone_else": True})
        return draft

    def say_someone_else(self, view: TurnView) -> Draft | None:
        """Whom it is for, alone."""
        return Draft(self.gift(), arguments={"for_someone_else": True})

    def say_for_me(self, view: TurnView) -> Draft | None:
        """That it is not for somebody else."""
        return Draft(self.phrases.pick("for_me"), arguments={"for_someone_else": False})

    def say_nothing_like_it(self, view: TurnView) -> Draft | None:
        """A thing that the shop does not have."""
        name = self.phrases.pick("not_sold_things")
        if finder(self.vocabulary).find(name) or name in lexicon()[1]:
            return None
        if not name.endswith("s") and self.phrases.happens(0.3):
            name = f"{name}s"
        words = with_article(self.phrases, f"[{name}]", name)
        words = words.replace("a [", "an [") if name[0] in "aeiou" else words
        draft = Draft(self.phrases.pick("not_sold").format(thing=words), "reply")
        draft.arguments["act"] = "not_sold"
        if self.phrases.happens(0.15):
            self.joined(draft, self.bound()[0], {})
        return draft

    def say_cheaper(self, view: TurnView) -> Draft | None:
        """Cheaper than what is shown."""
        draft = Draft(self.phrases.pick("cheaper"), arguments={"price": "lower"})
        draft.view = self.view(1)
        return self._changed(draft)

    def say_dearer(self, view: TurnView) -> Draft | None:
        """Dearer than what is shown."""
        draft = Draft(self.phrases.pick("dearer"), arguments={"price": "higher"})
        draft.view = self.view(1)
        return self._changed(draft)

    def _changed(self, draft: Draft) -> Draft:
        if self.phrases.happens(0.15) and (found := self.unwanted({})):
            self.joined(draft, *found)
        elif self.phrases.happens(0.15) and (drawn := self.any_value()):
            name, value, said = drawn
            self.joined(draft, self.phrases.pick("change_value").format(value=said), {name: value})
        return draft

    def say_change_value(self, view: TurnView) -> Draft | None:
        """Another value."""
        drawn = self.any_value()
        if drawn is None:
            return None
        name, value, said = drawn
        draft = Draft(self.phrases.pick("change_value").format(value=said), arguments={name: value})
        draft.view = self.view(1) if self.phrases.happens(0.8) else view
        return self.clauses(draft, 0.15)

    def say_unwanted(self, view: TurnView) -> Draft | None:
        """A value that it must not have."""
        found = self.unwanted({})
        if found is None:
            return None
        draft = Draft(found[0], arguments=found[1])
        draft.view = self.view(1) if self.phrases.happens(0.8) else view
        second = self.unwanted(draft.arguments) if self.phrases.happens(0.2) else None
        if second and not set(second[1]) & set(draft.arguments):
            self.joined(draft, *second)
        if self.phrases.happens(0.15) and (drawn := self.any_value()):
            name, value, said = drawn
            if f"not_{name}" not in draft.arguments or value not in str(draft.arguments):
                words = self.phrases.pick("change_value").format(value=said)
                self.joined(draft, words, {name: value})
        return draft

    def say_bound(self, view: TurnView) -> Draft | None:
        """A bound of the price."""
        words, arguments = self.bound()
        draft = Draft(words, arguments=arguments)
        if self.phrases.happens(0.2) and (found := self.unwanted({})):
            self.joined(draft, *found)
        return draft

    def say_any_value(self, view: TurnView) -> Draft | None:
        """A field that no longer matters."""
        name = self.phrases.choose(list(self.vocabulary.fields))
        draft = Draft(self.phrases.pick("any_value").format(field=name), arguments={"clear": name})
        if self.phrases.happens(0.15) and (found := self.unwanted({name: 0})):
            self.joined(draft, *found)
        return draft

    def say_any_price(self, view: TurnView) -> Draft | None:
        """A price that no longer matters."""
        return Draft(self.phrases.pick("any_price"), arguments={"clear": "price"})

    def say_answer(self, view: TurnView) -> Draft | None:
        """What was asked."""
        name = self.field()
        view = replace(view, asked=name)
        if self.phrases.happens(0.3):
            return Draft(self.phrases.pick("any_asked"), arguments={"clear": name}, view=view)
        if name == "price":
            number, text = self.price()
            words = self.phrases.pick("answer_price").format(n=text)
            return Draft(words, arguments={"price_max": whole(number)}, view=view)
        found = self.another(name, [])
        if found is None:
            return None
        value, said = found
        arguments: Json = {name: value}
        if self.phrases.happens(0.12) and (other := self.another(name, [value])):
            said, arguments = f"{said} or {other[1]}", {name: [value, other[0]]}
        if name == "category" and self.phrases.happens(0.4):
            said = plural(said)
        draft = Draft(
            self.phrases.pick("answers").format(value=said), arguments=arguments, view=view
        )
        return self.clauses(draft, 0.08)

    def say_more(self, view: TurnView) -> Draft | None:
        """Others than those shown."""
        return Draft(self.phrases.pick("more"), arguments={"more": True}, view=self.view(1))

    def say_similar(self, view: TurnView) -> Draft | None:
        """Items like one that is shown."""
        return self._of_item("similar", "similar_items")

    def say_similar_value(self, view: TurnView) -> Draft | None:
        """Items like one that is shown, but in one respect."""
        arguments: Json
        kind = self.phrases.choose(["value", "value", "cheaper", "unwanted", "bound"])
        if kind == "cheaper":
            rest, arguments = "cheaper", {"price": "lower"}
        elif kind == "bound":
            number, text = self.price()
            rest, arguments = f"under {text}", {"price_max": whole(number)}
        elif kind == "unwanted":
            found = self.unwanted({})
            if found is None:
                return None
            rest, arguments = found
        else:
            drawn = self.any_value()
            if drawn is None:
                return None
            name, value, said = drawn
            ways = {"material": "in", "colour": "in", "brand": "from"}
            rest, arguments = f"{ways.get(name, '')} {said}".strip(), {name: value}
        return self._of_item("similar_value", "similar_items", rest=rest, **arguments)

    def say_details(self, view: TurnView) -> Draft | None:
        """All about an item."""
        return self._of_item("details", "get_product")

    def say_add(self, view: TurnView) -> Draft | None:
        """An item into the cart."""
        return self._of_item("add", "update_cart", quantity=1)

    def say_add_some(self, view: TurnView) -> Draft | None:
        """Several pieces of an item."""
        words, quantity = self.phrases.pick("quantities")
        return self._of_item("add_some", "update_cart", words=words, quantity=quantity)

    def say_remove(self, view: TurnView) -> Draft | None:
        """An item out of the cart."""
        return self._of_item("remove", "update_cart", quantity=0)

    def _of_item(
        self, ways: str, tool: str, *, rest: str = "", words: str = "", **arguments: Any
    ) -> Draft | None:
        view = self.view(1)
        pointed = self.pointed(view)
        if pointed is None:
            return None
        text = self.phrases.pick(ways).format(item=pointed[0], rest=rest, quantity=words)
        return Draft(text, tool, {"item": pointed[1]} | arguments, view)

    def say_cart(self, view: TurnView) -> Draft | None:
        """What the cart holds."""
        return Draft(self.phrases.pick("cart"), "get_cart")

    def say_new_cart(self, view: TurnView) -> Draft | None:
        """An empty cart."""
        return Draft(self.phrases.pick("new_cart"), "create_cart")

    def say_compare(self, view: TurnView) -> Draft | None:
        """Shown items side by side."""
        view = self.view(2)
        kind = float(self.rng.random())
        if kind < 0.25:
            everything = list(range(1, len(view.shown) + 1))
            return Draft(self.phrases.pick("compare_all"), "compare", {"items": everything}, view)
        if kind < 0.45:
            words, count = self.phrases.pick("counts")
            if count > len(view.shown):
                return None
            text = self.phrases.pick("compare_first").format(count=words)
            return Draft(text, "compare", {"items": list(range(1, count + 1))}, view)
        one, other = self.pointed(view), self.pointed(view)
        if one is None or other is None or one[1] == other[1]:
            return None
        text = self.phrases.pick("compare").format(one=one[0], other=other[0])
        return Draft(text, "compare", {"items": [one[1], other[1]]}, view)

    def say_policy(self, view: TurnView) -> Draft | None:
        """A topic of the shop's policy."""
        known = [
            topic for topic in self.vocabulary.topics if topic in self.phrases.pick_all("policy")
        ]
        if not known:
            return None
        topic = self.phrases.choose(known)
        return Draft(self.phrases.pick("policy", topic), "store_policy", {"topic": topic})

    def talk(self, act: str) -> Draft | None:
        """What needs no look at the catalogue."""
        chatty = act in ("ask", "about", "medical")
        return Draft(self.phrases.pick(act), "reply", {"act": act}, chatty=chatty)


EVENED = 0.7  # of how often an intent is made, in training: rare ones more often
# How often each intent is made: about as often as customers have it, none too rare to be learned.
INTENTS: dict[str, float] = {
    "search": 24,
    "next_thing": 4,
    "free_wish": 4,
    "start_over": 2,
    "recommend": 3,
    "recommend_wish": 2.5,
    "ask": 1.7,
    "ask_for_someone": 1.2,
    "someone_else": 1.5,
    "for_me": 1,
    "nothing_like_it": 4,
    "cheaper": 4.5,
    "dearer": 1.7,
    "change_value": 5.5,
    "unwanted": 5,
    "bound": 3.5,
    "any_value": 2.2,
    "any_price": 1,
    "answer": 5,
    "more": 3,
    "similar": 2,
    "similar_value": 2.5,
    "details": 5,
    "add": 4,
    "add_some": 2,
    "remove": 2,
    "cart": 1.8,
    "new_cart": 1.2,
    "compare": 4,
    "policy": 5,
    "greet": 1,
    "thanks": 1,
    "goodbye": 1,
    "about": 1,
    "accept": 0.8,
    "refuse": 0.7,
    "unclear": 2,
    "other_language": 2,
    "insult": 1,
    "medical": 1,
    "self_harm": 0.7,
}


def _fits(arguments: Json, schema: Json) -> bool:
    """Whether arguments are what the schema of their turn lets a model write."""
    if any(key not in arguments for key in schema["required"]):
        return False
    return all(_allows(schema["properties"][key], value) for key, value in arguments.items())


def _allows(schema: Json, value: Any) -> bool:
    if "anyOf" in schema:
        return any(_allows(one, value) for one in schema["anyOf"])
    if "enum" in schema:
        return not isinstance(value, list) and value in schema["enum"]
    if "const" in schema:
        return bool(value == schema["const"])
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    if not isinstance(value, list) or not schema["minItems"] <= len(value) <= schema["maxItems"]:
        return False
    return all(_allows(schema["items"], one) for one in value)
