"""Words for the demo shop: titles, descriptions and reviews.

Templates leave fields out and pick synonyms, so texts differ the way a real shop's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from llmrec.demo_shop.kinds import ProductKind
from llmrec.demo_shop.vocabulary import (
    COLOURS,
    LINES,
    OCCASIONS,
    PATTERNS,
    SEASONS,
    STYLES,
    read_tables,
)

T = TypeVar("T")

TEXTS = read_tables("texts")  # templates, and the README


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of some at random, all as likely."""
    return options[int(rng.integers(len(options)))]


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeiou" else "a"


def _words(
    rng: np.random.Generator, kind: ProductKind, attributes: dict[str, str], brand: str
) -> dict[str, str]:
    """One wording of every field a template may ask for."""
    noun, style = pick(rng, kind.words), pick(rng, STYLES[attributes["style"]])
    return {
        "noun": noun,
        "brand": brand,
        "style": style,
        "colour": pick(rng, COLOURS[attributes["colour"]]),
        "pattern": pick(rng, PATTERNS[attributes["pattern"]]),
        "material": attributes["material"],
        "shape": attributes["shape"],
        "a_shape": f"{_article(attributes['shape'])} {attributes['shape']}",
        "line": pick(rng, LINES),
        "occasion": OCCASIONS[attributes["occasion"]],
        "season": SEASONS[attributes["season"]],
    }


def _sentence_case(text: str) -> str:
    """Single spaces, and a capital at every sentence's start."""
    sentences = " ".join(text.split()).split(". ")
    return ". ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)


def make_title(
    rng: np.random.Generator,
    kind: ProductKind,
    attributes: dict[str, str],
    brand: str,
    taken: set[str],
) -> str:
    """A title that is not in ``taken`` yet; adds it there."""
    for attempt in range(30):
        words = _words(rng, kind, attributes, brand)
        template = pick(rng, TEXTS["titles"])
        if attributes["pattern"] == "plain":
            words["pattern"] = ""  # nobody advertises a plain thing as plain
        if words["material"] in words["noun"]:
            words["material"] = ""  # "denim denim jacket"
        title = template.format(**words)
        if attempt >= 20:  # a huge catalogue: let a number tell the models apart
            title += f", No. {int(rng.integers(2, 10_000))}"
        title = _sentence_case(title)
        if title.lower() not in taken:
            break
    else:
        raise RuntimeError(f"no unused title for a {kind.name}")
    taken.add(title.lower())
    return title


def make_description(
    rng: np.random.Generator, kind: ProductKind, attributes: dict[str, str], brand: str
) -> str:
    """One to four sentences that mention some of the attributes."""
    words = _words(rng, kind, attributes, brand)
    template = " ".join(pick(rng, part) for part in TEXTS["description"].values())
    # The article depends on the word that follows it in this template.
    follows = "style" if "{A} {style}" in template else "noun"
    article = "a pair of" if kind.plural else _article(words[follows])
    if kind.name == "pyjamas":
        article = "a set of"
    words["a"] = article if follows == "noun" else _article(words["noun"])
    words["A"] = article
    return _sentence_case(template.format(**words))


def make_review(
    rng: np.random.Generator,
    kind: ProductKind,
    attributes: dict[str, str],
    brand: str,
    rating: int,
    sent_back: bool,
) -> str:
    """A short review whose tone follows the rating (1 to 5)."""
    words = _words(rng, kind, attributes, brand)
    text = pick(rng, TEXTS["reviews"][rating]).format(**words)
    if sent_back:
        text += " Sent it back."
    return _sentence_case(text)
