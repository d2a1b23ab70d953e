"""The grammar of the calls of a turn: its JSON schema, and what a schema has no words for.

A call under this grammar is one under :func:`~llmrec.serving.assistant.calls.turn_schema`. Beyond
that, a search uses every value that the message names, as wanted or, where the words around it say
so, as not wanted, and the prices it says, on the side that its words name; a field is given up only
where the message, or the question before it, is about it. So a small model cannot leave out half of
a wish. It decides which tool is meant, for whom, at which item, and what is to be looked for in
free words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.serving.assistant.calls import (
    MAX_VALUES,
    arguments_schema,
    finder,
    shorten,
)
from llmrec.serving.assistant.mentions import (
    Mention,
    cues,
    one_edit,
    words_of,
)
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
            found.append(_field(argument, named, name in SEARCHES))
        elif argument in ("price_min", "price_max"):
            lows, highs = (
                properties.get(bound, {}).get("enum", ()) for bound in ("price_min", "price_max")
            )
            if argument == "price_min" or not lows:  # once
                found.append(_bounds(lows, highs, name in SEARCHES))
        elif argument == "for_someone_else":
            found.append(Member(_for_whom(message), False))
        elif argument == "clear":
            if allowed := _given_up(value["enum"], message, view.asked):
                found.append(Member(_pairs(argument, allowed), False))
        elif not argument.startswith("not_"):
            found.append(Member(_options(rules, argument, value), argument in required))
    return found


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
    """True; false only where the message says "me" or the like."""
    own = cues()["not_self"] & {word for word, _, _ in words_of(message)}
    return _pairs("for_someone_else", [True, False] if own else [True])


def _given_up(names: Iterable[str], message: str, asked: str | None) -> list[str]:
    """Fields that a message is about, or that were asked about."""
    words = {word for word, _, _ in words_of(message)}
    close = {
        name
        for name in names
        if (
            name == asked
            or words & cues().get(f"not_{name}", frozenset())
            or any(one_edit(word.rstrip("s"), name) or word == name for word in words)
        )
    }
    return [name for name in names if name in close]


def _options(rules: _Rules, argument: str, schema: Json) -> tuple[str, ...]:
    if "enum" in schema:
        return _pairs(argument, schema["enum"])
    if "const" in schema:
        return _pairs(argument, [schema["const"]])
    items = rules.add(" | ".join(_text(json.dumps(one)) for one in schema["items"]["enum"]))
    more = f"({_text(', ')} {items}){{{schema['minItems'] - 1},{schema['maxItems'] - 1}}}"
    return (f"{_text(json.dumps(argument) + ': [')} {items} {more} {_text(']')}",)


def _pairs(argument: str, values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(_text(f'"{argument}": {_json(value)}') for value in values)


def _text(text: str) -> str:
    """A text as a literal of EBNF."""
    return _json(text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
