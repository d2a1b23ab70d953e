"""Which items may be recommended, by their fields in the catalogue: stock, price, category.

Text is compared without regard to case. A name that no item has is a mistake rather than an
empty answer, and the message offers names that are close to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config import build, check_ranges
from llmrec.errors import CatalogError, ConfigError

COLUMNS = ("in_stock", "categories", "brand", "price", "domain", "attributes")
OFFERED = 5  # close names in a message
COMPARED = 20_000  # names that are looked at for close ones


@dataclass(frozen=True)
class Without:
    """What an item must not be like; any of it is enough to leave an item out.

    Attributes:
        categories: entries of the item's category path.
        brands: of the item.
        attributes: for each name, values that the attribute must have none of.

    Raises:
        ConfigError: if a value makes no sense.
    """

    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("categories", "brands"):
            object.__setattr__(self, name, _texts(getattr(self, name), f"without.{name}"))
        object.__setattr__(self, "attributes", _pairs(self.attributes, "without.attributes"))

    def passes(self, items: pa.Table) -> np.ndarray:
        """Which items have nothing of this, bool ``[items]``.

        Raises:
            CatalogError, ConfigError: see :meth:`CatalogFilter.passes`.
        """
        passes = np.ones(items.num_rows, dtype=bool)
        for column, unwanted, name in (
            ("categories", self.categories, "without.categories"),
            ("brand", self.brands, "without.brands"),
        ):
            if unwanted:
                passes &= ~_with_text(items, column, unwanted, name)
        for name, unwanted in self.attributes.items():
            passes &= ~_with_attribute(items, name, unwanted, "without.attributes")
        return passes


@dataclass(frozen=True)
class CatalogFilter:
    """What an item must be like; every field that is given must hold.

    Attributes:
        in_stock: True for items in stock, False for those sold out, None for both.
        categories: any of these is an entry of the item's category path.
        brands: the item's brand is any of these.
        price_min, price_max: bounds of the price, inclusive; an item without a price is outside.
        domains: the item's domain is any of these.
        attributes: for each name, the attribute has any of these values; an attribute that lists
            several (``"red,blue"``) has each of them.
        without: what it must not be like.

    Raises:
        ConfigError: if a value makes no sense.
    """

    in_stock: bool | None = None
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    price_min: float | None = None
    price_max: float | None = None
    domains: tuple[str, ...] = ()
    # A mapping has no hash; equal filters have equal hashes without it as well.
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    without: Without = field(default_factory=Without)

    def __post_init__(self) -> None:
        for name in ("categories", "brands", "domains"):
            object.__setattr__(self, name, _texts(getattr(self, name), name))
        object.__setattr__(self, "attributes", _pairs(self.attributes, "attributes"))
        without: Any = self.without
        if not isinstance(without, Without):
            object.__setattr__(self, "without", build(Without, without, "where.without"))
        if self.in_stock is not None and not isinstance(self.in_stock, bool):
            raise ConfigError(f"in_stock: {self.in_stock!r} is neither true nor false")
        for name in ("price_min", "price_max"):
            price = getattr(self, name)
            if isinstance(price, bool) or not isinstance(price, int | float | None):
                raise ConfigError(f"{name}: {price!r} is not a number")
        check_ranges(self, "[0, inf)", "price_min", "price_max")
        low, high = self.price_min, self.price_max
        if low is not None and high is not None and low > high:
            raise ConfigError(f"price_min: {low} is above price_max, {high}")

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> CatalogFilter:
        """A filter as JSON gives it.

        Raises:
            ConfigError: for an unknown field or a value of the wrong type.
        """
        return build(cls, values, "where")

    def passes(self, items: pa.Table) -> np.ndarray:
        """Which items are like this.

        Args:
            items: the catalogue, with the columns of :mod:`llmrec.data.dataset`.

        Returns:
            bool ``[items]``.

        Raises:
            CatalogError: for a name that no item has.
            ConfigError: if the catalogue lacks a column that the filter reads.
        """
        passes = np.ones(items.num_rows, dtype=bool)
        if self.in_stock is not None:
            stock = pc.fill_null(_column(items, "in_stock", "in_stock"), True)
            passes &= stock.to_numpy() == self.in_stock
        for bound, name, holds in (
            (self.price_min, "price_min", pc.greater_equal),
            (self.price_max, "price_max", pc.less_equal),
        ):
            if bound is not None:
                prices = _column(items, "price", name)
                passes &= pc.fill_null(holds(prices, bound), False).to_numpy()
        for column, wanted, name in (
            ("categories", self.categories, "categories"),
            ("brand", self.brands, "brands"),
            ("domain", self.domains, "domains"),
        ):
            if wanted:
                passes &= _with_text(items, column, wanted, name)
        for name, wanted in self.attributes.items():
            passes &= _with_attribute(items, name, wanted, "attributes")
        return passes & self.without.passes(items)


def _texts(values: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise ConfigError(f"{name}: expected a list of texts, got {values!r}")
    for value in values:
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ConfigError(f"{name}: {value!r} is not text in Unicode")
    return tuple(value.strip() for value in values)


def _pairs(values: Mapping[str, Sequence[str]], name: str) -> Mapping[str, tuple[str, ...]]:
    """Names and the values of each, checked."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: expected names and values, got {values!r}")
    _texts(tuple(values), name)
    found = {key: _texts(value, f"{name}.{key}") for key, value in values.items()}
    for key, value in found.items():
        if not value:
            raise ConfigError(f"{name}.{key}: names no value; give at least one")
    return MappingProxyType(found)


