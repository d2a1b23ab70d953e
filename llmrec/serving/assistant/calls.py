"""The calls that a language model may make in a turn, and what it reads before it makes one.

A call is an object ``{"name": ..., "arguments": {...}}`` with flat arguments that hold only what
this message says; the loop merges them into the wish that it keeps. :func:`turn_schema` leaves the
model no other answer: values of fields are those that the message names, prices its numbers, free
words a part of it, positions those of shown items. :func:`render_turn` writes what it reads, in
training and in serving alike; titles are never in it, since one could carry instructions.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from llmrec.serving.assistant.hints import extremes, having, hints
from llmrec.serving.assistant.mentions import (
    Mention,
    MentionFinder,
    lexicon,
    numbers_of,
    placed_numbers,
    words_of,
)
from llmrec.serving.assistant.price_bounds import bound_of
from llmrec.serving.assistant.vocabulary import Fields, ShopVocabulary

Json = dict[str, Any]

SYSTEM = "Answer with a tool call."
ACTS = (
    "greet",  # hello
    "thanks",
    "goodbye",
    "about",  # who or what are you, what can you do
    "accept",  # yes
    "refuse",  # no
    "ask",  # wants something, says nothing of what: one question back
    "unclear",
    "other_language",
    "insult",
    "not_sold",  # a thing that the shop does not have; query has its name
    "medical",
    "self_harm",
)
DESCRIPTIONS = {
    "search_catalog": "Find items by what this message asks for; what was asked before is kept.",
    "recommend": "What this person would like now, within what the message asks for.",
    "similar_items": "Items like one that is shown, with what the message wants otherwise.",
    "compare": "Set shown items side by side.",
    "get_product": "All about a shown item: price, stock, what it is made of.",
    "update_cart": "Put a shown item into the cart; quantity 0 takes it out.",
    "create_cart": "A new, empty cart.",
    "get_cart": "What the cart holds.",
    "lookup_catalog": "Items by their ids.",
    "store_policy": "What the shop says of a topic.",
    "reply": "Answer without looking anything up.",
}
_OF_SHOWN = ("similar_items", "compare", "get_product", "update_cart")
MAX_MENTIONS = 12  # in a prompt
MAX_SHOWN = 12  # items that can be pointed at
MAX_QUANTITY = 12  # beside the numbers that a message says
MAX_VALUES = 3  # of one field in one call: "red or blue"
FIRST_WORDS, LAST_WORDS = 48, 16  # of a long message
SPAN_WORDS = 4  # of free words
LARGE = 100  # values of a field that tools list for another language model
CLEAR_ALL = "all"
_FILTERED = ("search_catalog", "recommend", "similar_items")


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        name: of the tool.
        arguments: by name; a filter is a text, or a list of texts of which any will do.
    """

    name: str
    arguments: Json = field(default_factory=dict)

    def to_json(self) -> str:
        """As a language model writes it."""
        whole = {"name": self.name, "arguments": self.arguments}
        return json.dumps(whole, ensure_ascii=False)

    @classmethod
    def of_json(cls, text: str) -> ToolCall:
        """A call as it was written.

        Raises:
            ValueError: if the text is no call.
        """
        loaded = json.loads(text)
        name, arguments = (
            (loaded.get("name"), loaded.get("arguments", {}))
            if isinstance(loaded, dict)
            else (None, None)
        )
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise ValueError("a call is an object with a name and arguments")
        return cls(name, {n: _once(value) for n, value in arguments.items()})

    def values(self, name: str) -> tuple[str, ...]:
        """The values of a filter, none where the call does not have it."""
        value = self.arguments.get(name)
        if value is None:
            return ()
        return tuple(value) if isinstance(value, list) else (value,)


@dataclass(frozen=True)
class ShownItem:
    """What of an item on the screen a customer may point at it by.

    Attributes:
        fields: its values in the closed fields, as :meth:`ShopVocabulary.fields_of` gives them.
        price: or None.
    """

    fields: Fields
    price: float | None = None


@dataclass(frozen=True)
class TurnView:
    """What a model knows of the conversation when a message comes.

    Attributes:
        shown: items on the screen, first to last.
        focus: position, from 1, of the item that was last talked about.
        asked: the argument that the assistant asked about last, if it waits for an answer.
    """

    shown: tuple[ShownItem, ...] = ()
    focus: int | None = None
    asked: str | None = None


def shorten(message: str) -> str:
    """A message in one line, a very long one without its middle."""
    words = message.replace("<|", "< |").split()
    if len(words) > FIRST_WORDS + LAST_WORDS:
        words = [*words[:FIRST_WORDS], "...", *words[-LAST_WORDS:]]
    return " ".join(word[:40] for word in words)


