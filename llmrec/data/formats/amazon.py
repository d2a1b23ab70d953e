"""Amazon review data as published in 2014, 2018 and 2023, in our fields.

2014: reviews are JSON lines, metadata lines are Python literals. 2018: JSON lines both. 2023:
JSON lines, items named by ``parent_asin``, times in milliseconds. Averages over all reviews
(``average_rating``, ``rating_number``, ``salesRank``) know the future and are left out.
Source: https://cseweb.ucsd.edu/~jmcauley/datasets.html and https://amazon-reviews-2023.github.io
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.reading import Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import Download, RawItem, Source
from llmrec.data.values import parse_literal
from llmrec.errors import DataError
from llmrec.parsing import parse_json

DOWNLOADS = {
    "amazon-2014": Download(
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        ("reviews_{}_5.json.gz", "meta_{}.json.gz"),
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    ),
    "amazon-2023": Download(
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw",
        ("review_categories/{}.jsonl.gz", "meta_categories/meta_{}.jsonl.gz"),
        "https://amazon-reviews-2023.github.io",
    ),
}

_EVENT_KEYS = {  # user, item, time, rating, headline, body
    "2014": ("reviewerID", "asin", "unixReviewTime", "overall", "summary", "reviewText"),
    "2018": ("reviewerID", "asin", "unixReviewTime", "overall", "summary", "reviewText"),
    "2023": ("user_id", "parent_asin", "timestamp", "rating", "title", "text"),
}
_DETAILS = 20  # attributes an item at most


def open_source(config: IngestConfig) -> Source:
    """Reviews and product metadata of the year in the format's name.

    Items are limited to those with events and may be listed twice, as the published files are.

    Raises:
        DataError: if a file is missing.
    """
    year = config.format.removeprefix("amazon-")
    names = ("user_id", "item_id", "timestamp", "rating", "text")
    item_reading, event_reading = Reading(config.item_reading), Reading(config.event_reading)
    return Source.of_files(
        config.items,
        config.events,
        lambda path: _items(path, year, item_reading),
        lambda path: raw_files.packed(path, _events(path, year, event_reading), names),
        item_reading=item_reading,
        event_reading=event_reading,
        default_type="review",
        duplicate_items="first",
        drop_unseen_items=True,
    )


def _events(path: Path, year: str, reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    user, item, time, rating, headline, body = _EVENT_KEYS[year]
    for number, (row, review) in enumerate(raw_files.json_rows(path, reading=reading)):
        if number == 0:
            _check_shape(path, row, review, (user, item, time), year)
        texts = [_plain(review.get(key)) for key in (headline, body)]
        yield (
            row,
            {
                "user_id": review.get(user),
                "item_id": review.get(item),
                "timestamp": review.get(time),
                "rating": review.get(rating),
                "text": "\n".join(filter(None, texts)) or None,
            },
        )


def _items(path: Path, year: str, reading: Reading) -> Iterator[RawItem]:
    key = "parent_asin" if year == "2023" else "asin"
    fields = _item_2023 if year == "2023" else _item_2014_2018
    # metadata lines of 2014 are Python literals, in some mirrors JSON
    parse = parse_literal if year == "2014" else parse_json
    for number, (row, record) in enumerate(raw_files.json_rows(path, parse, reading)):
        if number == 0:
            _check_shape(path, row, record, (key,), year)
        try:
            ours = fields(record)
        except (ValueError, TypeError, AttributeError) as error:
            reading.skip(
                DataError(
                    f"{path}: row {row}: not a product as amazon-{year} has them ({error}); "
                    "fix or remove the line"
                )
            )
            continue
        yield RawItem(path, row, {"item_id": record.get(key), **ours})


def _check_shape(
    path: Path, row: int, record: dict[str, Any], keys: tuple[str, ...], year: str
) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise DataError(
            f"{path}: row {row}: no {missing[0]!r}, which amazon-{year} has; "
            "choose the format of the year the file was published"
        )


def _item_2014_2018(record: dict[str, Any]) -> dict[str, Any]:
    images = _first(record, "imageURLHighRes", "imageURL", "image", "imUrl")
    return {
        "title": _plain(record.get("title")),
        "description": _plain(_first(record, "description", "feature")),
        "brand": _plain(record.get("brand")).removeprefix("by ").strip(),
        "categories": _plain_list(_first(record, "categories", "category")),
        "price": record.get("price"),
        "attributes": {"main_category": _plain(record.get("main_cat"))},
        "image": images[0] if isinstance(images, list) else images,
    }


def _item_2023(record: dict[str, Any]) -> dict[str, Any]:
    details = record.get("details") or {}
    if isinstance(details, str):  # some mirrors hold it as JSON text
        details = parse_json(details)
    brand = details.get("Brand") or record.get("store")
    price = record.get("price")
    attributes = {"main_category": record.get("main_category"), **details}
    plain = {k: _plain(v) for k, v in attributes.items() if not isinstance(v, dict | list)}
    return {
        "title": _plain(record.get("title")),
        "description": _plain(_first(record, "description", "features")),
        "brand": _plain(brand),
        "categories": _plain_list(record.get("categories")),
        "price": None if price in ("None", "—") else price,
        "attributes": dict(list(plain.items())[:_DETAILS]),
        "image": _url(record.get("images"), ("hi_res", "large", "thumb")),
        "video": _url(record.get("videos"), ("url",)),
    }


def _url(media: Any, keys: tuple[str, ...]) -> str | None:
    """The first address in a list of dicts, or in the dict of lists that some mirrors have."""
    if isinstance(media, dict):
        media = [{key: (media.get(key) or [None])[0] for key in keys}]
    for entry in media or []:
        for key in keys:
            if entry.get(key):
                return entry[key]
    return None


def _first(record: dict[str, Any], *keys: str) -> Any:
    """The first value that is not empty."""
    return next((record[key] for key in keys if record.get(key)), None)


def _plain(value: Any) -> str:
    """Text with HTML entities resolved and white space made single."""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return " ".join(html.unescape(str(value)).split()) if value is not None else ""


def _plain_list(value: Any) -> list[Any]:
    """Category names, nested as the 2014 files have them, with HTML entities resolved."""
    if isinstance(value, list):
        return [_plain_list(entry) if isinstance(entry, list) else _plain(entry) for entry in value]
    return [] if value is None else [_plain(value)]
