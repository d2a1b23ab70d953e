"""What a conversation has come to: the wish so far, what is shown, who it is for.

A tool call holds what one message says; :meth:`DialogueState.merged` puts it into what was said
before:

* a value takes the place of that field's old value, and of the same value among those not wanted;
* another category drops the words, the brand and the attributes of the old one, unless it lies
  within that; price bounds and whom it is for stay;
* ``price: lower`` asks for less than the median of the prices shown, or than the price of the item
  that the message points at; ``higher`` for more;
* ``clear`` drops one field, or ``all`` of them, before the rest of the call is read.
"""

from __future__ import annotations

import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llmrec.config import Signed, build
from llmrec.serving.filters import CatalogFilter, Without

Json = dict[str, Any]
Values = dict[str, tuple[str, ...]]
MOST_SEEN = 200  # items of a wish that are not shown again
NOT = "not_"
CENT = 0.01
# arguments that are no attribute of the shop
_ARGUMENTS = (
    "query category brand not_category not_brand price price_min price_max for_someone_else more "
    "clear item items quantity topic act id ids"
)
RESERVED = frozenset(_ARGUMENTS.split())


@dataclass(frozen=True)
class Wish:
    """What somebody wants, as far as they said it.

    Attributes:
        query: words for what no field has.
        categories, brands: any of these; none for any.
        attributes: values by name, any of them.
        without_categories, without_brands, without_attributes: what it must not be.
        price_min, price_max: bounds, inclusive; None for none.
        picture: of what it is to look like, in the space of the search index; empty for none.
    """

    query: str = ""
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    attributes: Values = field(default_factory=dict)
    without_categories: tuple[str, ...] = ()
    without_brands: tuple[str, ...] = ()
    without_attributes: Values = field(default_factory=dict)
    price_min: float | None = None
    price_max: float | None = None
    picture: tuple[Signed, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether nothing says what kind of thing is wanted."""
        said = self.query, self.categories, self.brands, self.attributes, self.picture
        return not any(said)

    def where(self) -> CatalogFilter:
        """The same as a hard filter, over what is in stock."""
        return CatalogFilter(
            in_stock=True,
            categories=self.categories,
            brands=self.brands,
            price_min=self.price_min,
            price_max=self.price_max,
            attributes=self.attributes,
            without=Without(self.without_categories, self.without_brands, self.without_attributes),
        )

    def cleared(self, name: str) -> Wish:
        """The same without a field: ``price``, a name of the class, or an attribute."""
        if name == "all":
            return Wish()
        if name == "price":
            return replace(self, price_min=None, price_max=None)
        if name in ("query", "picture"):
            return replace(self, **{name: getattr(Wish(), name)})
        if name == "category":
            return replace(self, categories=(), without_categories=())
        if name == "brand":
            return replace(self, brands=(), without_brands=())
        return replace(
            self,
            attributes=_but(self.attributes, name),
            without_attributes=_but(self.without_attributes, name),
        )

    def merged(
        self,
        said: Mapping[str, Any],
        prices: Sequence[float] = (),
        narrower: Container[str] = (),
    ) -> Wish:
        """The same after one more message.

        Args:
            said: arguments of a tool call.
            prices: that ``price: lower`` compares with.
            narrower: categories within those of the wish.
        """
        wish = self
        for name in _values(said.get("clear")):
            wish = wish.cleared(name)
        wish = wish._with_category(said, narrower)
        if said.get("query"):
            wish = replace(wish, query=str(said["query"]).strip())
        brands, unwanted = _values(said.get("brand")), _values(said.get("not_brand"))
        if brands:
            kept = _minus(wish.without_brands, brands)
            wish = replace(wish, brands=brands, without_brands=kept)
        if unwanted:
            more = _plus(wish.without_brands, unwanted)
            wish = replace(wish, brands=_minus(wish.brands, unwanted), without_brands=more)
        for name, value in said.items():
            if name not in RESERVED:
                wish = wish._with_attribute(name, _values(value))
        return wish._with_price(said, prices)

    def _with_category(self, said: Mapping[str, Any], narrower: Container[str]) -> Wish:
        wish = self
        categories = _values(said.get("category"))
        if categories and categories != wish.categories:
            without = _minus(wish.without_categories, categories)
            if wish.categories and not all(one in narrower for one in categories):
                wish = Wish(price_min=wish.price_min, price_max=wish.price_max)
            wish = replace(wish, categories=categories, without_categories=without)
        unwanted = _values(said.get("not_category"))
        if unwanted:
            kept = _minus(wish.categories, unwanted)
            more = _plus(wish.without_categories, unwanted)
            wish = replace(wish, categories=kept, without_categories=more)
        return wish

    def _with_attribute(self, name: str, values: tuple[str, ...]) -> Wish:
        attributes, without = dict(self.attributes), dict(self.without_attributes)
        if name.startswith(NOT):
            name = name.removeprefix(NOT)
            without[name] = _plus(without.get(name, ()), values)
            attributes[name] = _minus(attributes.get(name, ()), values)
        else:
            attributes[name] = values
            without[name] = _minus(without.get(name, ()), values)
        return replace(self, attributes=_filled(attributes), without_attributes=_filled(without))

    def _with_price(self, said: Mapping[str, Any], prices: Sequence[float]) -> Wish:
        low, high = self.price_min, self.price_max
        given_low, given_high = said.get("price_min"), said.get("price_max")
        if said.get("price") in ("lower", "higher") and prices:
            middle = statistics.median(prices)
            if said["price"] == "lower":
                below = max(round(middle - CENT, 2), 0.0)
                given_high = below if high is None else min(high, below)
            else:
                above = round(middle + CENT, 2)
                given_low = above if low is None else max(low, above)
        if given_high is not None:
            high = float(given_high)
            low = None if low is not None and low > high else low
        if given_low is not None:
            low = float(given_low)
            high = None if high is not None and low > high else high
        return replace(self, price_min=low, price_max=high)


@dataclass(frozen=True)
class DialogueState:
    """All that is kept between two messages.

    Attributes:
        wish: what is wanted.
        shown: item ids that "the second one" counts, by their place.
        seen: item ids that were shown for this wish.
        asked: field that was asked for last; "" for none.
        focus: place, from 1, of the item that was talked about last; None for none.
        list_id: recommendation id of what is shown; None where it has none.
        cart_id: of the cart; None where there is none yet.
        for_someone_else: whether this person's own history says nothing of the wish.
        turns: messages so far.
    """

    wish: Wish = field(default_factory=Wish)
    shown: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    asked: str = ""
    focus: int | None = None
    list_id: str | None = None
    cart_id: str | None = None
    for_someone_else: bool = False
    turns: int = 0

    def merged(
        self,
        said: Mapping[str, Any],
        prices: Sequence[float] = (),
        narrower: Container[str] = (),
    ) -> DialogueState:
        """The state after one more message; arguments as of :meth:`Wish.merged`.

        What was seen is forgotten where the wish is another one.
        """
        wish = self.wish.merged(said, prices, narrower)
        other = self.for_someone_else and "all" not in _values(said.get("clear"))
        other = bool(said.get("for_someone_else", other))
        same = wish == self.wish and other == self.for_someone_else
        seen = self.seen if same else ()
        return replace(self, wish=wish, for_someone_else=other, seen=seen)

    def showing(self, item_ids: Iterable[str], list_id: str | None = None) -> DialogueState:
        """The state once these items are shown."""
        shown = tuple(item_ids)
        seen = tuple(dict.fromkeys((*self.seen, *shown)))[-MOST_SEEN:]
        return replace(self, shown=shown, seen=seen, focus=None, list_id=list_id)

    def item(self, position: Any) -> str | None:
        """The item at a place of what is shown, from 1; None where there is none."""
        if isinstance(position, bool) or not isinstance(position, int):
            return None
        return self.shown[position - 1] if 0 < position <= len(self.shown) else None

    def as_dict(self) -> Json:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of_dict(cls, values: Json) -> DialogueState:
        """A state as JSON gives it.

        Raises:
            ConfigError: for one that is none.
        """
        return build(cls, values, "state")


def _values(value: Any) -> tuple[str, ...]:
    """One text or several, as texts."""
    if value is None or value == "":
        return ()
    many = value if isinstance(value, list | tuple) else [value]
    return tuple(str(one) for one in many)


def _minus(values: Iterable[str], gone: Iterable[str]) -> tuple[str, ...]:
    return tuple(one for one in values if one not in set(gone))


def _plus(values: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*values, *more)))


def _but(values: Values, name: str) -> Values:
    return {key: value for key, value in values.items() if key != name}


def _filled(values: Values) -> Values:
    return {key: value for key, value in values.items() if value}
