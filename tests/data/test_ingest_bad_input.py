"""Bad input ends as one line that names file, row and fix, and nothing is left half-written."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError

HEADER = b"user_id,item_id,timestamp,rating\n"
GOOD = HEADER + b"u,a,1700000001,5\nu,b,1700000002,4\nu,c,1700000003,3\n"


def attempt(tmp_path: Path, name: str, content: bytes, **settings: Any) -> str:
    """Ingest a bad event file; the message, after checking that nothing was left behind."""
    path = tmp_path / name
    path.write_bytes(content)
    return failing(tmp_path, IngestConfig(events=path, **settings))


def failing(tmp_path: Path, config: IngestConfig) -> str:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError) as caught:
        run(config, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(tmp_path))
    return message


CUT = gzip.compress(GOOD * 50)[:-20]
CASES = {
    "missing column": ("log.csv", b"user_id,item,timestamp\nu,a,1\n", ["no column 'item_id'"]),
    "missing time": ("log.csv", b"user_id,item_id\nu,a\n", ["'timestamp'", "timestamp: null"]),
    "missing key": ("log.jsonl", b'{"user_id": "u", "timestamp": 1}\n', ["no column 'item_id'"]),
    "unparsable time": ("log.csv", HEADER + b"u,a,1,5\nu,b,soon,4\n", ["row 3", "'soon'"]),
    "unparsable rating": ("log.csv", HEADER + b"u,a,1,five\n", ["row 2", "'five'"]),
    "empty": ("log.csv", b"", ["is empty"]),
    "empty json": ("log.jsonl", b"", ["is empty"]),
    "empty parquet": ("log.parquet", b"", ["is empty"]),
    "empty inside gz": ("log.csv.gz", gzip.compress(b""), ["is empty"]),
    "only a header": ("log.csv", HEADER, ["holds no events"]),
    "only blank lines": ("log.jsonl", b"\n\n", ["holds no events"]),
    "cut gz": ("log.csv.gz", CUT, ["cut off", "fetch it again"]),
    "cut gz json": ("log.jsonl.gz", gzip.compress(b'{"user_id": 1}\n')[:-9], ["cut off"]),
    "not gz": ("log.csv.gz", GOOD, ["gzip", "fetch the file again"]),
    "not parquet": ("log.parquet", GOOD, ["cannot be read"]),
    "not UTF-8": ("log.csv", HEADER + b"u,a,1,5\nu\xff,b,2,4\n", ["row 3, byte 2", "UTF-8"]),
    "not UTF-8 header": ("log.csv", b"user_id,\xe9\n", ["row 1, byte 9", "UTF-8"]),
    "not UTF-8 json": ("log.jsonl", b'{"user_id": "\xff"}\n', ["row 1, byte 14", "UTF-8"]),
    "ragged": ("log.csv", HEADER + b"u,a,1,5\nu,b,2\n", ["row 3", "has 3 columns"]),
    "column twice": ("log.csv", b"user_id,user_id,item_id\n", ["row 1", "'user_id' occurs twice"]),
    "bad JSON": ("log.jsonl", b'{"user_id": "u", "item_id": "a"}\n\n{"us', ["row 3", "JSON"]),
    "no object": ("log.jsonl", b'["u", "a", 1]\n', ["row 1", "list"]),
    "unknown ending": ("log.xlsx", GOOD, [".csv"]),
}


@pytest.mark.parametrize("case", CASES)
def test_message_names_place_and_fix(tmp_path: Path, case: str) -> None:
    name, content, expected = CASES[case]
    message = attempt(tmp_path, name, content)
    for part in (name, *expected):
        assert part in message


def test_context_must_be_an_object(tmp_path: Path) -> None:
    content = b'user_id,item_id,timestamp,context\nu,a,1,"{""d"": 1}"\nu,b,2,phone\n'
    assert "row 3: context 'phone'" in attempt(tmp_path, "log.csv", content)
    deep = HEADER.strip() + b",context\nu,a,1,5," + b"[" * 100_000 + b"\n"
    message = attempt(tmp_path, "log.csv", deep)
    assert "row 2: context '[[" in message and len(message) < 300


def test_a_wrong_unit_is_noticed(tmp_path: Path) -> None:
    content = HEADER + b"u,a,1700000000000,1\n"
    message = attempt(tmp_path, "log.csv", content, timestamp_unit="s")
    assert "row 2" in message and "set timestamp_unit" in message


def test_a_broken_parquet_page_is_no_disk_error(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    rows = [{"user_id": f"u{n}", "item_id": "a", "timestamp": n} for n in range(5000)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    raw = bytearray(path.read_bytes())
    raw[8:400] = bytes(392)
    path.write_bytes(raw)
    assert "log.parquet: cannot be read" in failing(tmp_path, IngestConfig(events=path))


def test_missing_files(tmp_path: Path) -> None:
    assert "no such file" in failing(tmp_path, IngestConfig(events=tmp_path / "gone.csv"))
    config = IngestConfig(events=tmp_path / "gone", format="sequences")
    assert "no such file" in failing(tmp_path, config)
    (tmp_path / "empty").mkdir()
    assert "holds no .csv" in failing(tmp_path, IngestConfig(events=tmp_path / "empty"))


def test_a_sequence_without_items(tmp_path: Path) -> None:
    message = attempt(tmp_path, "s.txt", b"u a b\nv\n", format="sequences")
    assert "row 2: user 'v' has no items" in message


@pytest.mark.parametrize(
    "lines, expected",
    [
        (['{"item_id": "a"}', '{"item_id": "a"}'], "row 2: item_id 'a' occurs a second time"),
        (['{"item_id": "a"}', '{"title": "x"}'], "row 2: no item_id"),
        (['{"name": "a"}'], "no column 'item_id'"),
        (['{"item_id": "a", "in_stock": "perhaps"}'], "row 1: in_stock is 'perhaps'"),
        (['{"item_id": "a", "available_from": "soon"}'], "row 1: available_from is no time"),
        (['{"item_id": "a"'], "row 1: not a readable JSON object"),
        ([""], "holds no items"),
    ],
)
def test_bad_item_files(tmp_path: Path, lines: list[str], expected: str) -> None:
    (tmp_path / "log.csv").write_bytes(GOOD)
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(lines) + "\n")
    message = failing(tmp_path, IngestConfig(events=tmp_path / "log.csv", items=items))
    assert "items.jsonl" in message and expected in message


def test_unknown_items_are_skipped_and_counted_or_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(GOOD)
    items = tmp_path / "items.jsonl"
    items.write_text('{"item_id": "a", "title": "A"}\n{"item_id": "b", "price": NaN}\n')
    config = IngestConfig(events=tmp_path / "log.csv", items=items, unknown_items="error")
    assert "row 4: item 'c' is not among the items" in failing(tmp_path, config)
    counts = Dataset(run(IngestConfig(config.events, items), tmp_path / "out")).manifest.counts
    assert counts["dropped"] == {"unknown_item": 1}
    assert counts["items_without_title"] == 1 and counts["prices_unreadable"] == 1


def test_nothing_left_says_what_took_it(tmp_path: Path) -> None:
    message = attempt(tmp_path, "log.csv", GOOD, k_core=4)
    assert "no events left of 3" in message and "3 outside_core" in message
    assert "lower k_core" in message
    assert "3 low_rating" in attempt(tmp_path, "log.csv", GOOD, min_rating=9.0)


def test_global_time_needs_times(tmp_path: Path) -> None:
    log = HEADER + b"u,a,,\nu,b,,\n"
    assert "no event has a usable time" in attempt(tmp_path, "log.csv", log, split="global-time")
    one = HEADER + b"u,a,1700000007,\nv,b,1700000007,\n"
    assert "leaves no validation" in attempt(tmp_path, "log.csv", one, split="global-time")
    many = HEADER + b"u,a,1700000007,\nv,b,1700000007,\n" * 20
    settings = {"split": "global-time", "duplicates": "keep"}
    assert "leaves no train" in attempt(tmp_path, "log.csv", many, **settings)


def test_unusable_numbers_are_counted(tmp_path: Path) -> None:
    lines = [
        {"user_id": "u", "item_id": "a", "timestamp": 5, "rating": float("nan")},
        {"user_id": "u", "item_id": "b", "timestamp": -5, "rating": 1},
        {"user_id": "u", "item_id": "b", "timestamp": float("inf"), "rating": None},
        {"user_id": None, "item_id": "b", "timestamp": 7},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = IngestConfig(events=path, timestamp_unit="s", max_dropped=1)
    counts = Dataset(run(config, tmp_path / "out")).manifest.counts
    assert counts["times_unusable"] == 2 and counts["ratings_unusable"] == 1
    assert counts["dropped"] == {"no_user": 1, "no_time": 2}


def test_only_unusable_times_means_no_times(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(HEADER + b"u,b,0,\nu,a,0,\n")
    data = Dataset(run(IngestConfig(events=path), tmp_path / "out"))
    assert "order of the file" in data.manifest.counts["order"]
    assert data.train_histories()[0].tolist() == [0, 1]


def test_no_room_to_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = (f"u{n % 500},i{n % 77},{n + 1},some {n} words\n" for n in range(20_000))
    path.write_text("user_id,item_id,timestamp,text\n" + "".join(rows))
    limited = """
import resource, sys
from llmrec.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", limited, "ingest", "--events", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 2
    assert child.stderr.count("\n") == 1 and "free some space" in child.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_result_survives_a_failed_run(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(GOOD)
    run(IngestConfig(events=path), tmp_path / "out")
    path.write_bytes(GOOD + b"u,d,never,1\n")
    failing(tmp_path, IngestConfig(events=path))
    assert len(Dataset(tmp_path / "out").train_histories()[0]) == 1
