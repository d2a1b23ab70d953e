"""What the words of a message hint at beside the values that it names.

The prompt tells the language model of some of it (which items are pointed at, how many pieces are
meant, which fields are talked about, which words say something that no field has); what leaves no
doubt is for the grammar of the turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from llmrec.serving.assistant.mentions import (
    Mention,
    cues,
    first_of,
    hints_of,
    lexicon,
    normal,
    numbers_of,
    one_edit,
    quantities_of,
    word_lists,
    words_of,
)

MAX_WORDS = 5  # that no field has
_GIFT = re.compile(
    r"\b(?:its|it is|this is|itll be|will be|be|as) an? (?:\w+ )?(?:gift|present)\b|"
    r"^a (?:gift|present)\b|\ba (?:gift|present)(?: please)?$"
)
_OVER = re.compile(
    r"\b(?:start|begin)(?: \w+)? (?:over|again|anew|afresh)\b|\brestart\b|\breset\b|"
    r"\b(?:forget|drop) (?:it all|all|everything|what i)\b"
)
_RECOMMEND = re.compile(r"\b(?:recommend|recommendations?)\b|\b(?:surprise|inspire) (?:me|us)\b")
POINTERS = frozenset(("it", "this", "that", "these", "those", "them"))
_IT = r"(?:it|this|that|them|these|those)(?: one| ones)?"
_OUT = re.compile(
    rf"\b(?:remove|delete) {_IT}\b|\b(?:take|put|throw|leave) {_IT} (?:out|back|off|away)\b"
)
_LESS = re.compile(
    r"\b(?:remov\w+|delet\w+|drop|out|off|away|back|without|cancel\w*|undo|dont|not|rid|minus|"
    r"changed|return|lose|ditch|scrap|discard|erase|from|leaves?|withdraw|eliminate|exclude|kick|"
    r"throw|empty|longer|zero|0|no(?! \d))\b"
)
_AMOUNT = re.compile(
    rf"\b(?:change|make|set|raise|increase|reduce|lower) {_IT}(?: to| into)? "
    r"(?:1[0-2]|[1-9]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|a dozen)\b"
)
_FOR_ME = re.compile(
    r"\b(?:not|no longer) (?:\w+ )?(?:for my|a gift|a present)|(?<!not )\bfor (?:me|myself)\b"
)
_NOBODY = frozenset(("gift", "gifts", "present", "presents", "birthday"))  # cues, but no people


def hints(message: str, view: Any, mentions: Iterable[Mention], fields: Iterable[str]) -> list[str]:
    """Hints as they stand in a prompt.

    Args:
        message: of the customer.
        view: a :class:`~llmrec.serving.assistant.calls.TurnView`.
        mentions: values that the message names.
        fields: that can be given up.
    """
    found = [f"item {place}" for place in pointed_places(message, view)]
    found += [f"quantity {count}" for count in quantities_of(message)]
    if "person" in hints_of(message):
        found.append("other person")
    if named := given_up(fields, message, None):
        found.append(f"about {', '.join(named)}")
    if words := other_words(message, mentions):
        found.append(f"words {' '.join(words[:MAX_WORDS])}")
    return found


def pointed_places(message: str, view: Any) -> list[int]:
    """Positions of the items that a message points at by place or price: "the first two"."""
    kinds = hints_of(message)
    places = [int(name) for name in kinds if name.isdigit()]
    places += range(1, first_of(message) + 1)
    if view.shown and "last" in kinds:
        places.append(len(view.shown))
    low, high = extremes(view)
    places += [place for name, place in (("cheapest", low), ("dearest", high)) if name in kinds]
    return [place for place in dict.fromkeys(sorted(places)) if 0 < place <= len(view.shown)]


def candidates(message: str, view: Any, mentions: Iterable[Mention]) -> list[int]:
    """Positions of the items that a message may point at: by place, price, value or number.

    An empty list where nothing points, so that it may be any.
    """
    shown = range(1, len(view.shown) + 1)
    found = [*pointed_places(message, view), *numbers_of(message)]
    for mention in mentions:
        found += having(mention, view)
    return [place for place in shown if place in found]


def having(mention: Mention, view: Any) -> list[int]:
    """Positions of the shown items that have a value."""
    return [
        position
        for position, item in enumerate(view.shown, 1)
        if set(mention.values) & set(item.fields.get(mention.field, ()))
    ]


def extremes(view: Any) -> tuple[int, int]:
    """Positions of the cheapest and the dearest item; 0 where there is no such."""
    prices = [
        (item.price, place) for place, item in enumerate(view.shown, 1) if item.price is not None
    ]
    return (min(prices)[1], max(prices)[1]) if len(view.shown) > 1 and prices else (0, 0)


def is_gift(message: str) -> bool:
    """Whether a message leaves no doubt that it is for somebody else.

    >>> [is_gift(text) for text in ("a scarf for my big sister", "it's a gift", "as a present",
    ...     "not for my sister, for me", "a wedding present", "my sister has one", "for my desk")]
    [True, True, True, False, False, False, False]
    """
    words = normal(message)
    found = _GIFT.search(words) or _for_person().search(words)
    return bool(found) and not _FOR_ME.search(words)


def starts_over(message: str) -> bool:
    """Whether a message drops what was said before it.

    >>> [starts_over(text) for text in ("Let's start all over", "forget what I said", "start here")]
    [True, True, False]
    """
    return bool(_OVER.search(normal(message)))


def only_tools(message: str, view: Any, mentions: Iterable[Mention]) -> tuple[str, ...]:
    """Tools of which a message leaves no doubt that one of them is meant; () where any may be.

    Args:
        message: of the customer.
        view: a :class:`~llmrec.serving.assistant.calls.TurnView`.
        mentions: values that the message names.
    """
    words = normal(message)
    if starts_over(message) and not word_lists()["carts"] & {*words.split()}:
        return ("search_catalog",)
    if view.focus is not None and (_OUT.search(words) or _AMOUNT.search(words)):
        return ("update_cart",)
    if view.asked is None and (match := _RECOMMEND.search(words)):
        # a word that is none of the shop's may be a thing that it does not sell
        unknown = {*other_words(message, mentions)} - {*match[0].split()}
        return ("recommend", "reply") if unknown else ("recommend",)
    return ()


def takes_out(message: str) -> bool:
    """Whether a message takes what it points at out of the cart.

    >>> takes_out("Remove it again, please"), takes_out("put that back"), takes_out("take it")
    (True, True, False)
    """
    return bool(_OUT.search(normal(message)))


def may_take_out(message: str) -> bool:
    """Whether a message has a word by which something could go out of the cart.

    >>> may_take_out("put no. 2 in the cart"), may_take_out("no, the mug goes")
    (False, True)
    """
    return bool(_LESS.search(normal(message)))


def points_at_one(message: str, view: Any, mentions: Iterable[Mention]) -> bool:
    """Whether a message points at one place on the screen, and at nothing to compare it with."""
    words = {word for word, _, _ in words_of(message)}
    if len(pointed_places(message, view)) != 1 or words & (word_lists()["comparing"] | POINTERS):
        return False
    return not any(having(mention, view) for mention in mentions)


@lru_cache
def _for_person() -> re.Pattern[str]:
    """ "For my sister", by the words for people."""
    people = "|".join(map(re.escape, sorted(cues()["person"] - _NOBODY)))
    return re.compile(rf"\b(?:for|to) my (?:\w+ )?(?:{people})\b")


def given_up(names: Iterable[str], message: str, asked: str | None) -> list[str]:
    """Fields that a message is about, or that were asked about."""
    words = {word for word, _, _ in words_of(message)}
    return [
        name
        for name in names
        if (
            name == asked
            or words & cues().get(f"not_{name}", frozenset())
            or any(one_edit(word.rstrip("s"), name) or word == name for word in words)
        )
    ]


def other_words(message: str, mentions: Iterable[Mention]) -> list[str]:
    """Words of a message that are neither everyday ones nor part of a value, in its order."""
    known = {word for mention in mentions for word in mention.words.split()} | lexicon()[1]
    words = (word for word, _, _ in words_of(message))
    return [word for word in dict.fromkeys(words) if word not in known and not word.isdigit()]


def described(message: str, mentions: Iterable[Mention], fields: Iterable[str]) -> list[str]:
    """The words that describe a thing and are no values: "fluffy" in "a fluffy red scarf".

    They stand between an article, or a value, and a value.
    """
    named = list(mentions)
    first = {mention.words.split()[0] for mention in named if not mention.negated}
    inside = {word for mention in named for word in mention.words.split()}
    unknown = {*other_words(message, named)} - word_lists()["setting_off"] - {*fields}
    run: list[str] = []
    before, ends = "", 0
    for word, begin, end in words_of(message):
        if run and message[ends:begin].strip():  # another clause
            run = []
        if run and word in first and (before in inside or before in word_lists()["describing"]):
            return run
        if word in unknown:
            run.append(word)
        else:
            run, before = [], word
        ends = end
    return []
