"""The words of replies, and the slots in them: ``prompts/assistant``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmrec.config import load_yaml
from llmrec.errors import ConfigError
from llmrec.prompts import templates_folder
from llmrec.serving.assistant.state import Wish
from llmrec.serving.one_line import one_line

Json = dict[str, Any]
MOST_QUOTED = 80  # characters of what the customer said
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Slot:
    """A part of a reply that is filled from what is known.

    Attributes:
        text: as it is shown.
        source: ``catalogue``, ``cart``, ``policy``, ``wish`` or ``count``.
        item_id: that it is of; "" for none.
        field: of the item.
    """

    text: str
    source: str
    item_id: str = ""
    field: str = ""

    def __str__(self) -> str:
        return self.text


Part = str | Slot


@lru_cache
def replies() -> dict[str, tuple[str, ...] | dict[str, tuple[str, ...]]]:
    """The variants of each situation."""
    loaded = load_yaml(templates_folder() / "assistant" / "replies.yaml")
    return {
        name: {tool: tuple(texts) for tool, texts in value.items()}
        if isinstance(value, dict)
        else tuple(value)
        for name, value in loaded.items()
    }


@lru_cache
def words() -> Json:
    """Words for wishes."""
    return load_yaml(templates_folder() / "assistant" / "words.yaml")


def opening(tool: str, turn: int) -> str:
    """What is said while a tool works; "" for nothing."""
    known = replies()["opening"]
    assert isinstance(known, dict)
    variants = known.get(tool, ())
    return variants[turn % len(variants)] if variants else ""


def say(situation: str, turn: int = 0, /, **slots: Part) -> list[Part]:
    """The words for a situation with their slots filled.

    Args:
        turn: picks the variant.

    Raises:
        ConfigError: for a slot that is not filled.
    """
    variants = replies()[situation]
    assert isinstance(variants, tuple)
    found: list[Part] = []
    for place, text in enumerate(_SLOT.split(variants[turn % len(variants)])):
        if place % 2 == 0:
            found.append(text)
        elif text in slots:
            found.append(slots[text])
        else:
            raise ConfigError(f"prompts/assistant: {situation}: nothing fills {{{text}}}")
    return [part for part in found if str(part)]


class Wording:
    """Slots of a shop.

    Args:
        currency: of its prices.
    """

    def __init__(self, currency: str) -> None:
        self.currency = currency

    def amount(self, value: float) -> str:
        """An amount of money.

        >>> Wording("EUR").amount(1234.5)
        '1,234.50 EUR'
        """
        return f"{value:,.2f} {self.currency}"

    def title(self, row: Mapping[str, Any]) -> Slot:
        """What an item is called."""
        text = one_line(row["title"] or row["item_id"])
        return Slot(text, "catalogue", row["item_id"], "title")

    def price(self, row: Mapping[str, Any]) -> Slot:
        """What an item costs."""
        known = row.get("price")
        text = words()["no_price"] if known is None else self.amount(known)
        return Slot(text, "catalogue", row["item_id"], "price")

    def stock(self, row: Mapping[str, Any]) -> Slot:
        """Whether an item can be bought."""
        text = words()["sold_out" if row.get("in_stock") is False else "in_stock"]
        return Slot(text, "catalogue", row["item_id"], "in_stock")

    def wish(self, wish: Wish) -> Slot:
        """What somebody wants, in a few words."""
        named = words()
        either = f" {named['or']} "
        parts = [either.join(values) for values in wish.attributes.values()]
        parts += [either.join(wish.categories)] if wish.categories else []
        parts += [named["quoted"].format(value=quoted(wish.query))] if wish.query else []
        parts += [named["by"].format(value=either.join(wish.brands))] if wish.brands else []
        parts += [named["like_picture"]] if wish.picture else []
        unwanted = [*wish.without_categories, *wish.without_brands]
        unwanted += [one for values in wish.without_attributes.values() for one in values]
        low, high = wish.price_min, wish.price_max
        if not parts and (unwanted or low is not None or high is not None):
            parts.append(named["any"])
        parts += [named["not"].format(value=value) for value in unwanted]
        if low is not None and high is not None:
            parts.append(named["between"].format(low=self.amount(low), high=self.amount(high)))
        elif high is not None:
            parts.append(named["up_to"].format(value=self.amount(high)))
        elif low is not None:
            parts.append(named["from"].format(value=self.amount(low)))
        return Slot(", ".join(parts), "wish")


def quoted(text: str) -> str:
    """What a customer said, short and in one line."""
    text = one_line(text)
    return text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED - 1].rstrip()}…"


def field_name(name: str) -> str:
    """A field as customers call it."""
    return str(words()["fields"].get(name, name.replace("_", " ")))


def listed(values: Iterable[str], last: str = "or") -> str:
    """Values in a row.

    >>> listed(["red", "blue", "green"])
    'red, blue or green'
    """
    *before, end = values
    return f"{', '.join(before)} {words()[last]} {end}" if before else end
