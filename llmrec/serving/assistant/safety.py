"""What is answered before a language model reads it: danger, illness, silence, other languages."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from llmrec.config import load_yaml
from llmrec.prompts import templates_folder

FIRST = ("self_harm", "medical")
FOREIGN_WORDS = 2  # of a language that a message must have
FOREIGN_LETTERS = 0.5  # of its letters, in another script
_WORD = re.compile(r"[^\W\d_]+")


def urgent(message: str) -> str:
    """The act of a reply that must not wait for anything else; "" for none.

    >>> urgent("I want to die"), urgent("I would die for a red dress")
    ('self_harm', '')
    """
    text = unicodedata.normalize("NFKC", message).lower().replace("\u2019", "'")
    text = " ".join(text.split())
    for act in FIRST:
        if any(pattern.search(text) for pattern in _patterns()[act]):
            return act
    return ""


def is_foreign(message: str) -> bool:
    """Whether a message is in another language than English, as far as its words show.

    >>> [is_foreign(text) for text in ("Ich suche eine Jacke", "Ищу красный шарф", "a red scarf")]
    [True, True, False]
    """
    letters = [letter for letter in message if letter.isalpha()]
    if not letters:
        return False
    others = sum("LATIN" not in unicodedata.name(letter, "") for letter in letters)
    if others > FOREIGN_LETTERS * len(letters):
        return True
    said = [word.lower() for word in _WORD.findall(message)]
    most = max(len({*said} & words) for words in _languages())
    return most >= FOREIGN_WORDS and 2 * most >= len(said) - most


@lru_cache
def _patterns() -> dict[str, list[re.Pattern[str]]]:
    loaded = load_yaml(templates_folder() / "assistant" / "safety.yaml")
    return {act: [re.compile(text) for text in loaded[act]] for act in FIRST}


@lru_cache
def _languages() -> list[frozenset[str]]:
    loaded = load_yaml(templates_folder() / "assistant" / "safety.yaml")
    return [frozenset(words.split()) for words in loaded["languages"].values()]
