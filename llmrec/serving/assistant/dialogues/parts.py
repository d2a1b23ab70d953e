"""Parts of made conversations: a screen, a wish with its values, a price, an item pointed at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from llmrec.serving.assistant.calls import ShownItem, TurnView, finder
from llmrec.serving.assistant.dialogues.handwriting import (
    amount,
    plural,
    surface,
    thing,
    with_article,
)
from llmrec.serving.assistant.dialogues.phrases import SPLITS, Phrases, Split
from llmrec.serving.assistant.mentions import normal
from llmrec.serving.assistant.vocabulary import ShopVocabulary

Json = dict[str, Any]
SHOWN = {1: 0.1, 2: 0.12, 3: 0.24, 4: 0.18, 5: 0.24, 6: 0.08, 8: 0.04}  # items on a screen
VALUES = [0.3, 0.4, 0.22, 0.08]  # how often a wish has so many values beside its category


@dataclass
class Draft:
    """A message that grows, with its arguments."""

    text: str
    tool: str = "search_catalog"
    arguments: Json = field(default_factory=dict)
    view: TurnView | None = None
    chatty: bool = True

    def add(self, text: str, **arguments: Any) -> Draft:
        """Another part, after what there is."""
        self.text = f"{self.text}{text}"
        self.arguments |= arguments
        return self


class Parts:
    """Draws parts of messages.

    Args:
        vocabulary: of the shop.
        items: its catalogue, with the columns of ``items.parquet``.
        split: of the ways to say things.
        seed: of what is drawn.
    """

    def __init__(
        self, vocabulary: ShopVocabulary, items: pa.Table, split: Split, seed: int = 0
    ) -> None:
        self.vocabulary, self.split = vocabulary, split
        self.rng = np.random.default_rng([seed, SPLITS.index(split)])
        self.phrases = Phrases(split, self.rng)
        names = [
            n for n in ("categories", "brand", "attributes", "price") if n in items.column_names
        ]
        rows = items.select(names).to_pylist()
        self.items = [
            ShownItem(vocabulary.fields_of(row), row.get("price"))
            for row in rows
            if row.get("categories")
        ]

    # what is on the screen

    def view(self, least: int = 0) -> TurnView:
        """A screen with at least so many items."""
        happens, rng = self.phrases.happens, self.rng
        if least == 0 and happens(0.5):
            asked = self.field() if happens(0.1) else None
            return TurnView(asked=asked)
        count = max(least, int(rng.choice(list(SHOWN), p=list(SHOWN.values()))))
        pool = self.items
        if happens(0.6):  # as a search within a category shows them
            category = self.phrases.choose(self.phrases.choose(pool).fields["category"])
            pool = [item for item in pool if category in item.fields["category"]]
        pool = pool if len(pool) >= count else self.items
        chosen = rng.choice(len(pool), min(count, len(pool)), replace=False)
        shown = tuple(pool[int(place)] for place in chosen)
        focus = int(rng.integers(1, len(shown) + 1)) if happens(0.45) else None
        asked = self.field() if happens(0.08) else None
        return TurnView(shown, focus, asked)

    def field(self) -> str:
        """A field that can be asked about."""
        return str(self.phrases.choose([*self.vocabulary.fields, "price"]))

    # parts of messages

    def wish(self, values: int | None = None, free: float = 0.12) -> Draft | None:
        """A thing with some values, as a noun phrase.

        Args:
            values: how many; drawn where None.
            free: probability of words that no field has.
        """
        phrases, rng = self.phrases, self.rng
        item = phrases.choose(self.items)
        draft = Draft("")
        noun = None
        if phrases.happens(0.85):
            path = item.fields["category"]
            category = path[-1] if phrases.happens(0.85) else path[0]
            noun, meant = self.category(category)
            if not meant:
                return None
            draft.arguments["category"] = meant[0] if len(meant) == 1 else list(meant)
        least = 0 if noun else 1
        count = int(rng.choice([0, 1, 2, 3], p=VALUES)) if values is None else values
        said = self.values_of(item, max(count, least))
        draft.arguments |= dict((name, value) for name, value, _ in said)
        text = thing(phrases, noun, [(name, words) for name, _, words in said])
        if phrases.happens(free):
            if noun and phrases.happens(0.6):
                text = f"{phrases.pick('adjectives')} {text}"
            else:
                text = f"{text} {phrases.pick('tails')}"
        draft.text = with_article(phrases, text, noun)
        return draft

    def category(self, category: str) -> tuple[str, tuple[str, ...]]:
        """How a category is said, and which categories that names."""
        words = normal(category).split()
        said = surface(self.phrases, category)
        if len(words) > 1 and self.phrases.happens(0.06):
            said = words[-1]  # "jacket", of any kind
        if self.phrases.happens(0.4):
            said = plural(said)
        found = [one for one in finder(self.vocabulary).find(said) if one.field == "category"]
        return said, found[0].values if len(found) == 1 and category in found[0].values else ()

    def values_of(self, item: ShownItem, count: int) -> list[tuple[str, Any, str]]:
        """Some values of an item: field, value, how it is said."""
        names = [name for name in item.fields if name != "category"]
        self.rng.shuffle(names)
        found: list[tuple[str, Any, str]] = []
        for name in names[:count]:
            value = self.phrases.choose(list(item.fields[name]))
            said = self.said(name, value)
            if said is None:
                continue
            if self.phrases.happens(0.06) and (other := self.another(name, [value])):
                found.append((name, [value, other[0]], f"{said} or {other[1]}"))
            else:
                found.append((name, value, said))
        return found

    def said(self, name: str, value: str) -> str | None:
        """How a value is said, or None where that would not be understood."""
        said = surface(self.phrases, value)
        found = finder(self.vocabulary).find(said)
        right = len(found) == 1 and found[0].field == name and found[0].values == (value,)
        return said if right else None

    def another(self, name: str, taken: list[str]) -> tuple[str, str] | None:
        """Another value of a field, and how it is said."""
        others = [value for value in self.vocabulary.fields[name] if value not in taken]
        if not others:
            return None
        value = self.phrases.choose(others)
        said = self.said(name, value)
        return None if said is None else (value, said)

    def any_value(self, *, of_things: bool = False) -> tuple[str, str, str] | None:
        """A field, a value of it, how it is said."""
        names = [name for name in self.vocabulary.fields if name != "category" or of_things]
        name = self.phrases.choose(names)
        found = self.another(name, [])
        return None if found is None else (name, *found)

    def price(self) -> tuple[float, str]:
        """An amount, and how it is written."""
        rng = self.rng
        number = float(rng.choice([5 * rng.integers(1, 41), rng.integers(5, 200)]))
        if self.phrases.happens(0.08):
            number = round(number - 0.1 * float(rng.integers(1, 6)), 2)
        return number, amount(self.phrases, number)

    def bound(self) -> tuple[str, Json]:
        """A bound of the price."""
        number, text = self.price()
        kind = float(self.rng.random())
        if kind < 0.68:
            return self.phrases.pick("price_max").format(n=text), {"price_max": whole(number)}
        if kind < 0.82:
            return self.phrases.pick("price_min").format(n=text), {"price_min": whole(number)}
        low = float(self.rng.integers(1, max(2, int(number))))
        if low >= number:
            return self.bound()
        words = self.phrases.pick("price_between").format(n=text, low=f"{low:g}")
        return words, {"price_min": whole(low), "price_max": whole(number)}

    def unwanted(self, taken: Json) -> tuple[str, Json] | None:
        """A value that it must not have, or two."""
        drawn = self.any_value()
        if drawn is None or drawn[0] in taken:
            return None
        name, value, said = drawn
        way = self.phrases.pick("not_value")
        if self.phrases.happens(0.15) and (other := self.another(name, [value])):
            joint = self.phrases.choose(["or", "and", "or"])
            words = f"{said} {joint} {other[1]}"
            return way.format(value=words), {f"not_{name}": [value, other[0]]}
        return way.format(value=said), {f"not_{name}": value}

    def gift(self) -> str:
        """That it is for somebody else."""
        way = self.phrases.pick("someone_else")
        return str(way.format(relation=self.phrases.pick("relations")))

    def joined(self, draft: Draft, words: str, arguments: Json) -> None:
        """Put a clause behind a message."""
        between = self.phrases.choose([" ", ", ", ", ", " and ", ". "])
        draft.text = draft.text.rstrip("?!. ")
        draft.add(f"{between}{words}", **arguments)

    def clauses(self, draft: Draft, likely: float) -> Draft:
        """A message with bounds, unwanted values and whom it is for, sometimes."""
        if self.phrases.happens(likely):
            self.joined(draft, *self.bound())
        if self.phrases.happens(0.55 * likely) and (found := self.unwanted(draft.arguments)):
            self.joined(draft, *found)
        if self.phrases.happens(0.45 * likely):
            self.joined(draft, self.gift(), {"for_someone_else": True})
        return draft

    # items on the screen

    def pointed(self, view: TurnView) -> tuple[str, int] | None:
        """Words for an item on the screen, and its position."""
        kinds = ["place", "place", "value", "value", "category", "price", "focus", "last"]
        kind = self.phrases.choose(kinds)
        position = int(self.rng.integers(1, len(view.shown) + 1))
        item = view.shown[position - 1]
        if kind == "place":
            ordinals = self.phrases.pick_all("ordinals")[position - 1]
            word = self.phrases.choose(ordinals)
            alone = not word[-1].isalpha() or word.startswith("n")
            if alone and not word.endswith(("st", "nd", "rd", "th")):
                return word, position
            return self.phrases.pick("by_place").format(ordinal=word), position
        if kind == "last" and len(view.shown) > 2:
            return self.phrases.pick("last"), len(view.shown)
        if kind == "price" and len(view.shown) > 1:
            prices = [one.price for one in view.shown]
            if any(price is None for price in prices) or len(set(prices)) < len(prices):
                return None
            name, pick = self.phrases.choose([("cheapest", np.argmin), ("dearest", np.argmax)])
            return self.phrases.pick(name), int(pick(np.array(prices))) + 1
        if kind == "focus":
            place = view.focus or (1 if len(view.shown) == 1 else None)
            return None if place is None else (self.phrases.pick("focus"), place)
        if kind in ("value", "category"):
            return self._by_value(view, item, position, kind)
        return None

    def _by_value(
        self, view: TurnView, item: ShownItem, position: int, kind: str
    ) -> tuple[str, int] | None:
        names = [n for n in item.fields if (n == "category") == (kind == "category")]
        if not names:
            return None
        name = self.phrases.choose(names)
        value = item.fields[name][-1]
        if sum(value in other.fields.get(name, ()) for other in view.shown) > 1:
            return None
        said = self.said(name, value)
        return (
            None if said is None else (self.phrases.pick(f"by_{kind}").format(value=said), position)
        )


def whole(number: float) -> float:
    """A number as JSON has it: 40, not 40.0."""
    return int(number) if number == int(number) else number
