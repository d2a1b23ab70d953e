"""Ways to say things, from ``prompts/dialogues/*.yaml``, and the split that each belongs to."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from llmrec.config import load_yaml
from llmrec.prompts import templates_folder

Split = Literal["train", "validation", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "validation", "held_out")
FILES = ("wishes", "followups", "talk")
LEAST_WAYS = 8  # of a list that is split


@lru_cache
def all_phrases() -> dict[str, Any]:
    """Every list of ways by name."""
    found: dict[str, Any] = {}
    for name in FILES:
        found |= load_yaml(templates_folder() / "dialogues" / f"{name}.yaml")
    return found


def in_split(ways: list[Any], split: Split) -> list[Any]:
    """The ways of a list that belong to a split; a short list belongs to all.

    >>> in_split(list("abcdefgh"), "held_out"), in_split(list("abcdefgh"), "validation")
    (['d', 'h'], ['b'])
    """
    if len(ways) < LEAST_WAYS:
        return ways
    return [way for place, way in enumerate(ways) if _split_of(place) == split]


def _split_of(place: int) -> Split:
    if place % 4 == 3:
        return "held_out"
    return "validation" if place % 8 == 1 else "train"


class Phrases:
    """Draws ways of one split.

    Args:
        split: that they belong to.
        rng: draws.
    """

    def __init__(self, split: Split, rng: np.random.Generator) -> None:
        self.split, self.rng = split, rng

    def pick(self, *names: str) -> Any:
        """A way from the list of a name, or of names inside names."""
        found: Any = all_phrases()
        for name in names:
            found = found[name]
        if isinstance(found, str):  # many words in one text
            found = [word.strip() for word in found.split("|")]
        return self.choose(in_split(found, self.split))

    def pick_all(self, name: str) -> Any:
        """The whole list of a name, of every split."""
        return all_phrases()[name]

    def choose(self, options: list[Any]) -> Any:
        """One of several, alike likely."""
        return options[int(self.rng.integers(len(options)))]

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return bool(self.rng.random() < probability)
