"""Closed vocabularies of the demo shop and the synonyms of their values: ``vocabulary.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Colour = Sequence[int]  # red, green, blue


@dataclass(frozen=True)
class Brand:
    """A brand: where it sells, what it looks like, what it costs.

    Attributes:
        tier: log-price offset against the usual price of a kind of thing.
    """

    name: str
    domains: Sequence[str]
    styles: Sequence[str]
    tier: float


def read_tables(name: str) -> dict[str, Any]:
    """Tables of the demo shop: a YAML file beside this module."""
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    tables: dict[str, Any] = yaml.safe_load(text)
    return tables


_TABLES = read_tables("vocabulary")

# Each value and its words, the plain one first.
COLOURS: dict[str, list[str]] = {name: row["words"] for name, row in _TABLES["colours"].items()}
STYLES: dict[str, list[str]] = _TABLES["styles"]
PATTERNS: dict[str, list[str]] = {name: row["words"] for name, row in _TABLES["patterns"].items()}

# What is looked for next, after a colour: the pull has a direction, so order matters.
COLOUR_PARTNERS: dict[str, list[str]] = {
    name: row["then"] for name, row in _TABLES["colours"].items()
}
# The plain values of ``COLOURS`` as seen; every item varies a little around them.
PALETTE: dict[str, Colour] = {name: row["rgb"] for name, row in _TABLES["colours"].items()}
FIXED: dict[str, Colour] = PALETTE | _TABLES["fixed_colours"]  # do not take the item's colour
PATTERN_WEIGHTS: list[float] = [row["share"] for row in _TABLES["patterns"].values()]

OCCASIONS: dict[str, str] = _TABLES["occasions"]
SEASONS: dict[str, str] = {name: row["text"] for name, row in _TABLES["seasons"].items()}
PEAK_MONTH: dict[str, int] = {
    name: row["peak_month"] for name, row in _TABLES["seasons"].items() if "peak_month" in row
}
PLACES: dict[str, float] = _TABLES["places"]  # and how strongly shoppers there feel the seasons
AUDIENCES = ("women", "men", "kids", "everyone")
MOTIONS = ("still", "turning", "in_use")
MEMBERSHIPS = ("none", "silver", "gold")
DEVICES = ("phone", "desktop", "tablet")

BRANDS = [Brand(**row) for row in _TABLES["brands"]]
LINES: list[str] = _TABLES["lines"]  # of products; they carry no taste
