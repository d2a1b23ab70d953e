"""Files of items and events: damaged cells, columns of other types, damaged bytes.

Ingest refuses a file in one line, or the rows that were not touched are in the dataset as they are
in the file.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from damage import BYTE_EDITS, ODD_VALUES, Edit, damaged_bytes, nested
from hypothesis import strategies as st
from judge import accepted

from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig

Rows = list[dict[str, Any]]

ITEMS: Rows = [
    {
        "item_id": f"item{n}",
        "title": f"Thing {n}",
        "description": "It is red, and costs little.",
        "brand": "Acme",
        "categories": "Home|Red",
        "price": n + 0.75,
        "attributes": "colour=red|size=L",
        "in_stock": True,
    }
    for n in range(8)
]
EVENTS: Rows = [
    {
        "user_id": f"user{n % 6}",
        "item_id": f"item{(3 * n + n // 8) % 8}",
        "timestamp": 1_700_000_000 + 1000 * n,
        "rating": 1.0 + n % 5,
        "type": "purchase",
        "text": "Fine, thank you",
        "session": f"s{n // 3}",
        "context": '{"device": "phone"}',
    }
    for n in range(30)
]
_ITEM_FIELDS = ("item_id", "title", "description", "brand", "price")
_EVENT_FIELDS = ("user", "item", "timestamp", "rating", "type", "text", "session")


def _csv(rows: Rows, delimiter: str = ",", **form: Any) -> bytes:
    out = io.StringIO()
    names = list(rows[0])
    writer = csv.DictWriter(out, names, delimiter=delimiter, lineterminator="\n", **form)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    ".csv": _csv,
    ".tsv": lambda rows: _csv(rows, "\t", quoting=csv.QUOTE_NONE, quotechar=None),
    ".jsonl": _jsonl,
    ".json": lambda rows: json.dumps(rows).encode(),
    ".parquet": lambda rows: _parquet(pa.Table.from_pylist(rows)),
    ".csv.gz": lambda rows: gzip.compress(_csv(rows), mtime=0),
    ".jsonl.gz": lambda rows: gzip.compress(_jsonl(rows), mtime=0),
}


def ingested(folder: Path, suffix: str, items: bytes, events: bytes) -> Dataset | None:
    """The dataset of two files, all of it read; None where they are refused."""
    paths = {"items": folder / f"items{suffix}", "events": folder / f"events{suffix}"}
    paths["items"].write_bytes(items)
    paths["events"].write_bytes(events)
    settings: dict[str, Any] = {"max_dropped": 1.0, "duplicates": "keep"}
    if len(events) % 2:
        settings |= {"split": "leave-last-basket", "basket": "session"}

    def ingest() -> Dataset:
        dataset = Dataset(run(IngestConfig(**paths, **settings), folder / "dataset"))
        for index in range(dataset.n_items):
            dataset.item(index)
        cases = dataset.cases("test")
        assert len(cases.select(cases.starts).histories) == len(cases.starts)
        return dataset

    return accepted(ingest)


def events_of(dataset: Dataset) -> list[dict[str, Any]]:
    """The events as the file has them."""
    rows: list[dict[str, Any]] = dataset.events.to_pylist()
    for row in rows:
        row["user"] = dataset.all_user_ids[row["user"]]
        row["item"] = dataset.item_ids[row["item"]]
    return rows


def check_untouched(dataset: Dataset, items: Rows, events: Rows) -> None:
    """All of these are in the dataset, as they are here."""
    described = {row["item_id"]: row for row in dataset.items.to_pylist()}
    for item in items:
        found = described.get(item["item_id"])
        assert found is not None, f"{item['item_id']} is lost"
        for name in _ITEM_FIELDS:
            assert found[name] == item[name], f"{item['item_id']}: {name} is {found[name]!r}"
        assert found["categories"] == ["Home", "Red"]
    kept = Counter(tuple(row[name] for name in _EVENT_FIELDS) for row in events_of(dataset))
    for event in events:
        renamed = event | {"user": event["user_id"], "item": event["item_id"]}
        row = tuple(renamed[name] for name in _EVENT_FIELDS)
        assert kept[row], f"{row} is lost"


# --------------------------------------------------------------------------- one cell

CELLS = st.tuples(
    st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".csv.gz"]),
    st.sampled_from(["items", "events"]),
    st.integers(0, 29),
    st.integers(0, 7),
    st.sampled_from(ODD_VALUES),
)


def check_cell(value: tuple[str, str, int, int, Any], folder: Path) -> None:
    """A cell holds something odd."""
    suffix, which, row, column, odd = value
    tables = {"items": [dict(one) for one in ITEMS], "events": [dict(one) for one in EVENTS]}
    row %= len(tables[which])
    name = list(tables[which][row])[column]
    tables[which][row][name] = odd
    write = FORMATS[suffix]
    try:
        contents = {table: write(rows) for table, rows in tables.items()}
    except csv.Error:  # what cannot be written
        return
    dataset = ingested(folder, suffix, **contents)
    if dataset is None:
        return
    touched_item = ITEMS[row]["item_id"] if which == "items" else None
    items = [one for one in ITEMS if one["item_id"] != touched_item]
    events = [
        event
        for number, event in enumerate(EVENTS)
        if not (which == "events" and number == row)
        and not (name == "item_id" and event["item_id"] == touched_item)
    ]
    check_untouched(dataset, items, events)
    if which == "events" and not dataset.manifest.counts["dropped"]:
        rest = {k: v for k, v in EVENTS[row].items() if k in _EVENT_FIELDS and k != name}
        assert any(rest.items() <= event.items() for event in events_of(dataset)), rest
    if which == "items" and name == "price":
        _check_price(dataset, row, odd)


def _check_price(dataset: Dataset, row: int, written: Any) -> None:
    """A price is what it says, or none."""
    item_id = ITEMS[row]["item_id"]
    price = next(one["price"] for one in dataset.items.to_pylist() if one["item_id"] == item_id)
    meant = {"1,99": 1.99, "1.234,50": 1234.5, "٣": 3.0}.get(str(written))
    try:
        meant = float(written) if meant is None else meant
    except (TypeError, ValueError):
        meant = None
    assert price is None or price == meant, f"{written!r} became {price}"


# --------------------------------------------------------------------------- one column


def _columns(texts: list[str], numbers: list[int]) -> dict[str, Callable[[], pa.Array]]:
    """The values of a column in the types that Parquet files have."""
    days = [datetime.date(2023, 1, 1) + datetime.timedelta(n) for n in range(len(texts))]
    times = [datetime.datetime(2023, 1, 1, n % 24, n % 60) for n in range(len(texts))]
    return {
        "large_string": lambda: pa.array(texts, pa.large_string()),
        "dictionary": lambda: pa.array(texts).dictionary_encode(),
        "string_view": lambda: pa.array(texts, pa.string_view()),
        "binary": lambda: pa.array([text.encode() for text in texts]),
        "no UTF-8": lambda: pa.array([b"\xff\xfe" + text.encode() for text in texts]),
        "list": lambda: pa.array([[text] for text in texts]),
        "list of lists": lambda: pa.array([[[text]] for text in texts]),
        "fixed list": lambda: pa.array([[n, n] for n in numbers], pa.list_(pa.int32(), 2)),
        "struct": lambda: pa.array([{"a": text} for text in texts]),
        "map": lambda: pa.array(
            [[("a", text)] for text in texts], pa.map_(pa.string(), pa.string())
        ),
        "null": lambda: pa.nulls(len(texts)),
        "bool": lambda: pa.array([n % 2 == 0 for n in numbers]),
        "int8": lambda: pa.array([n % 100 for n in numbers], pa.int8()),
        "uint64": lambda: pa.array([(1 << 63) + n for n in numbers], pa.uint64()),
        "int64": lambda: pa.array([(1 << 53) + 1 + n for n in numbers], pa.int64()),
        "float16": lambda: pa.array([float(n % 100) for n in numbers], pa.float16()),
        "float64": lambda: pa.array([float(n) for n in numbers]),
        "NaN": lambda: pa.array([float("nan")] * len(texts)),
        "infinity": lambda: pa.array([float("inf")] * len(texts)),
        "decimal": lambda: pa.array([decimal.Decimal(n) for n in numbers], pa.decimal128(30, 4)),
        "date32": lambda: pa.array(days, pa.date32()),
        "date64": lambda: pa.array(days, pa.date64()),
        "time32": lambda: pa.array([n % 86_400 for n in numbers], pa.time32("s")),
        "time64": lambda: pa.array([n % 86_400 for n in numbers], pa.time64("us")),
        "timestamp": lambda: pa.array(times, pa.timestamp("us")),
        "zoned": lambda: pa.array(times, pa.timestamp("ns", "Europe/Berlin")),
        "list of times": lambda: pa.array([[time] for time in times]),
        "duration": lambda: pa.array(numbers, pa.duration("s")),
        "deep": lambda: pa.array(["[" * 20_000 for _ in texts]),
        "deep list": lambda: pa.array([nested(20) for _ in texts]),
    }


KINDS = list(_columns(["a"], [1]))
COLUMNS = st.tuples(st.sampled_from(["items", "events"]), st.integers(0, 7), st.sampled_from(KINDS))


def check_column(value: tuple[str, int, str], folder: Path) -> None:
    """A column of a Parquet file is of another type."""
    which, column, kind = value
    tables = {"items": pa.Table.from_pylist(ITEMS), "events": pa.Table.from_pylist(EVENTS)}
    table = tables[which]
    name = table.column_names[column]
    texts = [str(text) for text in table[name].to_pylist()]
    numbers = [int(1_700_000_000 + n) for n in range(len(texts))]
    tables[which] = table.set_column(column, name, _columns(texts, numbers)[kind]())
    dataset = ingested(folder, ".parquet", *(_parquet(one) for one in tables.values()))
    if dataset is None:
        return
    counts = dataset.manifest.counts
    assert counts["events_read"] == len(EVENTS)
    if counts["dropped"]:
        return
    names = [field for field in _EVENT_FIELDS if not field.startswith(name.removesuffix("_id"))]
    if which == "items":
        names = [field for field in names if field != "item"]
    expected = (event | {"user": event["user_id"], "item": event["item_id"]} for event in EVENTS)
    found = Counter(tuple(row[n] for n in names) for row in events_of(dataset))
    assert found == Counter(tuple(row[n] for n in names) for row in expected)


# --------------------------------------------------------------------------- bytes

BYTES = st.tuples(st.sampled_from(list(FORMATS)), st.sampled_from(["items", "events"]), BYTE_EDITS)


def check_bytes(value: tuple[str, str, list[Edit]], folder: Path) -> None:
    """A file is damaged somewhere."""
    suffix, which, edits = value
    contents = {"items": FORMATS[suffix](ITEMS), "events": FORMATS[suffix](EVENTS)}
    before = contents[which]
    contents[which] = damaged_bytes(before, edits)
    dataset = ingested(folder, suffix, **contents)
    if dataset is None or suffix not in (".csv", ".tsv", ".jsonl"):
        return
    lines = before.splitlines(keepends=True)
    kept = contents[which].split(b"\n")
    if suffix == ".csv" and contents[which].count(b'"') != before.count(b'"'):
        return  # a quote takes in what follows it
    first = 0 if suffix == ".jsonl" else 1
    if first and kept[0] + b"\n" != lines[0]:
        return  # other names of columns
    rows = {"items": ITEMS, "events": EVENTS}[which]
    whole = Counter(line + b"\n" for line in kept[:-1])
    same = [row for row, line in zip(rows, lines[first:], strict=True) if whole[line] == 1]
    items = same if which == "items" else ITEMS
    known = {item["item_id"] for item in items}
    events = same if which == "events" else EVENTS
    check_untouched(dataset, items, [event for event in events if event["item_id"] in known])


# --------------------------------------------------------------------------- published forms

_FILMS = b"movieId,title,genres\n" + b"".join(
    f"{n},Film {n} ({1990 + n}),Comedy|Drama\n".encode() for n in range(1, 8)
)
_RATINGS = b"userId,movieId,rating,timestamp\n" + b"".join(
    f"{1 + n % 4},{1 + n % 7},{1 + n % 5},{1_500_000_000 + n}\n".encode() for n in range(24)
)
_REVIEWS = _jsonl(
    [
        {"user_id": f"u{n % 4}", "parent_asin": f"B{n % 5}", "asin": f"B{n % 5}", "rating": 4.0,
         "timestamp": 1_600_000_000_000 + n, "title": "good", "text": "very good"}
        for n in range(20)
    ]
)  # fmt: skip
_METADATA = _jsonl(
    [
        {"parent_asin": f"B{n}", "title": f"Thing {n}", "price": "9.99", "categories": ["Home"],
         "description": ["red"], "features": [], "details": {"Brand": "Acme"}, "store": "Acme",
         "images": [{"large": "https://shop.example/1.jpg"}]}
        for n in range(5)
    ]
)  # fmt: skip
_SEQUENCES = "".join(
    f"u{n} " + " ".join(f"i{(n + k) % 6}" for k in range(5)) + "\n" for n in range(6)
)
_RECBOLE = {
    "shop.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    + "".join(f"u{n % 4}\ti{n % 5}\t{1 + n % 5}\t{1_500_000_000 + n}\n" for n in range(20)),
    "shop.item": "item_id:token\ttitle:token_seq\n"
    + "".join(f"i{n}\tThing {n}\n" for n in range(5)),
}
PUBLISHED: dict[str, dict[str, bytes]] = {
    "movielens": {"ratings.csv": _RATINGS, "movies.csv": _FILMS},
    "sequences": {"events.txt": _SEQUENCES.encode(), "items.jsonl": _jsonl([{"item_id": "i1"}])},
    "amazon-2023": {"events.jsonl": _REVIEWS, "items.jsonl": _METADATA},
    "recbole": {name: text.encode() for name, text in _RECBOLE.items()},
}
FORMS = st.tuples(st.sampled_from(list(PUBLISHED)), st.integers(0, 1), BYTE_EDITS)


def check_form(value: tuple[str, int, list[Edit]], folder: Path) -> None:
    """A file of a published form is damaged somewhere."""
    form, number, edits = value
    raw = folder / "raw" / "shop"
    raw.mkdir(parents=True)
    files = dict(PUBLISHED[form])
    damaged = list(files)[number]
    files[damaged] = damaged_bytes(files[damaged], edits)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    named = [path for path in sorted(raw.iterdir()) if path.stem in ("events", "items")]
    paths = {path.stem: path for path in named} or {"events": raw}
    config = IngestConfig(**paths, format=form, max_dropped=1.0)  # type: ignore[arg-type]
    accepted(lambda: run(config, folder / "dataset"))
