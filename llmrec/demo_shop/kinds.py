"""The kinds of thing the demo shop sells, and what is looked for after each: ``kinds.yaml``.

A kind is the lower of the two category levels. ``then`` lists its complements, strongest
first; it has a direction: running shoes lead to socks, socks do not lead back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.demo_shop.vocabulary import (
    AUDIENCES,
    BRANDS,
    COLOURS,
    MOTIONS,
    OCCASIONS,
    PATTERNS,
    SEASONS,
    STYLES,
    read_tables,
)


@dataclass(frozen=True)
class ProductKind:
    """One kind of thing.

    Attributes:
        group: the upper category level.
        words: what titles call it; the first is its name.
        price: usual price.
        then: names of three complements, strongest first.
        plural: whether the words are plural ("jeans"), for the grammar of descriptions.
    """

    domain: str
    group: str
    words: Sequence[str]
    price: float
    then: Sequence[str]
    materials: Sequence[str]
    shapes: Sequence[str]
    audiences: Sequence[str]
    styles: Sequence[str]
    seasons: Sequence[str] = ("all year",)
    occasions: Sequence[str] = ("everyday",)
    colours: Sequence[str] = tuple(COLOURS)
    plural: bool = False

    @property
    def name(self) -> str:
        """Of the lower category level."""
        return self.words[0]


KINDS = tuple(
    ProductKind(domain, group, **(table["defaults"] | row))
    for domain, table in read_tables("kinds").items()
    for group, rows in table["groups"].items()
    for row in rows
)
KIND_INDEX = {kind.name: row for row, kind in enumerate(KINDS)}
# What each field of an item may be, in the order of its codes.
FIELD_VALUES: dict[str, tuple[str, ...]] = {
    "kind": tuple(KIND_INDEX),
    "brand": tuple(brand.name for brand in BRANDS),
    "domain": ("clothing", "home"),
    "colour": tuple(COLOURS),
    "pattern": tuple(PATTERNS),
    "material": tuple(sorted({material for kind in KINDS for material in kind.materials})),
    "style": tuple(STYLES),
    "occasion": tuple(OCCASIONS),
    "season": tuple(SEASONS),
    "audience": AUDIENCES,
    "motion": MOTIONS,
}
