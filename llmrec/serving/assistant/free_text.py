"""Words of somebody else's language model: only what says nothing of a product gets through.

A sentence is left out where it has a number, a value of the shop that the customer did not say, a
word of a brand or a name, or a word that says something of the shop or its
goods. What is left is manners: the facts come from the catalogue, in slots.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from llmrec.serving.assistant.calls import finder
from llmrec.serving.assistant.mentions import words_of
from llmrec.serving.assistant.shop import Shop
from llmrec.serving.assistant.state import Wish
from llmrec.serving.assistant.wording import words
from llmrec.serving.one_line import one_line

LONGEST = 300  # characters of a sentence
_END = re.compile(r"(?<=[.!?…])\s+|\n+")
_NAME = re.compile(r"(?<![.!?…:]\s)(?<!^)\b[A-Z]\w+")
_MARKS = re.compile(r"[*_`#<>\[\]{}|\\@/&%$€£+=~^]|https?:|www\.")


def sentences(pieces: Iterable[str], shop: Shop, message: str, wish: Wish) -> Iterator[str]:
    """The sentences that may be said, each as soon as it is whole.

    Args:
        pieces: of the text, as they come.
        message: of the customer.
        wish: what was said before.
    """
    rest = ""
    for piece in pieces:
        *whole, rest = _END.split(rest + piece)
        yield from (one for one in map(one_line, whole) if _may_be_said(one, shop, message, wish))
        if len(rest) > 4 * LONGEST:  # no sentence
            rest = ""
    last = one_line(rest)
    if _may_be_said(last, shop, message, wish):
        yield last


def _may_be_said(sentence: str, shop: Shop, message: str, wish: Wish) -> bool:
    if not sentence or len(sentence) > LONGEST or _MARKS.search(sentence):
        return False
    if any(letter.isdigit() for letter in sentence) or _NAME.search(sentence):
        return False
    said = {word for word, _, _ in words_of(sentence)}
    if said & set(words()["claims"].split()):
        return False
    find = finder(shop.vocabulary).find
    known = {value for one in find(message) for value in one.values} | _wanted(wish)
    return all(set(one.values) & known for one in find(sentence))


def _wanted(wish: Wish) -> set[str]:
    values = {value for some in wish.attributes.values() for value in some}
    return values | {*wish.categories, *wish.brands}