def _column(items: pa.Table, column: str, name: str) -> pa.ChunkedArray:
    if column not in items.column_names:
        raise ConfigError(
            f"{name}: the catalogue has no column {column!r}, so it cannot be filtered by; "
            "make the bundle again from a dataset that has it"
        )
    return items[column]


def _entries(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """All texts of a column, and the row each belongs to, int64."""
    rows = np.arange(len(column))
    if not pa.types.is_list(column.type):
        return column, rows
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    return pc.list_flatten(column), np.repeat(rows, lengths)


def _with_text(items: pa.Table, column: str, wanted: Sequence[str], name: str) -> np.ndarray:
    """bool ``[items]``, where the column has one of these texts."""
    texts, rows = _entries(_column(items, column, name))
    return _marked(items.num_rows, rows[_wanted(texts, wanted, name)])


def _with_attribute(
    items: pa.Table, name: str, wanted: Sequence[str], field_name: str
) -> np.ndarray:
    """bool ``[items]``, where one of the ``"name=value"`` texts has that name and such a value."""
    pairs, rows = _entries(_column(items, "attributes", field_name))
    beginning = _lower([f"{name}="])[0].as_py()
    named = pc.fill_null(pc.starts_with(pc.utf8_lower(pairs), beginning), False)
    if not pc.any(named).as_py():
        names = pc.extract_regex(pc.unique(pairs), r"^(?P<name>[^=]*)=")
        raise _unknown(name, field_name, pc.unique(pc.struct_field(names, "name")))
    values = pc.utf8_slice_codeunits(pairs.filter(named), len(beginning))
    rows = rows[named.to_numpy()]
    pieces, of_value = _entries(pc.split_pattern(values, ","))
    texts = pa.chunked_array(values.chunks + pieces.chunks, pa.string())
    rows = np.concatenate([rows, rows[of_value]])
    hits = _wanted(pc.utf8_trim_whitespace(texts), wanted, f"{field_name}.{name}")
    return _marked(items.num_rows, rows[hits])


def _wanted(texts: pa.ChunkedArray, wanted: Sequence[str], name: str) -> np.ndarray:
    """bool ``[texts]``, which are wanted.

    Raises:
        CatalogError: for one that is wanted and not there.
    """
    lower, wanted_lower = pc.utf8_lower(texts), _lower(wanted)
    hits = pc.is_in(lower, value_set=wanted_lower)
    there = pc.is_in(wanted_lower, value_set=pc.unique(lower.filter(hits)))
    for text, known in zip(wanted, there.to_pylist(), strict=True):
        if not known:
            raise _unknown(text, name, pc.unique(texts))
    found: np.ndarray = hits.to_numpy()
    return found


def _marked(length: int, rows: np.ndarray) -> np.ndarray:
    marks = np.zeros(length, dtype=bool)
    marks[rows] = True
    return marks


def _lower(texts: Sequence[str]) -> pa.Array:
    """In lower case, as the catalogue's texts are made lower."""
    return pc.utf8_lower(pa.array(texts, pa.string()))


def _unknown(text: str, name: str, known: pa.Array) -> CatalogError:
    """The error for a text that no item has."""
    compared = known.drop_null()[:COMPARED].to_pylist()
    by_lower = {one.lower(): one for one in compared if one}
    close = difflib.get_close_matches(text.lower(), by_lower, n=OFFERED)
    offer = f"; close: {', '.join(repr(by_lower[one]) for one in close)}" if close else ""
    return CatalogError(f"{name}: no item has {text!r}{offer}")


EVERYTHING = CatalogFilter()  # leaves nothing out; at the end, since it checks its fields
