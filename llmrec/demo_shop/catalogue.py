"""The demo shop's catalogue: items with ground-truth attributes, and the same as arrays.

``attributes`` holds everything a drawing program needs (category, shape, colour, accent,
pattern, material, motion), whether or not the text mentions it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.demo_shop.kinds import FIELD_VALUES, KINDS, ProductKind
from llmrec.demo_shop.vocabulary import BRANDS, COLOURS, MOTIONS, PATTERN_WEIGHTS, PATTERNS, Brand
from llmrec.demo_shop.wording import make_description, make_title, pick
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
    brand = pick(rng, [brand for brand in BRANDS if kind.domain in brand.domains])
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
    styles = tuple(style for style in brand.styles if style in kind.styles)
    pattern = tuple(PATTERNS)[int(rng.choice(len(PATTERNS), p=PATTERN_WEIGHTS))]
    colour = pick(rng, kind.colours)
    accents = tuple(other for other in COLOURS if other != colour)
    return {
        "category": kind.name,
        "shape": pick(rng, kind.shapes),
        "colour": colour,
        "accent": colour if pattern == "plain" else pick(rng, accents),
        "pattern": pattern,
        "material": pick(rng, kind.materials),
        "style": pick(rng, styles if styles and rng.random() < 0.8 else kind.styles),
        "occasion": pick(rng, kind.occasions),
        "season": pick(rng, kind.seasons),
        "audience": pick(rng, kind.audiences),
        "motion": pick(rng, MOTIONS),
    }


def _encode(items: list[Item]) -> dict[str, np.ndarray]:
    """Values of each field as positions among those it may have."""
    rows = [
        item.attributes
        | {"kind": item.attributes["category"], "brand": item.brand, "domain": item.domain}
        for item in items
    ]
    return {
        field: np.array([values.index(row[field]) for row in rows])
        for field, values in FIELD_VALUES.items()
    }
