"""What the words of a message hint at beside the values that it names.

The prompt tells the language model of some of it (which items are pointed at, how many pieces are
meant, which fields are talked about, which words say something that no field has); what leaves no
doubt is in :mod:`~llmrec.serving.assistant.decisions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from llmrec.serving.assistant.mentions import (
    Mention,
    cues,
    first_of,
    hints_of,
    lexicon,
    numbers_of,
    one_edit,
    quantities_of,
    word_lists,
    words_of,
)

MAX_WORDS = 5  # that no field has
_TYPO = 6  # letters that a word has which may be an everyday one with a wrong letter


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
    known = {word for mention in mentions for word in mention.words.split()}
    words = dict.fromkeys(word for word, _, _ in words_of(message))
    return [word for word in words if word not in known and not _everyday(word)]


def other_runs(message: str, mentions: Iterable[Mention]) -> list[list[str]]:
    """The same words, those together that stand side by side: "cold climates"."""
    others = {*other_words(message, mentions)}
    runs: list[list[str]] = []
    ends = -1
    for word, begin, end in words_of(message):
        if word in others:
            if runs and ends >= 0 and not message[ends:begin].strip(" -"):
                runs[-1].append(word)
            else:
                runs.append([word])
        ends = end if word in others else -1
    return runs


@lru_cache(maxsize=4096)
def _everyday(word: str) -> bool:
    """Whether a word is none to search for: an everyday one, also with a wrong letter."""
    common = lexicon()[1]
    if word in common or word.isdigit():
        return True
    near = (one for one in common if one[0] == word[0] and len(one) >= _TYPO)
    return len(word) >= _TYPO and any(one_edit(word, one) for one in near)


def tails(message: str, mentions: Iterable[Mention]) -> list[str]:
    """Words to search for that stand behind a preposition: "walking" in "for walking the dog"."""
    runs = [run[0] for run in other_runs(message, mentions)]
    words = [word for word, _, _ in words_of(message)]
    behind = word_lists()["prepositions"]
    found = []
    for one, other, word in zip(["", "", *words], ["", *words], words, strict=False):
        if word in runs and (other in behind or (other in ("a", "an", "the") and one in behind)):
            found.append(word)
    return found


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
