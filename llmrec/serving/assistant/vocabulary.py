"""The closed fields of a shop that a customer's words are read into: any catalogue's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import pyarrow as pa

from llmrec.config import load_yaml
from llmrec.prompts import templates_folder

MAX_VALUES = 64  # of an attribute; one with more is found by words
MAX_VALUE_CHARS = 40
# Arguments of tools; an attribute of such a name is found by words as well.
RESERVED = frozenset(
    (
        *("query", "category", "brand", "price", "price_max", "price_min", "for_someone_else"),
        *("more", "clear", "item", "items", "quantity", "topic", "act", "id", "ids"),
    )
)
Fields = dict[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class ShopVocabulary:
    """What a shop's items can be asked for by.

    Attributes:
        categories: entries of category paths, in lower case, most frequent first.
        attributes: values of each closed attribute, in lower case, in the catalogue's order;
            without one whose values are all those of an earlier one, or no words ("in_use").
        brands: as the catalogue writes them, most frequent first.
        topics: of the shop's policy.
    """

    categories: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    brands: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    @classmethod
    def of_items(cls, items: pa.Table, topics: Sequence[str] | None = None) -> ShopVocabulary:
        """The vocabulary of a catalogue.

        Args:
            items: with any of the columns categories, brand and attributes of ``items.parquet``.
            topics: of the shop's policy; None for the usual ones.
        """
        categories = Counter(
            entry.lower() for path in _column(items, "categories") for entry in dict.fromkeys(path)
        )
        brands = Counter(name.strip() for name in _column(items, "brand"))
        attributes: dict[str, Counter[str]] = {}
        for pairs in _column(items, "attributes"):
            for name, value in _values(pairs):
                attributes.setdefault(name, Counter())[value] += 1
        closed: Fields = {}
        for name, values in attributes.items():
            known = any(set(values) <= set(other) for other in closed.values())
            if _closed(name, values) and not known:  # "red" is the colour, not a second one
                closed[name] = tuple(value for value, _ in values.most_common())
        return cls(
            tuple(name for name, _ in categories.most_common() if name),
            closed,
            tuple(name for name, _ in brands.most_common() if name),
            policy_topics() if topics is None else tuple(topics),
        )

    @cached_property
    def fields(self) -> Fields:
        """Values by argument of a search: category, the attributes, brand."""
        found = {"category": self.categories, **self.attributes, "brand": self.brands}
        return {name: values for name, values in found.items() if values}

    def fields_of(self, row: Mapping[str, Any]) -> Fields:
        """The closed fields of a row of the catalogue.

        Args:
            row: with any of the columns categories, brand and attributes.
        """
        found: dict[str, list[str]] = {}
        for entry in row.get("categories") or ():
            found.setdefault("category", []).append(entry.lower())
        for name, value in _values(row.get("attributes") or ()):
            found.setdefault(name, []).append(value)
        if row.get("brand"):
            found["brand"] = [row["brand"].strip()]
        return {name: tuple(values) for name, values in found.items() if name in self.fields}


@cache
def policy_topics() -> tuple[str, ...]:
    """Topics that a shop's policy usually has: those with ways to ask about them."""
    return tuple(load_yaml(templates_folder() / "dialogues" / "words.yaml")["topics"])


def _column(items: pa.Table, name: str) -> list[Any]:
    if name not in items.column_names:
        return []
    return [value for value in items[name].to_pylist() if value]


def _values(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """Name and value of ``"name=value"`` texts; of ``"red,blue"`` each value."""
    found = []
    for pair in pairs:
        name, _, values = pair.partition("=")
        found += [(name, value.strip().lower()) for value in values.split(",") if value.strip()]
    return found


def _closed(name: str, values: Counter[str]) -> bool:
    short = all(len(value) <= MAX_VALUE_CHARS and "_" not in value for value in values)
    usable = name not in RESERVED and not name.startswith("not_")
    return usable and short and 1 < len(values) <= MAX_VALUES
