"""How a simulated shopper says things: in ways that no model has learned from."""

from __future__ import annotations

import re

import numpy as np

from llmrec.serving.assistant.dialogues.handwriting import (
    amount,
    decorated,
    marked,
    plural,
    surface,
    thing,
    with_article,
)
from llmrec.serving.assistant.dialogues.phrases import Phrases

_NAMES = re.compile(r"(do you have )?any |(got|which|what|are|have) ", re.IGNORECASE)


class Voice:
    """One shopper's way of writing.

    Args:
        seed: of the ways that are drawn, and of the typos.
    """

    def __init__(self, seed: list[int]) -> None:
        self._phrases = Phrases("held_out", np.random.default_rng(seed))

    def wish(self, said: dict[str, str], budget: float | None, department: bool = False) -> str:
        """What is wanted, as far as it is said.

        Args:
            department: the category is one: "something from kitchen" rather than "a kitchen".
        """
        phrases = self._phrases
        category = said.get("category")
        values = [(name, surface(phrases, v)) for name, v in said.items() if name != "category"]
        if category is None or department:
            whole = thing(phrases, None, values)
            if category is not None:
                whole = f"{whole} from {surface(phrases, category)}"
            return self._say(f"{self._way().format(wish=whole)}{self._up_to(budget)}")
        noun = surface(phrases, category)
        noun = noun if phrases.happens(0.5) else plural(noun)
        whole = with_article(phrases, thing(phrases, noun, values), noun)
        return self._say(f"{phrases.pick('search').format(wish=whole)}{self._up_to(budget)}")

    def _way(self) -> str:
        """A way to want "something": some ask for a thing by its name alone."""
        while True:
            way = str(self._phrases.pick("search"))
            if not _NAMES.match(way):
                return way

    def value(self, field: str, value: str) -> str:
        """An answer, or what was meant instead."""
        said = surface(self._phrases, value)
        return self._say(self._phrases.pick("answers").format(value=said, field=field), False)

    def rather(self, field: str, value: str) -> str:
        """What it should be instead of what is shown."""
        said = surface(self._phrases, value)
        return self._say(self._phrases.pick("change_value").format(value=said, field=field))

    def unwanted(self, field: str, value: str) -> str:
        """What it should not be."""
        said = surface(self._phrases, value)
        return self._say(self._phrases.pick("not_value").format(value=said, field=field))

    def too_dear(self, budget: float) -> str:
        """The list is too expensive, and by what."""
        return self._say(f"{self._phrases.pick('cheaper')}{self._up_to(budget)}")

    def spend(self, budget: float) -> str:
        """The answer to how much it may cost."""
        said = amount(self._phrases, budget)
        return self._say(self._phrases.pick("answer_price").format(n=said), False)

    def no_matter(self) -> str:
        """The answer to a question that the shopper does not mind."""
        return self._say(self._phrases.pick("any_asked"), False)

    def others(self) -> str:
        """Not my style."""
        return self._say(self._phrases.pick("more"))

    def happens(self, probability: float) -> bool:
        """Whether they do something this time."""
        return self._phrases.happens(probability)

    def take(self, place: int) -> str:
        """Put this one into the cart."""
        item = self._phrases.choose([f"number {place}", f"item {place}", f"option {place}"])
        return self._say(self._phrases.pick("add").format(item=item), False)

    def _up_to(self, budget: float | None) -> str:
        if budget is None:
            return ""
        return f", {self._phrases.pick('price_max').format(n=amount(self._phrases, budget))}"

    def _say(self, text: str, chatty: bool = True) -> str:
        return marked(decorated(self._phrases, text, chatty))[0]
