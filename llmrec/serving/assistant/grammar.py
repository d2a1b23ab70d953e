"""The grammar of the calls of a turn: its JSON schema, and what a schema has no words for.

A call under this grammar is one under :func:`~llmrec.serving.assistant.calls.turn_schema`. Beyond
that, a search uses every value that the message names, as wanted or, where the words around it say
so, as not wanted, and the prices it says, on the side that its words name; "cheaper" is a lower
price, three of something are three pieces, and of the items on the screen only those are meant that
the message points at, "it" being the one in focus; a field is given up only where the message, or
the question before it, is about it, and it is for somebody else only where somebody is named. So a
small model cannot leave out half of a wish. It decides, where the message leaves that open, which
tool is meant, for whom, at which of a few items, and what is to be looked for in free words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.serving.assistant.calls import (
    CLEAR_ALL,
    MAX_SHOWN,
    MAX_VALUES,
    arguments_schema,
    finder,
    shorten,
    turn_tools,
)
from llmrec.serving.assistant.hints import (
    POINTERS,
    candidates,
    described,
    given_up,
    having,
    is_gift,
    may_take_out,
    only_tools,
    pointed_places,
    points_at_one,
    starts_over,
    takes_out,
)
from llmrec.serving.assistant.mentions import (
    Mention,
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
SMALL = 5  # whole numbers up to this may be a number of pieces


@dataclass(frozen=True)
class Member:
    """A part of an object: one of several texts or rules, and whether it must be there."""

    options: tuple[str, ...]
    required: bool


def call_grammar(vocabulary: ShopVocabulary, message: str, view: Any, tools: Sequence[str]) -> str:
    """The grammar, in xgrammar's EBNF, of the calls of some tools.

    Args:
        view: a :class:`~llmrec.serving.assistant.calls.TurnView`.
        tools: names.
    """
    rules = _Rules()
    calls = []
    for name in tools:
        members = _members(rules, name, vocabulary, message, view)
        start = _text(f'{{"name": "{name}", "arguments": {{')
        calls.append(f"{start} {rules.add_object(members)} {_text('}}')}")
    return rules.whole(" | ".join(calls))


def sensible_tools(vocabulary: ShopVocabulary, message: str, view: Any) -> list[str]:
    """Names of the tools that make sense after a message.

    None that is for one shown item where the message names values that no shown item has: "the
    white one" of red ones is looked for, not bought. "The second one" is not compared with
    anything, and who asks for a recommendation, or starts over, is not asked what is meant.
    """
    message = shorten(message)
    mentions = finder(vocabulary).find(message)
    tools = turn_tools(vocabulary, view)
    if only := [name for name in only_tools(message, view, mentions) if name in tools]:
        return only
    pointed = candidates(message, view, mentions) or POINTERS & {w for w, _, _ in words_of(message)}
    senseless = ("get_product", "update_cart") if mentions and not pointed else ()
    if points_at_one(message, view, mentions):
        senseless = (*senseless, "compare")
    return [name for name in tools if name not in senseless]


class _Rules:
    """Rules as they are made."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, body: str) -> str:
        """A rule; returns its name."""
        name = f"r{len(self.lines)}"
        self.lines.append(f"{name} ::= {body}")
        return name

    def add_object(self, members: Sequence[Member]) -> str:
        """Members in their order, with commas between those that are there."""
        first = behind = '""'
        for member in reversed(members):
            one = self.add(" | ".join(member.options))
            others = ("", "") if member.required else (f" | {first}", f" | {behind}")
            first = self.add(f"{one} {behind}{others[0]}")
            behind = self.add(f"{_text(', ')} {one} {behind}{others[1]}")
        return first

    def whole(self, root: str) -> str:
        """The grammar."""
        return "\n".join([f"root ::= {root}", *self.lines])


def _members(
    rules: _Rules, name: str, vocabulary: ShopVocabulary, message: str, view: Any
) -> list[Member]:
    schema = arguments_schema(name, vocabulary, message, view)
    properties: Json = dict(schema["properties"])
    required = set(schema["required"])
    found: list[Member] = []
    message = shorten(message)
    mentions = finder(vocabulary).find(message)
    fields = [argument for argument in vocabulary.fields if argument in properties]
    for argument, value in properties.items():
        if argument in fields:
            named = [one for one in mentions if one.field == argument]
            wanted = [one for one in named if one.negated or not having(one, view)]
            if name in SEARCHES or not wanted:  # of others, some may point at an item
                found.append(_field(argument, named, name in SEARCHES))
            else:
                found.append(_field(argument, wanted, True))
        elif argument in ("price_min", "price_max"):
            lows, highs = (
                properties.get(bound, {}).get("enum", ()) for bound in ("price_min", "price_max")
            )
            if argument == "price_min" or not lows:  # once
                large = [number for number in (*lows, *highs) if number > SMALL]
                beyond = bool(large) and min(large) > len(view.shown)  # no place on the screen
                found.append(_bounds(lows, highs, name in SEARCHES or beyond))
        elif argument == "price":
            if only := direction_of(message):
                found.append(Member(_pairs(argument, [only]), True))
            elif not any(one.field == "category" and not one.negated for one in mentions):
                found.append(Member(_pairs(argument, value["enum"]), False))  # of what is shown
        elif argument == "for_someone_else":
            if options := _for_whom(message):
                found.append(Member(options, is_gift(message) and name in SEARCHES))
        elif argument == "clear":
            if starts_over(message):
                found.append(Member(_pairs(argument, [CLEAR_ALL]), True))
            elif allowed := given_up(value["enum"], message, view.asked):
                found.append(Member(_pairs(argument, allowed), False))
        elif argument == "query" and name == "search_catalog":
            words = {*described(message, mentions, vocabulary.fields)}
            spans = [one for one in value["enum"] if words and words <= {*normal(one).split()}]
            found.append(Member(_pairs(argument, spans or value["enum"]), bool(spans)))
        elif argument in ("item", "items"):
            found.append(Member(_items(rules, argument, message, view, mentions), True))
        elif argument == "quantity":
            found.append(Member(_pairs(argument, _counts(value["enum"], message)), True))
        elif not argument.startswith("not_"):
            found.append(Member(_options(argument, value), argument in required))
    return found


