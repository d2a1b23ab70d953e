"""Amazon's three published shapes, in records written like theirs."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError

META_2014 = (
    "{'asin': 'B1', 'title': 'Lip &amp; Cheek', 'price': 6.99, 'imUrl': 'http://x.org/1.jpg', "
    "'related': {'also_bought': ['B2']}, 'salesRank': {'Beauty': 7}, 'brand': \"L'Or\", "
    "'description': 'It\\'s red', 'categories': [['Beauty', 'Makeup'], ['Beauty', 'Gifts']]}"
)
META_2018 = {
    "asin": "B1",
    "title": "Lip &amp; Cheek",
    "price": "$1,006.99",
    "brand": "L'Or",
    "description": ["It's", "red"],
    "category": ["Beauty", "Makeup", "Gifts"],
    "main_cat": "All Beauty",
    "imageURLHighRes": ["http://x.org/1.jpg"],
}
META_2023 = {
    "parent_asin": "B1",
    "title": "Lip & Cheek",
    "price": 6.99,
    "store": "Store",
    "average_rating": 4.8,
    "features": ["red"],
    "description": [],
    "categories": ["Beauty", "Makeup", "Gifts"],
    "details": {"Brand": "L'Or", "Color": "Red", "Best Sellers Rank": {"Beauty": 7}},
    "images": [{"thumb": "t", "large": "http://x.org/1.jpg", "hi_res": None}],
    "videos": [{"title": "v", "url": "http://x.org/1.mp4"}],
    "main_category": "All Beauty",
}


def old_review(user: str, item: str, when: int) -> dict[str, Any]:
    return {
        "reviewerID": user,
        "asin": item,
        "overall": 4.0,
        "summary": "Nice",
        "reviewText": "Very red",
        "unixReviewTime": when,
    }


def new_review(user: str, item: str, when: int) -> dict[str, Any]:
    return {
        "user_id": user,
        "parent_asin": item,
        "asin": item + "-variant",
        "rating": 4.0,
        "title": "Nice",
        "text": "Very red",
        "timestamp": when * 1000,
    }


def ingest(tmp_path: Path, year: str, meta: list[Any], **settings: Any) -> Dataset:
    review = new_review if year == "2023" else old_review
    lines = [review(*e) for e in (("u", "B1", 1_390_000_000), ("u", "B3", 1_380_000_000))]
    events, items = tmp_path / "reviews.json.gz", tmp_path / "meta.json.gz"
    events.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    texts = [m if isinstance(m, str) else json.dumps(m) for m in meta]
    items.write_bytes(gzip.compress("\n".join(texts).encode()))
    config = IngestConfig(events=events, items=items, format=f"amazon-{year}", **settings)
    return Dataset(run(config, tmp_path / "out"))


@pytest.mark.parametrize(
    "year, meta", [("2014", META_2014), ("2018", META_2018), ("2023", META_2023)]
)
def test_every_year_in_our_fields(tmp_path: Path, year: str, meta: Any) -> None:
    key = "parent_asin" if year == "2023" else "asin"
    data = ingest(tmp_path, year, [{key: "unseen", "title": "?"}, meta, {key: "B3"}])
    assert data.item_ids == ["B1", "B3"]  # what nobody reviewed is no row
    item = data.item(0)
    assert (item.title, item.brand) == ("Lip & Cheek", "L'Or")
    assert item.categories == ("Beauty", "Makeup", "Gifts")
    assert item.description == ("red" if year == "2023" else "It's red")
    assert item.price == (1006.99 if year == "2018" else 6.99)
    assert item.image == "http://x.org/1.jpg"
    assert item.video == ("http://x.org/1.mp4" if year == "2023" else None)
    assert (
        item.attributes
        == {
            "2014": {},
            "2018": {"main_category": "All Beauty"},
            "2023": {"main_category": "All Beauty", "Brand": "L'Or", "Color": "Red"},
        }[year]
    )
    first, last = pq.read_table(data.folder / "events.parquet").to_pylist()
    assert (first["item"], first["timestamp"], last["timestamp"]) == (1, 1.38e9, 1.39e9)
    assert (last["text"], last["rating"], last["type"]) == ("Nice\nVery red", 4.0, "review")


def test_repeated_products_keep_the_first(tmp_path: Path) -> None:
    again = {**META_2018, "title": "Other"}
    data = ingest(tmp_path, "2018", [META_2018, again, {"asin": "B3"}])
    assert data.item(0).title == "Lip & Cheek"
    assert data.manifest.counts["items_repeated"] == 1
    with pytest.raises(DataError, match=r"meta\.json\.gz: row 2: item_id 'B1' occurs a second"):
        ingest(tmp_path, "2018", [META_2018, again], duplicate_items="error")


def test_reviews_of_products_without_metadata(tmp_path: Path) -> None:
    data = ingest(tmp_path, "2014", [META_2014])
    assert data.manifest.counts["dropped"] == {"unknown_item": 1}
    data = ingest(tmp_path, "2014", [META_2014], unknown_items="add")
    assert data.item_ids == ["B1", "B3"]


@pytest.mark.parametrize("price, expected", [("None", None), ("—", None), (None, None), ("5", 5)])
def test_prices_that_2023_writes(tmp_path: Path, price: Any, expected: float | None) -> None:
    data = ingest(tmp_path, "2023", [{**META_2023, "price": price}])
    assert data.item(0).price == expected
    assert data.manifest.counts["prices_unreadable"] == 0


def test_the_wrong_year_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: no 'parent_asin', which amazon-2023 has"):
        ingest(tmp_path, "2023", [META_2018])


def test_metadata_that_is_neither_literal_nor_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"meta\.json\.gz: row 2: not a readable JSON object"):
        ingest(tmp_path, "2014", [META_2014, "{'asin': __import__('os')}"])


def test_half_a_surrogate_pair_does_not_stop_it(tmp_path: Path) -> None:
    line = json.dumps({**META_2018, "title": "Lip \ud83d"})
    data = ingest(tmp_path, "2018", [line])
    assert data.item(0).title == "Lip ?"


def test_a_product_of_another_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"meta\.json\.gz: row 1: not a product as amazon-2023"):
        ingest(tmp_path, "2023", [{**META_2023, "details": "{half"}])