def render_turn(vocabulary: ShopVocabulary, message: str, view: TurnView) -> str:
    """The user's part of the prompt: the message, what it names, and what is on the screen."""
    message = shorten(message)
    lines = [f"Customer: {message}"]
    mentions = finder(vocabulary).find(message)
    found = [_mention(mention, view) for mention in mentions]
    found += [_number(value) for value in numbers_of(message)]
    found += hints(message, view, mentions, clearable(vocabulary))
    if found:
        lines.append(f"Found: {'; '.join(found[:MAX_MENTIONS])}")
    if view.shown:
        lines.append(_shown(view))
    if view.asked:
        lines.append(f"Asked: {view.asked}")
    return "\n".join(lines)


def messages(vocabulary: ShopVocabulary, message: str, view: TurnView) -> list[dict[str, str]]:
    """The conversation that a model's chat template writes."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": render_turn(vocabulary, message, view)},
    ]


@lru_cache(maxsize=8)
def finder(vocabulary: ShopVocabulary) -> MentionFinder:
    """Finds the values of a shop; its index is made once."""
    return MentionFinder(vocabulary)


def turn_schema(
    vocabulary: ShopVocabulary, message: str, view: TurnView, *, tool: str | None = None
) -> Json:
    """The JSON schema of the calls that make sense after a message.

    Args:
        tool: leave only this one.
    """
    tools = turn_tools(vocabulary, view)
    choices = [
        {
            "type": "object",
            "properties": {
                "name": {"const": name},
                "arguments": arguments_schema(name, vocabulary, message, view),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name in (tools if tool is None else [tool])
    ]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def turn_tools(vocabulary: ShopVocabulary, view: TurnView) -> list[str]:
    """Names of the tools that make sense: none of an item where none is shown."""
    tools = ["search_catalog", "recommend", "reply", "get_cart", "create_cart"]
    if view.shown:
        tools += ["similar_items", "get_product", "update_cart"]
    if len(view.shown) > 1:
        tools.append("compare")
    if vocabulary.topics:
        tools.append("store_policy")
    return tools


def arguments_schema(name: str, vocabulary: ShopVocabulary, message: str, view: TurnView) -> Json:
    """The arguments that a tool may have after a message, in the order they are written in."""
    message = shorten(message)
    position = _enum(range(1, min(len(view.shown), MAX_SHOWN) + 1))
    properties: Json = {}
    required: list[str] = []
    if name in ("similar_items", "get_product", "update_cart"):
        properties["item"] = position
        required.append("item")
    if name in _FILTERED:
        properties |= _filters(name, vocabulary, message, view)
    if name == "compare":
        top = min(len(view.shown), MAX_SHOWN)
        bounds = {"minItems": 2, "maxItems": top}
        properties["items"] = {"type": "array", "items": position} | bounds
        required.append("items")
    if name == "update_cart":
        numbers = [int(n) for n in numbers_of(message) if n == int(n) and n <= 999]
        properties["quantity"] = _enum(dict.fromkeys([*range(MAX_QUANTITY + 1), *numbers]))
        required.append("quantity")
    if name == "store_policy":
        properties["topic"] = _enum(vocabulary.topics)
        required.append("topic")
    if name == "reply":
        properties["act"] = _enum(ACTS)
        required.append("act")
        if spans := _spans(vocabulary, message):
            properties["query"] = _enum(spans)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _filters(name: str, vocabulary: ShopVocabulary, message: str, view: TurnView) -> Json:
    found: Json = {}
    mentions = finder(vocabulary).find(message)
    for argument in vocabulary.fields:
        said = dict.fromkeys(v for one in mentions if one.field == argument for v in one.values)
        if said:
            found |= {argument: _any_of(said), f"not_{argument}": _any_of(said)}
    for bound, other in (("min", "max"), ("max", "min")):
        numbers = [
            _as_json(number)
            for begin, end, number in placed_numbers(message)
            if bound_of(message, begin, end) != other
        ]
        if numbers:
            found[f"price_{bound}"] = _enum(dict.fromkeys(numbers))
    if view.shown:
        found["price"] = _enum(("lower", "higher"))
    if name == "search_catalog" and (spans := _spans(vocabulary, message)):
        found["query"] = _enum(spans)
    found["for_someone_else"] = {"type": "boolean"}
    if view.shown:
        found["more"] = {"const": True}
    if name == "search_catalog":
        found["clear"] = _enum(clearable(vocabulary))
    return found


def clearable(vocabulary: ShopVocabulary) -> tuple[str, ...]:
    """What a customer may give up of a wish."""
    return (CLEAR_ALL, "price", *vocabulary.fields, "query")


def tools(vocabulary: ShopVocabulary, view: TurnView | None = None) -> list[Json]:
    """The tools in OpenAI's form, for a language model that chooses with words of its own."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": about,
                "parameters": open_schema(name, vocabulary),
            },
        }
        for name, about in DESCRIPTIONS.items()
        if (name != "store_policy" or vocabulary.topics)
        and (view is None or view.shown or name not in _OF_SHOWN)
    ]


