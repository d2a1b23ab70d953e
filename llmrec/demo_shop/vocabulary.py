"""Closed vocabularies of the demo shop and the synonyms of their values.

An item's attributes hold the plain value (``red``); its title and description may say
``crimson`` instead, or leave the value out, so reading the text alone is not enough.
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet", "cherry"),
    "orange": ("orange", "tangerine", "apricot"),
    "yellow": ("yellow", "mustard", "lemon", "saffron"),
    "green": ("green", "emerald", "sage", "forest"),
    "blue": ("blue", "cobalt", "sky blue", "azure"),
    "navy": ("navy", "midnight blue", "ink blue"),
    "purple": ("purple", "plum", "lilac", "aubergine"),
    "pink": ("pink", "rose", "blush", "fuchsia"),
    "brown": ("brown", "chocolate", "chestnut"),
    "beige": ("beige", "sand", "oatmeal", "camel"),
    "black": ("black", "jet black", "onyx"),
    "white": ("white", "ivory", "snow white", "chalk"),
    "grey": ("grey", "slate", "ash grey", "dove grey"),
}

# What is looked for next, after a colour: the pull has a direction, so order matters.
COLOUR_PARTNERS: dict[str, tuple[str, str]] = {
    "red": ("navy", "white"),
    "orange": ("brown", "blue"),
    "yellow": ("grey", "green"),
    "green": ("beige", "brown"),
    "blue": ("white", "orange"),
    "navy": ("beige", "red"),
    "purple": ("grey", "pink"),
    "pink": ("purple", "grey"),
    "brown": ("green", "yellow"),
    "beige": ("brown", "navy"),
    "black": ("red", "grey"),
    "white": ("blue", "black"),
    "grey": ("pink", "black"),
}

STYLES: dict[str, tuple[str, ...]] = {
    "minimal": ("minimal", "pared-back", "clean-lined"),
    "classic": ("classic", "timeless", "heritage"),
    "sporty": ("sporty", "athletic", "active"),
    "bohemian": ("bohemian", "boho", "free-spirited"),
    "romantic": ("romantic", "dreamy", "delicate"),
    "street": ("street", "urban", "off-duty"),
}

PATTERNS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy", "banded"),
    "checked": ("checked", "plaid", "gingham"),
    "dotted": ("dotted", "polka-dot", "spotted"),
    "floral": ("floral", "flower-print", "botanical"),
    "geometric": ("geometric", "graphic-print", "zigzag"),
}
PATTERN_WEIGHTS = (0.34, 0.17, 0.14, 0.11, 0.13, 0.11)

OCCASIONS: dict[str, str] = {
    "everyday": "every day",
    "office": "the office",
    "party": "evenings out",
    "sport": "training",
    "travel": "weekends away",
    "relaxing": "slow evenings at home",
    "dining": "having friends round the table",
}

SEASONS: dict[str, str] = {
    "winter": "Made for the cold months.",
    "spring": "Right for the first mild days.",
    "summer": "At its best in the heat.",
    "autumn": "Made for crisp, leafy days.",
    "all year": "Good in any season.",
}
PEAK_MONTH = {"winter": 12, "spring": 4, "summer": 7, "autumn": 10}

AUDIENCES = ("women", "men", "kids", "everyone")
MOTIONS = ("still", "turning", "in_use")
MEMBERSHIPS = ("none", "silver", "gold")
DEVICES = ("phone", "desktop", "tablet")

# Place and how strongly its shoppers feel the seasons.
PLACES: dict[str, float] = {
    "Norham": 1.35,
    "Eastwick": 1.1,
    "Port Alder": 0.9,
    "Millbrook": 1.0,
    "Sunhaven": 0.45,
    "Castellan": 0.7,
}


@dataclass(frozen=True)
class Brand:
    """A brand: where it sells, what it looks like, what it costs.

    Attributes:
        tier: log-price offset against the usual price of a kind of thing.
    """

    name: str
    domains: tuple[str, ...]
    styles: tuple[str, ...]
    tier: float


BRANDS: tuple[Brand, ...] = (
    Brand("Norrvik", ("clothing", "home"), ("minimal", "classic"), 0.25),
    Brand("Tallow & Pine", ("home",), ("classic", "bohemian"), 0.1),
    Brand("Okapi Lane", ("clothing", "home"), ("bohemian", "romantic"), 0.0),
    Brand("Marlowe Street", ("clothing",), ("classic", "minimal"), 0.45),
    Brand("Velta", ("clothing",), ("sporty", "street"), 0.15),
    Brand("Kestrel Works", ("clothing",), ("street", "sporty"), -0.1),
    Brand("Hearthmere", ("home",), ("romantic", "classic"), 0.3),
    Brand("Pebble & Oat", ("home",), ("minimal", "bohemian"), -0.15),
    Brand("Quillfeather", ("clothing", "home"), ("romantic", "bohemian"), 0.35),
    Brand("Corner & Co", ("clothing", "home"), ("street", "minimal"), -0.4),
    Brand("Brightwater", ("clothing",), ("sporty", "minimal"), -0.3),
    Brand("Lumen Row", ("home",), ("street", "minimal"), 0.05),
    Brand("Ashdown Mill", ("clothing", "home"), ("classic", "romantic"), -0.2),
    Brand("Sixpenny", ("clothing", "home"), ("sporty", "street"), -0.5),
)

# Product-line names: they carry no taste, as in a real shop.
LINES = (
    "Alder",
    "Bramble",
    "Cove",
    "Dune",
    "Ember",
    "Fern",
    "Grove",
    "Harbour",
    "Isla",
    "Juniper",
    "Kite",
    "Larch",
    "Meadow",
    "Nova",
    "Orchard",
    "Pier",
    "Quarry",
    "Rowan",
    "Sable",
    "Thistle",
    "Umber",
    "Vale",
    "Willow",
    "Yarrow",
    "Zephyr",
    "Birch",
    "Cedar",
    "Delta",
    "Fable",
    "Glen",
)
