"""A catalogue filter lets through exactly the items that are like that."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalogue import SCHEMA
from llmrec.errors import CatalogError, ConfigError
from llmrec.serving.filters import CatalogFilter, Without

ROWS: list[dict[str, Any]] = [
    {"brand": "Aldo", "categories": ["Shoes", "Boots"], "price": 80.0, "domain": "clothing"},
    {"brand": "ALDO", "categories": ["Shoes", "Sandals"], "price": 25.0, "in_stock": False},
    {"brand": "Bauhaus", "categories": ["Lamps"], "price": None, "domain": "home"},
    {"brand": "", "categories": [], "price": 0.0, "attributes": ["colour=red, Blue", "size=4"]},
    {"brand": None, "categories": None, "price": 25.5, "attributes": ["colour=dark red"]},
    {"brand": "Öland", "categories": ["lamps", "Straße"], "attributes": None, "in_stock": None},
]


def table(rows: list[dict[str, Any]], cut: int = 2) -> pa.Table:
    """A catalogue in two chunks; what a row does not say is as it is for items only seen."""
    plain = {"in_stock": True, "domain": "", "attributes": [], "price": None}
    whole = pa.Table.from_pylist(
        [plain | {"item_id": f"i{n}"} | row for n, row in enumerate(rows)], SCHEMA
    )
    return pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])


def passing(**fields: Any) -> list[int]:
    return np.flatnonzero(CatalogFilter(**fields).passes(table(ROWS))).tolist()


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"in_stock": True}, [0, 2, 3, 4, 5]),
        ({"in_stock": False}, [1]),
        ({"categories": ("shoes",)}, [0, 1]),
        ({"categories": ("BOOTS", " lamps ")}, [0, 2, 5]),
        ({"categories": ("STRAßE",)}, [5]),
        ({"brands": ("aldo",)}, [0, 1]),
        ({"brands": ("öLAND", "Bauhaus")}, [2, 5]),
        ({"domains": ["Home"]}, [2]),
        ({"price_min": 25.0}, [0, 1, 4]),
        ({"price_max": 25}, [1, 3]),
        ({"price_min": 25.0, "price_max": 25.0}, [1]),
        ({"price_min": 0}, [0, 1, 3, 4]),
        ({"attributes": {"colour": ["red"]}}, [3]),
        ({"attributes": {"Colour": ["blue", "dark red"]}}, [3, 4]),
        ({"attributes": {"colour": ["red, blue"]}}, [3]),
        ({"attributes": {"colour": ["red"], "size": ["4"]}}, [3]),
        ({"attributes": {"colour": ["dark red"], "size": ["4"]}}, []),
        ({"categories": ("shoes",), "brands": ("bauhaus",)}, []),
        ({"without": Without(categories=("boots", "LAMPS"))}, [1, 3, 4]),
        ({"without": Without(brands=("aldo",))}, [2, 3, 4, 5]),
        ({"without": Without(attributes={"colour": ["blue"]})}, [0, 1, 2, 4, 5]),
        ({"categories": ("shoes",), "without": Without(categories=("sandals",))}, [0]),
        ({"without": Without()}, [0, 1, 2, 3, 4, 5]),
        ({"categories": ("Shoes",), "in_stock": True, "price_max": 80}, [0]),
    ],
)
def test_what_passes(fields: dict[str, Any], rows: list[int]) -> None:
    assert passing(**fields) == rows


ITEMS = st.fixed_dictionaries(
    {
        "in_stock": st.booleans(),
        "brand": st.sampled_from(["", "A", "b"]),
        "categories": st.lists(st.sampled_from(["X", "y", "Z"]), max_size=3, unique=True),
        "price": st.none() | st.integers(0, 4).map(float),
    }
)


@settings(derandomize=True, deadline=None)
@given(
    rows=st.lists(ITEMS, min_size=1, max_size=12),
    cut=st.integers(0, 12),
    stock=st.none() | st.booleans(),
    categories=st.sets(st.sampled_from(["x", "Y", "z"])),
    low=st.none() | st.integers(0, 4),
    extra=st.integers(0, 3),
)
def test_it_says_what_a_loop_over_the_items_says(
    rows: list[dict[str, Any]],
    cut: int,
    stock: bool | None,
    categories: set[str],
    low: int | None,
    extra: int,
) -> None:
    high = None if low is None else low + extra
    there = {entry.lower() for row in rows for entry in row["categories"]}
    wanted = {name for name in categories if name.lower() in there}
    lower = {name.lower() for name in wanted}

    def like_this(row: dict[str, Any]) -> bool:
        within = low is None or (row["price"] is not None and low <= row["price"] <= high)
        in_category = not lower or bool(lower & {entry.lower() for entry in row["categories"]})
        return within and in_category and stock in (None, row["in_stock"])

    where = CatalogFilter(stock, tuple(wanted), price_min=low, price_max=high)
    assert where.passes(table(rows, cut)).tolist() == [like_this(row) for row in rows]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"categories": ["shoos"]}, r"^categories: no item has 'shoos'; close: 'Shoes', 'Boots'$"),
        ({"categories": ["Lamps", "lampe"]}, r"categories: no item has 'lampe'; close: 'lamps'"),
        ({"brands": ["Nike"]}, "^brands: no item has 'Nike'$"),
        ({"domains": ["hom"]}, "domains: no item has 'hom'; close: 'home'"),
        ({"attributes": {"color": ["red"]}}, "attributes: no item has 'color'; close: 'colour'"),
        (
            {"attributes": {"colour": ["blu"]}},
            r"attributes\.colour: no item has 'blu'; close: 'Blue'",
        ),
        ({"attributes": {"colour": ["4"]}}, r"attributes\.colour: no item has '4'"),
        (
            {"without": {"attributes": {"colour": ["blu"]}}},
            r"without\.attributes\.colour: no item has 'blu'; close: 'Blue'",
        ),
        ({"without": {"brands": ["Zara"]}}, r"without\.brands: no item has 'Zara'"),
    ],
)
def test_a_name_that_no_item_has(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        passing(**fields)


def test_at_most_five_close_names_are_offered() -> None:
    rows = [{"brand": f"brand {n}", "categories": []} for n in range(20)]
    with pytest.raises(CatalogError) as caught:
        CatalogFilter(brands=("brand x",)).passes(table(rows))
    assert str(caught.value).count("'brand ") == 1 + 5


def test_a_catalogue_without_any_attribute() -> None:
    rows = [{"brand": "", "categories": []}] * 3
    with pytest.raises(CatalogError, match=r"^attributes: no item has 'colour'$"):
        CatalogFilter(attributes={"colour": ("red",)}).passes(table(rows))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"price_min": 5, "price_max": 4}, r"price_min: 5(\.0)? is above price_max, 4"),
        ({"price_min": float("nan")}, "price_min: must be .*, got nan"),
        ({"price_max": -1.0}, "price_max: must be 0 or more, got -1.0"),
        ({"price_max": float("inf")}, "price_max: must be .*, got inf"),
        ({"price_max": True}, "price_max"),
        ({"in_stock": "yes"}, "in_stock"),
        ({"categories": "shoes"}, "categories: expected a list"),
        ({"brands": [3]}, "brands"),
        ({"domains": ["\ud800"]}, "domains: .* is not text in Unicode"),
        ({"attributes": {"\udfff": ["x"]}}, "attributes: .* is not text in Unicode"),
        ({"attributes": {"colour": "red"}}, r"attributes\.colour: expected a list"),
        ({"attributes": {"colour": []}}, r"attributes\.colour: names no value"),
        ({"attributes": ["colour"]}, "attributes: expected"),
        ({"without": {"attributes": {"colour": []}}}, r"attributes\.colour: names no value"),
        ({"without": {"colours": ["red"]}}, r"where\.without: unknown key 'colours'"),
    ],
)
@pytest.mark.parametrize("made", [CatalogFilter, None])
def test_values_that_make_no_sense(fields: dict[str, Any], message: str, made: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        CatalogFilter(**fields) if made else CatalogFilter.of_dict(fields)


def test_a_filter_from_json() -> None:
    fields = {"categories": ["Shoes"], "price_max": 30, "attributes": {"colour": ["red"]}}
    made = CatalogFilter.of_dict(fields)
    assert made == CatalogFilter(
        categories=("Shoes",), price_max=30.0, attributes={"colour": ("red",)}
    )
    assert CatalogFilter.of_dict({}) == CatalogFilter()
    with pytest.raises(ConfigError, match="where: unknown key 'category'; did you mean 'cat"):
        CatalogFilter.of_dict({"category": ["Shoes"]})
    with pytest.raises(ConfigError, match="price_min: must be a number up to"):
        CatalogFilter.of_dict({"price_min": 10**400})


def test_equal_filters_are_one_key() -> None:
    def made(colour: str = "red", brand: str = "x") -> CatalogFilter:
        return CatalogFilter(brands=(brand,), attributes={"colour": (colour,), "size": ("4",)})

    assert {made(): 1}[made()] == 1
    assert len({made(), made("blue"), made(brand="y"), made()}) == 3


def test_a_filter_never_changes() -> None:
    given = {"colour": ["red"]}
    where = CatalogFilter(attributes=given)  # type: ignore[arg-type]
    given["colour"].append("blue")
    given["size"] = ["4"]
    assert where == CatalogFilter(attributes={"colour": ("red",)})
    with pytest.raises(TypeError):
        where.attributes["size"] = ("4",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        where.in_stock = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"in_stock": True}, "in_stock"),
        ({"categories": ["x"]}, "categories"),
        ({"brands": ["x"]}, "brands"),
        ({"price_max": 3}, "price_max"),
        ({"domains": ["x"]}, "domains"),
        ({"attributes": {"a": ["x"]}}, "attributes"),
    ],
)
def test_a_catalogue_without_the_column(fields: dict[str, Any], field: str) -> None:
    bare = pa.table({"item_id": ["a"], "title": ["A"]})
    assert CatalogFilter().passes(bare).tolist() == [True]
    with pytest.raises(ConfigError, match=f"{field}: the catalogue has no column"):
        CatalogFilter(**fields).passes(bare)