def open_schema(name: str, vocabulary: ShopVocabulary) -> Json:
    """The arguments of a tool, whatever the message."""
    properties: Json = {}
    position = {"type": "integer", "minimum": 1, "description": "Position in the list shown."}
    if name in ("similar_items", "get_product", "update_cart"):
        properties["item"] = position
    if name in _FILTERED:
        for argument, values in vocabulary.fields.items():
            one: Json = _enum(values) if len(values) <= LARGE else {"type": "string"}
            either = {"anyOf": [one, {"type": "array", "items": one, "maxItems": MAX_VALUES}]}
            properties |= {argument: either, f"not_{argument}": either}
        number = {"type": "number", "minimum": 0}
        properties |= {"price_min": number, "price_max": number}
        properties["price"] = _enum(("lower", "higher"))
        if name == "search_catalog":
            properties["query"] = {"type": "string", "description": "Words of the customer."}
            properties["clear"] = _enum(clearable(vocabulary))
        properties |= {"for_someone_else": {"type": "boolean"}, "more": {"type": "boolean"}}
    if name == "compare":
        properties["items"] = {"type": "array", "items": position, "minItems": 2}
    if name == "update_cart":
        properties["quantity"] = {"type": "integer", "minimum": 0}
    if name == "store_policy":
        properties["topic"] = _enum(vocabulary.topics)
    if name == "lookup_catalog":
        properties["ids"] = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    if name == "reply":
        properties |= {"act": _enum(ACTS), "query": {"type": "string"}}
    required = [
        key for key in ("item", "items", "quantity", "topic", "ids", "act") if key in properties
    ]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _once(value: Any) -> Any:
    """A list without what it repeats, and one value for a list of one; anything else as it is."""
    if not isinstance(value, list) or any(isinstance(one, list | dict) for one in value):
        return value
    once = list(dict.fromkeys(value))
    return once[0] if len(once) == 1 and isinstance(once[0], str) else once


def _mention(mention: Mention, view: TurnView) -> str:
    values = " or ".join(mention.values)
    meant = f"{mention.field} {values}"
    said = meant if mention.words in mention.values else f"{mention.words} = {meant}"
    places = [str(place) for place in having(mention, view) if place <= MAX_SHOWN]
    said = f"not {said}" if mention.negated else said
    return f"{said} ({','.join(places)})" if places else said


def _shown(view: TurnView) -> str:
    """How many items, and which are the cheapest, the dearest and the one in focus."""
    shown = view.shown[:MAX_SHOWN]
    parts = [f"Shown:{len(shown)}"]
    low, high = extremes(view)
    if low:
        parts += [f"lowest:{low}", f"highest:{high}"]
    if view.focus is not None and view.focus <= len(shown):
        parts.append(f"focus:{view.focus}")
    return " ".join(parts)


def _spans(vocabulary: ShopVocabulary, message: str) -> list[str]:
    """Parts of a message that may be searched for: a few words that name no value of a field,
    none of them an empty one at either end.
    """
    common, named = lexicon()[1] | {*vocabulary.fields}, set[str]()
    for mention in finder(vocabulary).find(message):
        named.update(mention.words.split())
    words = words_of(message)
    spans = []
    for first in range(len(words)):
        for last in range(first, min(first + SPAN_WORDS, len(words))):
            if words[last][0] in named or words[last][0].isdigit():
                break
            if words[first][0] not in common and words[last][0] not in common:
                spans.append(message[words[first][1] : words[last][2]])
    return [span for span in dict.fromkeys(spans) if '"' not in span and "\\" not in span]


def _any_of(values: Collection[str]) -> Json:
    one = _enum(values)
    if len(values) == 1:
        return one
    several = {"type": "array", "items": one, "minItems": 2, "maxItems": MAX_VALUES}
    return {"anyOf": [one, several]}


def _enum(values: Iterable[Any]) -> Json:
    return {"enum": list(values)}


def _as_json(number: float) -> float:
    return int(number) if number == int(number) else number


def _number(value: float) -> str:
    return f"number {_as_json(value)}"
