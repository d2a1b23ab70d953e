"""A file about users: read, checked, kept beside the users of the log."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.cohorts import run as cohorts
from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.reading import ReadingOptions
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError

T = 1_700_000_000
EVENTS = "user_id,item_id,timestamp\n" + "".join(
    f"{user},i{n},{T + n}\n" for n, user in enumerate([3, 1, 2, 3, 1, 2])
)
ROWS = [
    {"user_id": 2, "age": 34, "gender": "f", "place": None, "membership": "gold"},
    {"user_id": 3, "age": None, "gender": "m", "place": "Oslo", "membership": "NA"},
    {"user_id": 9, "age": 51, "gender": "f", "place": "Rome", "membership": "basic"},
]
KNOWN = [  # of users 3, 1, 2
    {"gender": "m", "place": "Oslo"},
    {},
    {"age": "34", "gender": "f", "membership": "gold"},
]


def ingest(tmp_path: Path, users: Path, **settings: Any) -> Dataset:
    (tmp_path / "events.csv").write_text(EVENTS)
    config = IngestConfig(events=tmp_path / "events.csv", users=users, **settings)
    return Dataset(run(config, tmp_path / "out"))


def csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    path.write_text("\n".join([",".join(rows[0]), *lines]))
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_is_known_of_users_stands_beside_them(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"users.{ending}"
    if ending == "csv":
        csv(path, ROWS)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    data = ingest(tmp_path, path)
    assert data.user_ids == ["3", "1", "2"] and data.user_attributes == KNOWN
    assert data.users["attributes"].to_pylist()[2] == ["age=34", "gender=f", "membership=gold"]
    counts = data.manifest.counts
    names = ("users_not_in_log", "users_not_described", "users_without_id")
    assert [counts[name] for name in names] == [1, 1, 0]
    assert str(path) in data.manifest.inputs


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(EVENTS)
    data = Dataset(run(IngestConfig(events=tmp_path / "events.csv"), tmp_path / "out"))
    assert data.users.column_names == ["user_id"] and data.user_attributes == [{}, {}, {}]


def test_other_columns_are_kept_when_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "customers.txt"
    path.write_text("no|town|e-mail|plan\n2.0|Rome|x@example.org|a=b\n")
    names = {"user_id": "no", "place": "town", "pl=an": "plan"}
    data = ingest(tmp_path, path, user_columns=names, user_reading=ReadingOptions(delimiter="|"))
    assert data.user_attributes == [{}, {}, {"place": "Rome", "pl_an": "a=b"}]


def test_rows_without_an_identifier_are_counted(tmp_path: Path) -> None:
    rows = [*ROWS, {**ROWS[0], "user_id": None}, {**ROWS[0], "user_id": "NULL"}]
    data = ingest(tmp_path, csv(tmp_path / "users.csv", rows))
    assert data.user_attributes == KNOWN
    assert data.manifest.counts["users_without_id"] == 2
    rows = [{**ROWS[0], "place": "-"}, {**ROWS[0], "user_id": "-"}]
    missing = ReadingOptions(missing=["-"])
    data = ingest(tmp_path, csv(tmp_path / "users.csv", rows), user_reading=missing)
    assert data.user_attributes == [{}, {}, KNOWN[2]]
    assert data.manifest.counts["users_without_id"] == 1


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([ROWS[0], ROWS[1], ROWS[0]], {}, "row 4: user_id '2' occurs a second time"),
        ([ROWS[2], ROWS[2]], {}, "row 3: user_id '9' occurs a second time"),
        ([ROWS[2]], {}, "none of the 1 users described, such as '9', is in the log.*'3'"),
        ([{"user_id": 2, "plan": "a"}], {}, "nothing is known of any user.*user_columns"),
        (ROWS, {"user_columns": {"user_id": "id"}}, "no column 'id'.*correct user_columns"),
        (ROWS, {"user_columns": {"plan": "tariff"}}, "no column 'tariff'.*correct user_columns"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        ingest(tmp_path, csv(tmp_path / "users.csv", rows), **settings)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        ingest(tmp_path, tmp_path / "nowhere.csv")


def test_a_cohort_keeps_what_is_known_of_its_users(tmp_path: Path) -> None:
    data = ingest(tmp_path, csv(tmp_path / "users.csv", ROWS))
    older, newest = cohorts(data.folder, tmp_path / "parts", 0.34)
    assert Dataset(older).user_attributes == KNOWN[:2]
    assert Dataset(newest).user_attributes == KNOWN[2:]
