"""What a simulated shopper needs, and which products of the catalogue meet it.

A need starts from something that a person of the shop's log took later than all that the assistant
may know of them. Some of it they say at once: a kind of thing, or what it is for; some when they
are asked, or when they are shown something else; a budget. Their taste they never put into words:
it is what they took in the whole log, against what the shop has. What they would take is then a few
of the products that are all they say: those most to their taste, and what they took in truth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.serving.assistant.vocabulary import Fields, ShopVocabulary
from llmrec.serving.history import as_events

PATIENCE = (4, 6)  # fewest and most messages of a shopper
LISTS = (2, 3)  # likewise, lists that are as they said and not to their taste
TASTEFUL = 0.05  # of what is all that they say, the share that is to their taste
LEAST_EARLIER = 5  # events of a person that the assistant may know
LEAST_LATER = 3  # and later ones, which it must not
LEAST_FITTING = 20  # products that are all that is said; with fewer there is little choice
WISHES = 8  # of a person that are tried until one leaves a choice
HEADROOM = (1.05, 1.5)  # of the budget over the price of what was taken
SMOOTHING = 4.0  # events that the shop's own shares count as
FOR_WHAT = ("occasion", "season")  # what a thing is for, where the shop says
FOR_WHOM = ("audience",)  # nobody says it of themselves: it shows in what they take
TELLING = 0.3  # share of the shop that has a value which says something
Json = dict[str, Any]


@dataclass(frozen=True)
class Product:
    """A row of the catalogue as a shopper compares it.

    Attributes:
        fields: its closed fields.
        price: or None.
        in_stock: whether it can be bought.
    """

    item_id: str
    fields: Fields
    price: float | None
    in_stock: bool


@dataclass(frozen=True)
class Need:
    """What one shopper wants.

    Attributes:
        person: of the log, whose taste it is.
        history: what the assistant may know of them, as events of a request.
        said: fields and values that are said at once.
        asked: fields and values that are said when it comes to them.
        department: whether the kind of thing that is said is a department: "kitchen".
        budget: most that it may cost.
        says_budget: at once.
        fitting: products that are all that could be said.
        accepted: those of them that are taken.
        taste: of each value of a field, how much likelier this person takes it; log-ratio.
        sayable: fields and values that somebody would put into words.
        patience: messages before the shopper leaves.
        lists: that may be all that they said and not to their taste, before they are bored.
    """

    person: str
    history: Sequence[Any]
    said: Mapping[str, str]
    asked: Mapping[str, str]
    department: bool
    budget: float
    says_budget: bool
    fitting: frozenset[str]
    accepted: frozenset[str]
    taste: Mapping[tuple[str, str], float]
    sayable: frozenset[tuple[str, str]]
    patience: int
    lists: int

    @property
    def spoken(self) -> dict[str, str]:
        """Fields and values that are said at one time or another."""
        return {**self.said, **self.asked}

    def is_met_by(self, product: Product) -> bool:
        """Whether a product is all that is said, spoken or not."""
        return product.item_id in self.accepted


def draw_needs(dataset: Dataset, count: int, seed: int = 0) -> list[Need]:
    """Shoppers of the people of a log, each another person.

    Args:
        dataset: whose test events are what people took later.

    Raises:
        DataError: if not so many people have later events.
    """
    maker = NeedMaker(dataset, seed)
    needs: list[Need] = []
    for user in maker.people():
        tried = (maker.need(user) for _ in range(WISHES))
        needs += [need for need in tried if need is not None][:1]
        if len(needs) == count:
            return needs
    raise DataError(
        f"{dataset.folder}: {len(needs)} people took {LEAST_EARLIER} things or more before the "
        f"test part, {LEAST_LATER} in it, and leave a choice, not the {count} shoppers asked for; "
        "lower --shoppers"
    )


class NeedMaker:
    """Makes needs of the people of a log.

    Args:
        dataset: of the log.
        seed: of what is drawn.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 17])
        vocabulary = ShopVocabulary.of_items(dataset.items)
        self.products = products_of(dataset, vocabulary)
        self._shares = _shares(self.products)
        self._sayable = frozenset(
            (name, value)
            for name, shares in self._shares.items()
            for value, share in shares.items()
            if name not in FOR_WHOM and share <= TELLING and all(map(can_be_said, shares))
        )
        self._dataset, self._cases = dataset, dataset.cases("test")

    def people(self) -> list[int]:
        """Users with enough events, in a drawn order."""
        users, first, counts = np.unique(self._cases.users, return_index=True, return_counts=True)
        earlier = self._cases.histories.lengths()[first]
        enough = users[(counts >= LEAST_LATER) & (earlier >= LEAST_EARLIER)]
        drawn: list[int] = self._rng.permutation(enough).tolist()
        return drawn

    def need(self, user: int) -> Need | None:
        """The need of a person; None where it leaves no choice."""
        rows = np.flatnonzero(self._cases.users == user)
        later = self._cases.targets[rows]
        taken = self.products[int(self._rng.choice(later))]
        if taken.price is None or not taken.in_stock:
            return None
        said, asked = self._words(taken)
        budget = _round(taken.price * self._rng.uniform(*HEADROOM))
        fitting = [
            one
            for one in self.products
            if one.in_stock
            and one.price is not None
            and one.price <= budget
            and all(value in one.fields.get(name, ()) for name, value in {**said, **asked}.items())
        ]
        if len(fitting) < LEAST_FITTING:
            return None
        before = self._cases.histories.select(rows[:1])
        taste = self._taste([*before.items.tolist(), *later.tolist()])
        order = sorted(fitting, key=lambda one: -liking(taste, one))
        best = order[: max(1, math.ceil(TASTEFUL * len(fitting)))]
        times = None if before.timestamps is None else before.timestamps
        names = [self._dataset.item_ids[item] for item in before.items]
        return Need(
            person=self._dataset.user_ids[user],
            history=as_events(names, times),
            said=said,
            asked=asked,
            department=said.get("category") != taken.fields.get("category", ("",))[-1],
            budget=budget,
            says_budget=bool(self._rng.random() < 0.4),
            fitting=frozenset(one.item_id for one in fitting),
            accepted=frozenset([taken.item_id, *(one.item_id for one in best)]),
            taste=taste,
            sayable=self._sayable,
            patience=int(self._rng.integers(PATIENCE[0], PATIENCE[1] + 1)),
            lists=int(self._rng.integers(LISTS[0], LISTS[1] + 1)),
        )

    def _words(self, taken: Product) -> tuple[dict[str, str], dict[str, str]]:
        """What is said at once, and what when it comes to it."""
        path = taken.fields.get("category", ())
        known = [
            name
            for name, values in taken.fields.items()
            if (name, values[0]) in self._sayable and name != "brand"
        ]
        purpose = [name for name in FOR_WHAT if name in known]
        said: dict[str, str] = {}
        wide = self._rng.random()
        if path and (wide < 0.8 or not purpose):  # the upper category, or the kind itself
            said["category"] = path[-1] if 0.6 < wide < 0.8 else path[0]
        if purpose and (not said or self._rng.random() < 0.3):
            name = str(self._rng.choice(purpose))
            said[name] = taken.fields[name][0]
        others = [name for name in known if name not in said]
        asked: dict[str, str] = {}
        if others and self._rng.random() < 0.5:
            name = str(self._rng.choice(others))
            asked[name] = taken.fields[name][0]
        return said, asked

    def _taste(self, items: Sequence[int]) -> dict[tuple[str, str], float]:
        """Log-ratio of each value's share of what a person took, and its share of the shop."""
        found = {}
        for name, shares in self._shares.items():
            taken = Counter(
                value for item in items for value in self.products[item].fields.get(name, ())
            )
            for value, share in shares.items():
                own = (taken[value] + SMOOTHING * share) / (len(items) + SMOOTHING)
                found[name, value] = math.log(own / share)
        return found


