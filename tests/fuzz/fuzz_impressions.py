"""Logs of shown lists: damaged bytes and odd cells, in the three forms that are read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from damage import BYTE_EDITS, ODD_VALUES, Edit, damaged_bytes
from fuzz_ingest import FORMATS, Rows
from hypothesis import strategies as st
from judge import accepted

from llmrec.data.impression_reader import ShownLists, read_shown

USERS = {f"user{n}": n for n in range(4)}
ITEMS = {f"item{n}": n for n in range(9)}
FORMS: dict[str, Rows] = {
    "lists": [
        {"user_id": f"user{n % 4}", "timestamp": 1_700_000_000 + 60 * n,
         "items": [f"item{n % 9}", f"item{(n + 2) % 9}"], "clicked": [0, n % 2],
         "context": {"device": "phone"}}
        for n in range(12)
    ],
    "rows": [
        {"user_id": f"user{n // 3 % 4}", "timestamp": 1_700_000_000 + 60 * (n // 3),
         "impression_id": f"l{n // 3}", "item_id": f"item{n % 9}", "position": n % 3,
         "clicked": n % 2, "context": '{"device": "phone"}'}
        for n in range(24)
    ],
    "mind": [
        {"user_id": f"user{n % 4}", "timestamp": 1_700_000_000 + 60 * n,
         "impressions": f"item{n % 9}-1 item{(n + 2) % 9}-0"}
        for n in range(12)
    ],
}  # fmt: skip
SUFFIXES = {
    "lists": [".jsonl", ".json", ".parquet", ".jsonl.gz"],
    "rows": [".csv", ".tsv", ".jsonl", ".parquet"],
    "mind": [".csv", ".tsv", ".jsonl"],
}
WHERE = st.sampled_from([(form, suffix) for form, found in SUFFIXES.items() for suffix in found])


def shown(folder: Path, suffix: str, content: bytes) -> ShownLists | None:
    """The lists of a file; None where it is refused."""
    path = folder / f"log{suffix}"
    path.write_bytes(content)
    return accepted(lambda: read_shown(path, USERS, ITEMS))


BYTES = st.tuples(WHERE, BYTE_EDITS)


def check_bytes(value: tuple[tuple[str, str], Sequence[Edit]], folder: Path) -> None:
    """A log is damaged somewhere."""
    (form, suffix), edits = value
    lists = shown(folder, suffix, damaged_bytes(FORMATS[suffix](FORMS[form]), edits))
    if lists is not None:
        assert len(lists.item) == len(lists.clicked) == lists.offsets[-1]
        lists.notes()


CELLS = st.tuples(
    WHERE.filter(lambda where: where[1] != ".parquet"),
    st.integers(0, 23),
    st.integers(0, 6),
    st.sampled_from(ODD_VALUES),
)


def check_cell(value: tuple[tuple[str, str], int, int, Any], folder: Path) -> None:
    """A cell holds something odd: no list of another row changes."""
    (form, suffix), row, column, odd = value
    rows = [dict(one) for one in FORMS[form]]
    row %= len(rows)
    name = list(rows[row])[column % len(rows[row])]
    rows[row][name] = odd
    try:
        content = FORMATS[suffix](rows)
    except csv.Error:  # what this kind of file cannot hold
        return
    lists = shown(folder, suffix, content)
    if lists is None or form == "rows":
        return
    assert len(lists) in (len(rows), len(rows) - 1)
    if len(lists) == len(rows):
        whole = read_shown_whole(folder, form, suffix)
        others = [n for n in range(len(rows)) if n != row]
        assert (lists.user[others] == whole.user[others]).all()
        assert (lists.time[others] == whole.time[others]).all()


def read_shown_whole(folder: Path, form: str, suffix: str) -> ShownLists:
    """The lists of the undamaged file."""
    found = shown(folder, suffix, FORMATS[suffix](FORMS[form]))
    assert found is not None
    return found
