"""The demo shop's catalogue: items with ground-truth attributes, and the same as arrays.

``attributes`` holds everything a drawing program needs (category, shape, colour, accent,
pattern, material, motion), whether or not the text mentions it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.demo_shop.kinds import KIND_INDEX, KINDS, MATERIALS, ProductKind
from llmrec.demo_shop.vocabulary import (
    AUDIENCES,
    BRANDS,
    COLOURS,
    MOTIONS,
    OCCASIONS,
    PATTERN_WEIGHTS,
    PATTERNS,
    SEASONS,
    STYLES,
    Brand,
)
from llmrec.demo_shop.wording import make_description, make_title
from llmrec.types import Item

TAIL = 0.42  # exponent of the Zipf law that an item's own appeal follows
_NEW, _GONE = 0.10, 0.06  # shares of items that arrive late, that are sold out at the end


@dataclass(frozen=True)
class Catalogue:
    """Items and, row by row, what the choice model reads of them.

    Attributes:
        codes: attribute name -> int array ``[items]``, positions in the vocabularies;
            also ``kind``, ``brand`` and ``domain`` (0 clothing, 1 home).
        tier: float ``[items]``, log of price over the kind's usual price.
        appeal: float ``[items]``, log-appeal to everybody; few items have much of it.
        quality: float ``[items]``, what ratings and returns depend on.
        arrives, leaves: float ``[items]``, shares of the shop's lifetime (0 to 1).
    """

    items: list[Item]
    codes: dict[str, np.ndarray]
    tier: np.ndarray
    appeal: np.ndarray
    quality: np.ndarray
    arrives: np.ndarray
    leaves: np.ndarray

    def __len__(self) -> int:
        return len(self.items)


def make_catalogue(seed: int, n_items: int) -> Catalogue:
    """A catalogue in which every kind of thing is about equally frequent."""
    rng = np.random.default_rng([seed, 1])
    kinds = [KINDS[row % len(KINDS)] for row in rng.permutation(n_items)]
    ranks = rng.permutation(n_items) + 1.0
    appeal = -TAIL * np.log(ranks)
    arrives = np.where(rng.random(n_items) < _NEW, rng.uniform(0.5, 0.97, n_items), 0.0)
    old = arrives == 0.0
    sold_out = old & (rng.random(n_items) < _GONE)
    leaves = np.where(sold_out, rng.uniform(0.6, 0.95, n_items), np.inf)
    taken: set[str] = set()
    items, tiers = [], []
    for row, kind in enumerate(kinds):
        item, tier = _make_item(rng, row, kind, bool(sold_out[row]), taken)
        items.append(item)
        tiers.append(tier)
    return Catalogue(
        items=items,
        codes=_encode(items),
        tier=np.array(tiers),
        appeal=appeal - appeal.mean(),
        quality=rng.normal(0.0, 0.45, n_items),
        arrives=arrives,
        leaves=leaves,
    )


def _make_item(
    rng: np.random.Generator, row: int, kind: ProductKind, sold_out: bool, taken: set[str]
) -> tuple[Item, float]:
    """An item and its price tier."""
    brands = [brand for brand in BRANDS if kind.domain in brand.domains]
    brand = brands[int(rng.integers(len(brands)))]
    attributes = _make_attributes(rng, kind, brand)
    tier = float(brand.tier + rng.normal(0.0, 0.25))
    item = Item(
        item_id=f"{kind.domain[0]}{row + 1:04d}",
        title=make_title(rng, kind, attributes, brand.name, taken),
        description=make_description(rng, kind, attributes, brand.name),
        brand=brand.name,
        categories=(kind.group, kind.name.capitalize()),
        price=round(max(kind.price * float(np.exp(tier)), 2.0)) - 0.05,
        attributes=attributes,
        in_stock=not sold_out,
        domain=kind.domain,
    )
    return item, tier


def _make_attributes(rng: np.random.Generator, kind: ProductKind, brand: Brand) -> dict[str, str]:
    """Ground truth of one item; the look of a brand decides most of its style."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    styles = tuple(style for style in brand.styles if style in kind.styles)
    pattern = tuple(PATTERNS)[int(rng.choice(len(PATTERNS), p=PATTERN_WEIGHTS))]
    colour = pick(kind.colours)
    accents = tuple(other for other in COLOURS if other != colour)
    return {
        "category": kind.name,
        "shape": pick(kind.shapes),
        "colour": colour,
        "accent": colour if pattern == "plain" else pick(accents),
        "pattern": pattern,
        "material": pick(kind.materials),
        "style": pick(styles if styles and rng.random() < 0.8 else kind.styles),
        "occasion": pick(kind.occasions),
        "season": pick(kind.seasons),
        "audience": pick(kind.audiences),
        "motion": pick(MOTIONS),
    }


def _encode(items: list[Item]) -> dict[str, np.ndarray]:
    """Attribute values as positions in their vocabularies."""
    vocabularies = {
        "colour": tuple(COLOURS),
        "pattern": tuple(PATTERNS),
        "material": MATERIALS,
        "style": tuple(STYLES),
        "occasion": tuple(OCCASIONS),
        "season": tuple(SEASONS),
        "audience": AUDIENCES,
        "motion": MOTIONS,
    }
    codes = {
        field: np.array([vocabulary.index(item.attributes[field]) for item in items])
        for field, vocabulary in vocabularies.items()
    }
    codes["kind"] = np.array([KIND_INDEX[item.attributes["category"]] for item in items])
    brands = [brand.name for brand in BRANDS]
    codes["brand"] = np.array([brands.index(item.brand) for item in items])
    codes["domain"] = np.array([int(item.domain == "home") for item in items])
    return codes