def _items(
    rules: _Rules, argument: str, message: str, view: Any, mentions: Sequence[Mention]
) -> tuple[str, ...]:
    """Items that a message points at, or the one in focus; any where it points at none."""
    every = list(range(1, min(len(view.shown), MAX_SHOWN) + 1))
    pointed = candidates(message, view, mentions)
    if argument == "item":
        by_place = [place for place in pointed_places(message, view) if place in every]
        if len(by_place) == 1:
            return _pairs(argument, by_place)
        if not pointed and view.focus in every and POINTERS & {w for w, _, _ in words_of(message)}:
            return _pairs(argument, [view.focus])
    if argument == "items" and 1 < (count := first_of(message)) <= len(every):
        return (_text(f'"items": {_json(every[:count])}'),)
    if pointed and view.focus is not None:
        pointed = sorted({*pointed, view.focus})
    places = [place for place in pointed if place in every]
    if argument == "item":
        return _pairs(argument, places or every)
    if len(places) < 2:
        places = every
    if len(places) == 2:
        return _pairs(argument, [places, places[::-1]])
    one = rules.add(" | ".join(_text(str(place)) for place in places))
    more = f"({_text(', ')} {one}){{1,{len(places) - 1}}}"
    start = _text('"items": [')
    return (f"{start} {one} {more} {_text(']')}",)


def _counts(counts: Sequence[int], message: str) -> Sequence[int]:
    """Numbers of pieces that a message may mean; any where it says nothing of them."""
    if takes_out(message):
        return [0]
    said = quantities_of(message)
    if len(said) == 1 and said[0] in counts:
        return said
    least = 0 if may_take_out(message) else 1
    allowed = {0, 1, *said, *numbers_of(message)}
    return [n for n in counts if n >= least and (n in allowed or len(allowed) == 2)]


def _field(argument: str, mentions: Sequence[Mention], required: bool) -> Member:
    """A field whose values the message names, all of them: wanted, not wanted, some so, some so."""
    parts = []
    for name, negated in ((argument, False), (f"not_{argument}", True)):
        named = [v for one in mentions if one.negated == negated for v in one.values]
        if values := list(dict.fromkeys(named))[:MAX_VALUES]:
            parts.append(f'"{name}": {_json(values[0] if len(values) == 1 else values)}')
    return Member((_text(", ".join(parts)),), required)


def _bounds(lows: Sequence[float], highs: Sequence[float], required: bool) -> Member:
    """Bounds of the price, among the numbers that may be its lower and its upper one."""
    prices = sorted({n for n in (*lows, *highs) if n > SMALL or n != int(n)})
    pairs = [
        f'"price_min": {low}, "price_max": {high}'
        for low in lows
        for high in highs
        if low < high and (len(prices) != 2 or [low, high] == prices)
    ]
    if len(prices) == 2 and pairs:
        return Member(tuple(map(_text, pairs)), required)
    singles = [f'"price_max": {n}' for n in highs] + [f'"price_min": {n}' for n in lows]
    return Member(tuple(map(_text, [*singles, *pairs])), required and len(prices) == 1)


def _for_whom(message: str) -> tuple[str, ...]:
    """True where somebody is named; false where the message says "me" or the like."""
    words = {word for word, _, _ in words_of(message)}
    if is_gift(message):
        return _pairs("for_someone_else", [True])
    other = "person" in hints_of(message)
    own = cues()["not_self"] & words - ({"i"} if other else set())
    named = other or bool(words & {"my", "someone", "somebody"})
    allowed = [True] * named + [False] * bool(own)
    return _pairs("for_someone_else", allowed)


def _options(argument: str, schema: Json) -> tuple[str, ...]:
    return _pairs(argument, schema["enum"] if "enum" in schema else [schema["const"]])


def _pairs(argument: str, values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(_text(f'"{argument}": {_json(value)}') for value in values)


def _text(text: str) -> str:
    """A text as a literal of EBNF."""
    return _json(text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
