"""Flags that say which items may be recommended, the same for every command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from llmrec.errors import ConfigError
from llmrec.serving.filters import CatalogFilter, Without


@dataclass(frozen=True)
class ItemFlags:
    """Which items may be recommended.

    Attributes:
        exclude: item ids not to recommend.
        allow: item ids that alone may be recommended.
        in_stock: only items in stock.
        categories: any of these is in the item's category path.
        brands: the item's brand is any of these.
        domains: the item's domain is any of these.
        attributes: NAME=VALUE each; of one name, any of the values.
        price_min: lowest price.
        price_max: highest price.
        without_categories: none of these is in the item's category path.
        without_brands: the item's brand is none of these.
        without_attributes: NAME=VALUE each; the item has none of them.
    """

    exclude: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    in_stock: bool = False
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    domains: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--domain",))] = ()
    attributes: tuple[str, ...] = ()
    price_min: float | None = None
    price_max: float | None = None
    without_categories: tuple[str, ...] = ()
    without_brands: tuple[str, ...] = ()
    without_attributes: tuple[str, ...] = ()

    def request_fields(self) -> dict[str, Any]:
        """The same as fields of a request.

        Raises:
            ConfigError: for a flag that makes no sense.
        """
        where = CatalogFilter(
            in_stock=True if self.in_stock else None,
            categories=self.categories,
            brands=self.brands,
            price_min=self.price_min,
            price_max=self.price_max,
            domains=self.domains,
            attributes=_attributes(self.attributes, "--attributes"),
            without=Without(
                self.without_categories,
                self.without_brands,
                _attributes(self.without_attributes, "--without-attributes"),
            ),
        )
        exclude, allow = item_ids(self.exclude, "--exclude"), item_ids(self.allow, "--allow")
        return {"where": where, "exclude": exclude or (), "allow": allow}


def item_ids(words: Sequence[str], flag: str) -> list[str] | None:
    """The item ids of a flag, files read; None where it was not given.

    Raises:
        ConfigError: if a file is no text, or there are none.
    """
    ids: list[str] = []
    for word in words:
        if word.startswith("@"):
            try:
                lines = Path(word[1:]).read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError:
                raise ConfigError(f"{flag}: {word[1:]} is not UTF-8 text") from None
            ids += [line.strip() for line in lines if line.strip()]
        else:
            ids.append(word)
    if words and not ids:
        raise ConfigError(f"{flag}: names no item; give item ids, or @FILE with one a line")
    return ids or None


def _attributes(pairs: Sequence[str], flag: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            raise ConfigError(f"{flag}: {pair!r} is not NAME=VALUE")
        found[name] = (*found.get(name, ()), value)
    return found