def products_of(dataset: Dataset, vocabulary: ShopVocabulary) -> list[Product]:
    """The catalogue, by item index."""
    return [product_of(row, vocabulary) for row in dataset.items.to_pylist()]


def product_of(row: Json, vocabulary: ShopVocabulary) -> Product:
    """One row of it."""
    in_stock = row.get("in_stock") is not False
    return Product(row["item_id"], vocabulary.fields_of(row), row.get("price"), in_stock)


def can_be_said(value: str) -> bool:
    """Whether a value is words: "in_use" is none.

    >>> can_be_said("all year"), can_be_said("in_use")
    (True, False)
    """
    return all(letter.isalpha() or letter in " -&'" for letter in value)


def liking(taste: Mapping[tuple[str, str], float], product: Product) -> float:
    """How much a product is to a taste: the sum over its values."""
    return sum(
        taste.get((name, value), 0.0) for name, values in product.fields.items() for value in values
    )


def _shares(products: Sequence[Product]) -> dict[str, dict[str, float]]:
    """Of each field, the share of the products with a value; the kind is no taste."""
    found: dict[str, Counter[str]] = {}
    for one in products:
        for name, values in one.fields.items():
            if name != "category":
                found.setdefault(name, Counter()).update(values)
    return {
        name: {value: count / len(products) for value, count in counts.items()}
        for name, counts in found.items()
    }


def _round(price: float) -> float:
    """A budget as people say one: a whole number, of a large one a multiple of five."""
    return float(math.ceil(price / 5) * 5 if price > 20 else math.ceil(price))
