"""Items of a catalogue as products of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from llmrec.serving.ucp.protocol import Json

# Digits after the point of currencies that have other than two (ISO 4217)
_NO_DIGITS = frozenset(
    (
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    )
)
_THREE_DIGITS = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])


class Money:
    """Amounts of one currency.

    Args:
        currency: ISO 4217 code.

    >>> Money("EUR").minor(19.99), Money("JPY").minor(19.99)
    (1999, 20)
    """

    def __init__(self, currency: str) -> None:
        self.currency = currency
        digits = 0 if currency in _NO_DIGITS else 3 if currency in _THREE_DIGITS else 2
        self._unit = Decimal(10) ** digits

    def minor(self, price: float) -> int:
        """A price in minor units."""
        return int((Decimal(str(price)) * self._unit).quantize(Decimal(1), ROUND_HALF_UP))

    def major(self, amount: int) -> float:
        """Minor units as a price."""
        return float(Decimal(amount) / self._unit)

    def price(self, price: float) -> Json:
        """A price as the protocol has it."""
        return {"amount": self.minor(price), "currency": self.currency}


def is_sold(row: Mapping[str, Any]) -> bool:
    """Whether an item can be a product: the protocol has none without a price."""
    return row.get("price") is not None


def product(row: Mapping[str, Any], money: Money, **metadata: Any) -> Json:
    """An item as a product with one variant, both of them of the item's identifier.

    Args:
        row: of the catalogue; with a price.
        metadata: beside what is known of the item; None is left out.
    """
    title = row["title"] or row["item_id"]
    price, description = money.price(row["price"]), {"plain": row.get("description") or title}
    known = {"brand": row.get("brand") or None, "domain": row.get("domain") or None}
    known |= {"attributes": _attributes(row)}
    about = {name: value for name, value in (known | metadata).items() if value is not None}
    categories = [{"value": value, "taxonomy": "merchant"} for value in row.get("categories") or []]
    found: Json = {
        "id": row["item_id"],
        "title": title,
        "description": description,
        "price_range": {"min": price, "max": price},
        "variants": [
            {
                "id": row["item_id"],
                "title": title,
                "description": description,
                "price": price,
                "availability": availability(row),
            }
        ],
    }
    if categories:
        found["categories"] = categories
    return found | ({"metadata": about} if about else {})


def availability(row: Mapping[str, Any]) -> Json:
    """Whether an item can be bought; one whose stock is not known can."""
    there = row.get("in_stock") is not False
    return {"available": there, "status": "in_stock" if there else "out_of_stock"}


def _attributes(row: Mapping[str, Any]) -> dict[str, str] | None:
    """The attributes by name; several values of one with commas between."""
    pairs = [pair.partition("=") for pair in row.get("attributes") or [] if "=" in pair]
    found: dict[str, str] = {}
    for name, _, value in pairs:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found or None
