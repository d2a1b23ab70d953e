"""Logs of shown lists in every form: the same lists come out, and a wrong row is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.impression_reader import LogFormat, ShownLists, read_shown
from llmrec.data.reading import ReadingOptions
from llmrec.errors import ConfigError, DataError

USERS, ITEMS = {"7": 0, "8": 1}, {"10": 0, "11": 1, "12": 2}
T = 1_700_000_000
LISTS = [  # user, time, items, clicked, context
    (7, T, [10, 12], [0, 1], {"device": "phone"}),
    (8, T + 60, [12, 11, 10], [0, 0, 0], {}),
    (9, T + 120, [11, 99], [1, 0], {"device": "desk"}),
]
ROWS = [  # a row a shown item: user, time, item, clicked, list, position
    (user, time, item, flag, f"L{number}", position)
    for number, (user, time, items, clicked, _) in enumerate(LISTS)
    for position, (item, flag) in enumerate(zip(items, clicked, strict=True), 1)
]


def read(path: Path, **format: Any) -> ShownLists:
    return read_shown(path, USERS, ITEMS, LogFormat(**format))


def plain(lists: ShownLists) -> list[tuple[Any, ...]]:
    """Each list as one tuple: user, time, items, clicks, positions."""
    bounds = zip(lists.offsets[:-1], lists.offsets[1:], strict=True)
    return [
        (
            int(lists.user[number]),
            float(lists.time[number]),
            lists.item[start:end].tolist(),
            lists.clicked[start:end].tolist(),
            lists.position[start:end].tolist(),
        )
        for number, (start, end) in enumerate(bounds)
    ]


EXPECTED = [
    (0, T, [0, 2], [0, 1], [0, 1]),
    (1, T + 60, [2, 1, 0], [0, 0, 0], [0, 1, 2]),
    (-1, T + 120, [1, -1], [1, 0], [0, 1]),
]


def as_lists(**changes: Any) -> list[dict[str, Any]]:
    rows = [
        {"user_id": user, "timestamp": time, "items": items, "clicked": clicked, "context": context}
        for user, time, items, clicked, context in LISTS
    ]
    return [row | {name: change(row[name]) for name, change in changes.items()} for row in rows]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(values: list[int]) -> list[str]:
    return [str(value) for value in values]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"user_id": str, "items": texts},
        {"user_id": float, "items": lambda items: [float(item) for item in items]},
        {"clicked": lambda flags: [bool(flag) for flag in flags]},
        {"timestamp": lambda time: time * 1000},
        {"timestamp": lambda time: np.datetime_as_string(np.datetime64(time, "s")) + "Z"},
        {"context": json.dumps},
        {"items": json.dumps, "clicked": json.dumps},
    ],
)
def test_a_row_a_list_however_its_values_are_written(tmp_path: Path, changes: Any) -> None:
    lists = read(jsonl(tmp_path / "log.jsonl", as_lists(**changes)))
    assert plain(lists) == EXPECTED
    assert [json.loads(text) for text in lists.contexts] == [row[4] for row in LISTS]
    assert lists.counts == {
        "lists": 3,
        "shown": 7,
        "lists_of_unknown_users": 1,
        "unknown_users": 1,
        "shown_unknown_items": 1,
        "unknown_items": 1,
    }
    assert lists.notes() == [
        "1 of 3 lists are of users who are not in the dataset ('9' 1)",
        "1 of 7 shown items are not in the catalogue ('99' 1)",
    ]


def test_kinds_of_file(tmp_path: Path) -> None:
    rows = as_lists()
    text = jsonl(tmp_path / "a.jsonl", rows).read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text))
    (tmp_path / "c.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    (tmp_path / "d.json").write_text(json.dumps(rows))
    # Parquet has no empty mapping: every context gets the key
    struct = [row | {"context": {"device": row["context"].get("device")}} for row in rows]
    pq.write_table(pa.Table.from_pylist(struct), tmp_path / "e.parquet")
    cells = [[str(r["user_id"]), str(r["timestamp"]), f'"{r["items"]}"', f'"{r["clicked"]}"']
             for r in rows]  # fmt: skip
    lines = [["user_id", "timestamp", "items", "clicked"], *cells]
    (tmp_path / "f.csv").write_text("\n".join(map(",".join, lines)))
    for path in sorted(tmp_path.iterdir()):
        assert plain(read(path)) == EXPECTED, path.name


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("named", [True, False])
def test_a_row_a_shown_item(tmp_path: Path, ending: str, named: bool) -> None:
    """In any order, where it has positions and says which rows belong together."""
    names = ["user_id", "timestamp", "item_id", "clicked", "impression_id", "position"]
    rows = [ROWS[at] for at in (1, 0, 2, 4, 3, 6, 5)] if named else ROWS
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(names)})
    if not named:
        table = table.drop_columns(["impression_id", "position"])
    path = tmp_path / f"log.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        lines = [",".join(map(str, row.values())) for row in table.to_pylist()]
        path.write_text("\n".join([",".join(table.column_names), *lines]))
    unknown = [(*one[:4], [-1] * len(one[2])) for one in EXPECTED]
    assert plain(read(path)) == (EXPECTED if named else unknown)


def test_rows_of_two_users_are_never_one_list(tmp_path: Path) -> None:
    """Nor are those of people without a name, unless an id holds them together."""
    head = "user_id,timestamp,item_id,clicked,impression_id\n"
    rows = [f"7,{T},10,0,s", f"8,{T},11,0,s", f",{T},12,1,t", f"NA,{T},10,0,t"]
    (tmp_path / "log.csv").write_text(head + "\n".join(rows))
    assert [one[2] for one in plain(read(tmp_path / "log.csv"))] == [[0], [1], [2, 0]]
    (tmp_path / "log.csv").write_text(head.replace(",impression_id", "") + "\n".join(
        row.rpartition(",")[0] for row in rows
    ))  # fmt: skip
    assert [one[2] for one in plain(read(tmp_path / "log.csv"))] == [[0], [1], [2], [0]]


def test_what_stands_for_missing_may_be_said(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,timestamp,item_id,clicked\nNA,{T},10,0\nNA,{T},11,1\n")
    assert len(read(path)) == 2
    named = read_shown(path, {"NA": 3}, ITEMS, LogFormat(reading=ReadingOptions(missing=[])))
    assert named.user.tolist() == [3] and named.item.tolist() == [0, 1]


def test_mind(tmp_path: Path) -> None:
    path = tmp_path / "behaviors.tsv"
    path.write_text(
        "1\tU7\t11/14/2023 10:13:20 PM\tN3 N4\tN1-0 N-2-1\n2\tU8\t11/14/2023 10:14:20 PM\t\tN9-0\n"
    )
    lists = read_shown(
        path,
        {"U7": 0, "U8": 1},
        {"N1": 0, "N-2": 1},
        LogFormat(
            columns={"user_id": "2", "timestamp": "3", "impressions": "5"},
            reading=ReadingOptions(header=False),
            timestamp_format="%m/%d/%Y %I:%M:%S %p",
        ),
    )
    assert plain(lists) == [
        (0, T, [0, 1], [0, 1], [0, 1]),
        (1, T + 60, [-1], [0], [0]),
    ]


def test_an_item_that_stands_twice_in_a_list_counts_once_with_its_click(tmp_path: Path) -> None:
    rows = as_lists(items=lambda items: [10, 11, 10][: len(items)])
    rows[1]["clicked"] = [0, 0, 1]
    found = plain(read(jsonl(tmp_path / "log.jsonl", rows[1:2])))
    assert found == [(1, T + 60, [0, 1, -1], [1, 0, 1], [0, 1, 2])]


def test_columns_by_other_names_and_as_the_context(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"who;at;what;hit;device;plan\n7;{T};10;true;phone;\n8;{T};11;0;;gold\n")
    names = {"user_id": "who", "timestamp": "at", "item_id": "what", "clicked": "hit"}
    lists = read(path, columns=names, context_columns=["device", "plan"])
    assert lists.clicked.tolist() == [1, 0]
    assert lists.contexts == ['{"device": "phone"}', '{"plan": "gold"}']
    with pytest.raises(ConfigError, match="columns: 'usr' is not one of user_id, timestamp"):
        LogFormat(columns={"usr": "who"})
    with pytest.raises(DataError, match="no column 'hits'"):
        read(path, columns=names | {"clicked": "hits"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": lambda _: "phone"}, "row 1: context 'phone' is not a JSON object"),
        ({"context": lambda _: ["phone"]}, r"row 1: context '\[\"phone\"\]' is not a JSON object"),
        ({"items": lambda _: "a b"}, "row 1: items 'a b' is no list"),
        ({"clicked": lambda _: [1]}, "row 1: 2 items and 1 clicked"),
        ({"clicked": lambda flags: [2] * len(flags)}, "row 1: clicked '2' is neither 0 nor 1"),
        ({"clicked": lambda flags: [None] * len(flags)}, "row 1: clicked 'None' is neither"),
        ({"timestamp": lambda _: "noon"}, "row 1: timestamp 'noon' is not a time"),
        ({"timestamp": lambda _: 20}, "timestamp '20' lies before 1990, as 3 of 3 do"),
        ({"items": lambda _: None}, "row 1: has .*; give every row a list"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(jsonl(tmp_path / "log.jsonl", as_lists(**changes)))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"7,{T},10,0,top", "row 2: position 'top' is none"),
        (f"7,{T},10,0,-1", "row 2: position '-1' is none"),
        (f"7,{T},10,maybe,1", "row 2: clicked 'maybe' is neither"),
        ("\n".join([f"7,{T},10,0,"] * 1001), "1001 items were shown to user '7' at once"),
    ],
)
def test_a_wrong_shown_item_is_named(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,timestamp,item_id,clicked,position\n{row}\n")
    with pytest.raises(DataError, match=said):
        read(path)
