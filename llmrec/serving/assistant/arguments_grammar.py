"""What the arguments of one call may be after a message: the parts of its grammar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llmrec.serving.assistant.calls import (
    CLEAR_ALL,
    MAX_SHOWN,
    MAX_VALUES,
    SPAN_WORDS,
    arguments_schema,
    finder,
    shorten,
)
from llmrec.serving.assistant.decisions import (
    POINTERS,
    decided_acts,
    is_gift,
    may_take_out,
    starts_over,
    takes_out,
    topics_of,
)
from llmrec.serving.assistant.hints import (
    candidates,
    described,
    given_up,
    having,
    other_runs,
    other_words,
    pointed_places,
    tails,
)
from llmrec.serving.assistant.mentions import (
    cues,
    first_of,
    hints_of,
    normal,
    numbers_of,
    quantities_of,
    words_of,
)
from llmrec.serving.assistant.price_bounds import direction_of
from llmrec.serving.assistant.vocabulary import ShopVocabulary

Json = dict[str, Any]
SEARCHES = ("search_catalog", "recommend")
ME = frozenset(("i", "im", "ill", "id", "ive"))  # of whom a gift is from as well
OTHERS = frozenset(
    ("my", "our", "someone", "somebody", "anyone", "person", "people", "else", "elses", "ourselves")
)
SMALL = 5  # whole numbers up to this may be a number of pieces


@dataclass(frozen=True)
class Member:
    """A part of an object: one of several texts or rules, and whether it must be there."""

    options: tuple[str, ...]
    required: bool = True


class ArgumentsGrammar:
    """The members of the object that holds a call's arguments.

    Args:
        add_rule: adds a rule to the grammar; returns its name.
        tool: name of the tool that is called.
        vocabulary: of the shop.
        message: of the customer.
        view: a :class:`~llmrec.serving.assistant.calls.TurnView`.
    """

    def __init__(
        self,
        add_rule: Callable[[str], str],
        tool: str,
        vocabulary: ShopVocabulary,
        message: str,
        view: Any,
    ) -> None:
        self._add_rule, self._vocabulary, self._view = add_rule, vocabulary, view
        self._schema = arguments_schema(tool, vocabulary, message, view)
        self._message = shorten(message)
        self._mentions = finder(vocabulary).find(self._message)
        self._is_search = tool in SEARCHES
        self._members: dict[str, Callable[[Any], Member | None]] = {
            "price_min": self._bounds,
            "price": self._relative_price,
            "for_someone_else": self._for_whom,
            "clear": self._clear,
            "item": self._item,
            "items": self._items,
            "quantity": self._quantity,
            "act": self._act,
            "topic": self._topic,
        }
        if tool == "search_catalog":
            self._members["query"] = self._query
        if "price_min" not in self._schema["properties"]:
            self._members["price_max"] = self._bounds

    def members(self) -> list[Member]:
        """In the order in which a call has them."""
        found = [self._member(*one) for one in self._schema["properties"].items()]
        return [member for member in found if member is not None]

    def _member(self, argument: str, schema: Json) -> Member | None:
        if argument in self._vocabulary.fields:
            return self._field(argument)
        if argument in self._members:
            return self._members[argument](schema)
        if argument.startswith("not_") or argument == "price_max":  # beside another argument
            return None
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return Member(pairs(argument, values), argument in self._schema["required"])

    def _field(self, argument: str) -> Member:
        """All values of a field that the message names: wanted, not wanted, some so, some so."""
        named = [one for one in self._mentions if one.field == argument]
        wanted = [one for one in named if one.negated or not having(one, self._view)]
        if not self._is_search and wanted:  # of others, some may point at an item
            named = wanted
        parts = []
        for name, negated in ((argument, False), (f"not_{argument}", True)):
            values = [v for one in named if one.negated == negated for v in one.values]
            if values := list(dict.fromkeys(values))[:MAX_VALUES]:
                parts.append(f'"{name}": {_json(values[0] if len(values) == 1 else values)}')
        return Member((literal(", ".join(parts)),), self._is_search or bool(wanted))

    def _bounds(self, _schema: Json) -> Member:
        """Bounds of the price, among the numbers that may be its lower and its upper one."""
        properties = self._schema["properties"]
        lows, highs = (properties.get(f"price_{end}", {}).get("enum", ()) for end in ("min", "max"))
        large = [number for number in (*lows, *highs) if number > SMALL]
        beyond = bool(large) and min(large) > len(self._view.shown)  # no place on the screen
        required = self._is_search or beyond
        prices = sorted({n for n in (*lows, *highs) if n > SMALL or n != int(n)})
        both = [
            f'"price_min": {low}, "price_max": {high}'
            for low in lows
            for high in highs
            if low < high and (len(prices) != 2 or [low, high] == prices)
        ]
        if len(prices) == 2 and both:
            return Member(tuple(map(literal, both)), required)
        singles = [f'"price_max": {n}' for n in highs] + [f'"price_min": {n}' for n in lows]
        return Member(tuple(map(literal, [*singles, *both])), required and len(prices) == 1)

    def _relative_price(self, schema: Json) -> Member | None:
        if only := direction_of(self._message):
            return Member(pairs("price", [only]))
        if any(one.field == "category" and not one.negated for one in self._mentions):
            return None  # "lower" is than what is shown
        return Member(pairs("price", schema["enum"]), False)

    def _for_whom(self, _schema: Json) -> Member | None:
        """True where somebody is named; false where the message says "me" or the like."""
        words = {word for word, _, _ in words_of(self._message)}
        other = "person" in hints_of(self._message)
        own = cues()["not_self"] & words - (ME if other or self._mentions else set())
        named = other or bool(words & OTHERS) or "not" in words  # "not buying for myself"
        allowed = [True] * named + [False] * bool(own)
        if sure := is_gift(self._message):
            allowed = [True]
        if not allowed:
            return None
        return Member(pairs("for_someone_else", allowed), sure and self._is_search)

    def _clear(self, schema: Json) -> Member | None:
        if starts_over(self._message):
            return Member(pairs("clear", [CLEAR_ALL]))
        wanted = {one.field for one in self._mentions if not one.negated}
        allowed = given_up(schema["enum"], self._message, self._view.asked)
        allowed = [name for name in allowed if name not in wanted]
        return Member(pairs("clear", allowed), False) if allowed else None

    def _query(self, schema: Json) -> Member | None:
        """Words to search for, all that stand side by side; none where all are everyday ones."""
        runs = other_runs(self._message, self._mentions)
        if not runs:
            return None
        words = {*described(self._message, self._mentions, self._vocabulary.fields)}
        words = words or {*tails(self._message, self._mentions)[:1]}
        spans = [one for one in schema["enum"] if words and words <= {*normal(one).split()}]
        whole = [one for one in schema["enum"] if not _breaks(normal(one).split(), runs)]
        both = [one for one in spans if one in whole]
        return Member(pairs("query", both or spans or whole or schema["enum"]), bool(spans))

    def _act(self, schema: Json) -> Member:
        """What is replied; what is not sold has a name that is none of the shop's."""
        acts = decided_acts(self._message) or schema["enum"]
        named = any(one.field == "category" and not one.negated for one in self._mentions)
        if named and not other_words(self._message, self._mentions):
            acts = [act for act in acts if act != "not_sold"] or acts
        return Member(pairs("act", acts))

    def _topic(self, schema: Json) -> Member:
        said = [name for name in topics_of(self._message) if name in schema["enum"]]
        return Member(pairs("topic", said or schema["enum"]))

    def _quantity(self, schema: Json) -> Member:
        """Numbers of pieces that a message may mean; any where it says nothing of them."""
        counts, said = schema["enum"], quantities_of(self._message)
        if takes_out(self._message):
            return Member(pairs("quantity", [0]))
        if len(said) == 1 and said[0] in counts:
            return Member(pairs("quantity", said))
        least = 0 if may_take_out(self._message) else 1
        allowed = {0, 1, *said, *numbers_of(self._message)}
        kept = [n for n in counts if n >= least and (n in allowed or len(allowed) == 2)]
        return Member(pairs("quantity", kept))

    def _item(self, _schema: Json) -> Member:
        """The item that a message points at, or the one in focus; any where it does neither."""
        every, pointed = self._places()
        by_place = [n for n in pointed_places(self._message, self._view) if n in every]
        words = {word for word, _, _ in words_of(self._message)}
        if len(by_place) == 1:
            places = by_place
        elif not pointed and self._view.focus in every and POINTERS & words:
            places = [self._view.focus]
        else:
            places = pointed or every
        return Member(pairs("item", places))

    def _items(self, _schema: Json) -> Member:
        """At least two of the items that a message points at, or of all."""
        every, places = self._places()
        if 1 < (count := first_of(self._message)) <= len(every):
            return Member(pairs("items", [every[:count]]))
        if len(places) < 2:
            places = every
        if len(places) == 2:
            return Member(pairs("items", [places, places[::-1]]))
        one = self._add_rule(" | ".join(literal(str(place)) for place in places))
        more = f"({literal(', ')} {one}){{1,{len(places) - 1}}}"
        start = literal('"items": [')
        return Member((f"{start} {one} {more} {literal(']')}",))

    def _places(self) -> tuple[list[int], list[int]]:
        """Places on the screen: every one, and those that a message may point at."""
        every = list(range(1, min(len(self._view.shown), MAX_SHOWN) + 1))
        pointed = {*candidates(self._message, self._view, self._mentions)}
        if pointed and self._view.focus is not None:
            pointed.add(self._view.focus)
        return every, sorted(pointed & {*every})


def _breaks(words: list[str], runs: list[list[str]]) -> bool:
    """Whether some words have a part of words that stand side by side, and not the rest."""
    whole = ({*run} for run in runs if len(run) <= SPAN_WORDS)
    return any({*words} & run and not run <= {*words} for run in whole)


def pairs(argument: str, values: Iterable[Any]) -> tuple[str, ...]:
    """An argument with each of some values."""
    return tuple(literal(f'"{argument}": {_json(value)}') for value in values)


def literal(text: str) -> str:
    """A text as a literal of EBNF."""
    return _json(text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
