"""Ways to say things, from ``prompts/dialogues/*.yaml``, and the split that each belongs to.

The lists of ``wishes``, ``followups`` and ``talk`` are split by place. ``taught`` has more ways
under the same names, all of them of the split ``train``: lines in which ``(a|b)`` stands for
either. What such a line makes is drawn again where it has the words of a way of another split.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from llmrec.config import load_yaml
from llmrec.prompts import templates_folder
from llmrec.serving.assistant.mentions import words_of

Split = Literal["train", "validation", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "validation", "held_out")
FILES = ("wishes", "followups", "talk")
LEAST_WAYS = 8  # of a list that is split
TAUGHT = 0.6  # how often a model learns from a line of "taught" where there is one
POLITE = frozenset(("please", "pls", "the", "a", "an"))  # of no weight where two ways are compared
_EITHER = re.compile(r"\(([^()]*)\)")


@lru_cache
def all_phrases() -> dict[str, Any]:
    """Every list of ways by name."""
    found: dict[str, Any] = {}
    for name in FILES:
        found |= load_yaml(templates_folder() / "dialogues" / f"{name}.yaml")
    return found


@lru_cache
def taught_phrases() -> dict[str, Any]:
    """The lines of ``taught.yaml`` by name."""
    found: dict[str, Any] = load_yaml(templates_folder() / "dialogues" / "taught.yaml")
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


def _listed(found: Any, names: tuple[str, ...]) -> list[Any]:
    """The list of a name, or of names inside names; [] where there is none."""
    for name in names:
        found = found.get(name, {})
    if isinstance(found, str):  # ways in lines, or many words in one text
        return [way.strip() for way in re.split(r"\n" if "\n" in found else r"\|", found)]
    return list(found)


@lru_cache
def _kept_away(*names: str) -> frozenset[tuple[str, ...]]:
    """The words of the ways that are not for learning."""
    found = _listed(all_phrases(), names)
    others: tuple[Split, ...] = ("validation", "held_out") if len(found) >= LEAST_WAYS else ()
    return frozenset(_words(str(way)) for split in others for way in in_split(found, split))


def _words(way: str) -> tuple[str, ...]:
    return tuple(word for word, _, _ in words_of(way) if word not in POLITE)


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
        taught = _listed(taught_phrases(), names) if self.split == "train" else []
        if taught and self.happens(TAUGHT):
            return self._taught([way for way in taught if way], _kept_away(*names))
        return self.choose(in_split(_listed(all_phrases(), names), self.split))

    def _taught(self, lines: list[str], kept_away: frozenset[tuple[str, ...]]) -> str:
        while True:
            way = self.choose(lines)
            while either := _EITHER.search(way):
                begin, end = either.span()
                way = way[:begin] + self.choose(either[1].split("|")) + way[end:]
            if _words(way) not in kept_away:
                return " ".join(way.split())

    def pick_all(self, name: str) -> Any:
        """The whole list of a name, of every split."""
        return all_phrases()[name]

    def choose(self, options: list[Any]) -> Any:
        """One of several, alike likely."""
        return options[int(self.rng.integers(len(options)))]

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return bool(self.rng.random() < probability)
