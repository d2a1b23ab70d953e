"""Spoken texts: descriptions of items, and queries to the shop.

They use the plain words of the ground truth, so that a transcript can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.demo_shop.kinds import KIND_INDEX, KINDS
from llmrec.demo_shop.vocabulary import COLOURS, OCCASIONS
from llmrec.demo_shop.wording import TEXTS, pick
from llmrec.types import Item

_N_BOTH = 50  # queries that name a category and a colour


@dataclass(frozen=True)
class VoiceQuery:
    """A spoken query.

    Attributes:
        category, colour: what it names, or None; at least one is named.
        items: ids of all items that are right, at least one.
    """

    text: str
    category: str | None
    colour: str | None
    items: tuple[str, ...]


def spoken_description(item: Item, rng: np.random.Generator) -> str:
    """A sentence or two that name the item's kind, colour and pattern."""
    attributes = item.attributes
    plural = KINDS[KIND_INDEX[attributes["category"]]].plural
    text = pick(rng, TEXTS["spoken_descriptions"]).format(
        this="These" if plural else "This",
        be="are" if plural else "is",
        noun=attributes["category"],
        colour=attributes["colour"],
        pattern=attributes["pattern"],
        material=attributes["material"],
        brand=item.brand,
        occasion=OCCASIONS[attributes["occasion"]],
    )
    # "Red and striped: This mug": only the first word of a sentence has a capital
    return text[:1].upper() + text[1:].replace(": T", ": t")


def make_voice_queries(items: Sequence[Item], rng: np.random.Generator) -> Iterator[VoiceQuery]:
    """One query a colour and one a category that the shop has, and some that name both."""
    for colour in COLOURS:
        yield from _query(items, rng, None, colour)
    for kind in KINDS:
        yield from _query(items, rng, kind.name, None)
    pairs = sorted({(item.attributes["category"], item.attributes["colour"]) for item in items})
    for index in rng.permutation(len(pairs))[:_N_BOTH]:
        yield from _query(items, rng, *pairs[index])


def _query(
    items: Sequence[Item], rng: np.random.Generator, category: str | None, colour: str | None
) -> Iterator[VoiceQuery]:
    """The query, unless the shop has no item for it."""
    right = tuple(
        item.item_id
        for item in items
        if category in (None, item.attributes["category"])
        and colour in (None, item.attributes["colour"])
    )
    names = "by_colour" if category is None else "by_category" if colour is None else "by_both"
    text = pick(rng, TEXTS["voice_queries"][names]).format(noun=category, colour=colour)
    if right:
        yield VoiceQuery(text, category, colour, right)
