"""From raw files to a dataset folder: every format, filter and split, and what survives a kill."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.cli import run_command
from llmrec.config import build
from llmrec.data.dataset import OTHER_TYPE, Dataset
from llmrec.data.ingest import run
from llmrec.data.reading import ReadingOptions
from llmrec.data.settings import IngestConfig
from llmrec.errors import ConfigError

ITEMS = [{"item_id": f"i{n}", "title": f"Item {n}"} for n in range(5)]


def ingest(tmp_path: Path, events: Any, items: Any = None, **settings: Any) -> Dataset:
    """Write JSON lines, ingest them, open the result."""
    paths = {"events": tmp_path / "events.jsonl"}
    paths["events"].write_text("".join(json.dumps(e) + "\n" for e in events))
    if items is not None:
        paths["items"] = tmp_path / "items.jsonl"
        paths["items"].write_text("".join(json.dumps(i) + "\n" for i in items))
    seed = settings.pop("seed", 0)
    settings.setdefault("timestamp_unit", "s")  # times of these logs are small numbers
    return Dataset(run(IngestConfig(**paths, **settings), tmp_path / "out", seed))


def event(user: str, item: str, when: Any = 1, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "timestamp": when, **more}


def table(dataset: Dataset) -> list[dict[str, Any]]:
    return dataset.sequence_events.to_pylist()


def sequences(dataset: Dataset) -> dict[str, list[str]]:
    """Item ids of every user, in the order written."""
    found: dict[str, list[str]] = {user: [] for user in dataset.user_ids}
    for row in table(dataset):
        found[dataset.user_ids[row["user"]]].append(dataset.item_ids[row["item"]])
    return found


def test_identity_mapping_keeps_every_field(tmp_path: Path) -> None:
    item = {
        "item_id": "i0",
        "title": "Blue mug",
        "description": "Holds tea.",
        "brand": "Cup & Co",
        "categories": ["kitchen", "mugs"],
        "price": 7.5,
        "attributes": {"colour": "blue", "formula": "a=b"},
        "image": "images/i0.png",
        "video": "https://example.org/i0.mp4",
        "in_stock": False,
        "domain": "home",
        "available_from": "2023-11-14T22:13:20Z",
    }
    bought = event(
        "u", "i0", 1_700_000_000, type="purchase", rating=4.5, text="good\nmug", session="s1"
    )
    bought["context"] = {"device": "phone"}
    seen = event("u", "i1", "2023-11-01T00:00:00Z", type="view")
    data = ingest(tmp_path, [bought, seen], [item, {"item_id": "i1"}], timestamp_unit="auto")
    mug = data.item(0)
    assert mug.image == str(tmp_path / "images" / "i0.png")
    assert mug.audio is None and mug.in_stock is False and mug.price == 7.5
    assert mug.categories == ("kitchen", "mugs")
    assert mug.attributes == {"colour": "blue", "formula": "a=b"}
    assert (mug.title, mug.brand, mug.domain) == ("Blue mug", "Cup & Co", "home")
    assert mug.video == "https://example.org/i0.mp4"
    assert (mug.available_from, data.item(1).available_from) == (1_700_000_000.0, None)
    assert data.item(1).title == "" and data.item(1).in_stock is True
    assert data.manifest.counts["items_without_title"] == 1
    first, last = table(data)
    assert (first["type"], first["rating"], first["text"]) == ("view", None, "")
    assert last == {
        "user": 0,
        "item": 0,
        "type": "purchase",
        "timestamp": 1.7e9,
        "rating": 4.5,
        "text": "good\nmug",
        "session": "s1",
        "context": '{"device": "phone"}',
        "split": 0,
    }


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl.gz", "parquet"])
def test_mapped_columns_in_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    rows = [
        {
            "who": 7,
            "what": "a",
            "at": 100,
            "how": "buy",
            "said": 'two\nlines, "quoted"',
            "dev": "x",
        },
        {"who": 7, "what": "b", "at": 50, "how": "buy", "said": "", "dev": ""},
        {"who": 8, "what": "a", "at": 60, "how": "look", "said": "é", "dev": "y"},
    ]
    events = tmp_path / f"log.{ending}"
    separator = "\t" if ending == "tsv" else ","
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), events)
    else:
        if ending == "jsonl.gz":
            text = "".join(json.dumps(r) + "\n" for r in rows)
        else:
            cells = [[str(v).replace('"', '""') for v in r.values()] for r in rows]
            lines = [separator.join(rows[0])]
            text = "\n".join(lines + [separator.join(f'"{c}"' for c in r) for r in cells]) + "\n"
        raw = text.encode()
        events.write_bytes(gzip.compress(raw) if ending.endswith(".gz") else raw)
    items = tmp_path / "items.csv"
    items.write_text("sku,name,cats,cost,tint\na,Apple,fruit|red,1.5,red\nb,Bread,,cheap,\n")
    config = IngestConfig(
        events=events,
        items=items,
        item_columns={"item_id": "sku", "title": "name", "categories": "cats", "price": "cost"},
        event_columns={
            **{"user_id": "who", "item_id": "what", "timestamp": "at"},
            **{"type": "how", "text": "said"},
        },
        attribute_columns=["tint"],
        event_reading=ReadingOptions(quote='"'),  # which .tsv has not by itself
        context_columns=["dev"],
        type_names={"buy": "purchase", "look": "view"},
        timestamp_unit="s",
    )
    data = Dataset(run(config, tmp_path / "out"))
    assert data.user_ids == ["7", "8"]
    assert sequences(data) == {"7": ["b", "a"], "8": ["a"]}
    written = table(data)
    assert [r["text"] for r in written] == ["", 'two\nlines, "quoted"', "é"]
    assert [json.loads(r["context"]) for r in written] == [{}, {"dev": "x"}, {"dev": "y"}]
    assert [r["type"] for r in written] == ["purchase", "purchase", "view"]
    assert data.item(0).categories == ("fruit", "red") and data.item(0).attributes == {
        "tint": "red"
    }
    assert data.item(1).price is None and data.manifest.counts["prices_unreadable"] == 1


def test_a_folder_of_parts_is_one_log(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for part in (1, 2):
        rows = [event(f"u{part}", "a", part)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log" / f"part-{part}.parquet")
    config = IngestConfig(events=tmp_path / "log", timestamp_unit="s")
    data = Dataset(run(config, tmp_path / "out"))
    assert data.user_ids == ["u1", "u2"]
    assert len(data.manifest.inputs) == 2


def test_leave_one_out_gives_the_cases_expected(tmp_path: Path) -> None:
    log = [event("long", f"i{n}", 10 - n) for n in range(4)] + [event("short", "i1", 3)]
    data = ingest(tmp_path, log, ITEMS)
    assert sequences(data) == {"long": ["i3", "i2", "i1", "i0"], "short": ["i1"]}
    test = data.cases("test")
    assert test.targets.tolist() == [0] and test.histories[0].tolist() == [3, 2, 1]
    assert data.cases("validation").targets.tolist() == [1]
    assert [h.tolist() for h in data.train_histories()] == [[3, 2], [1]]
    assert data.manifest.counts["items_without_events"] == 1  # i4 stays in the catalogue
    assert data.n_items == 5


def test_global_time_splits_by_the_clock(tmp_path: Path) -> None:
    log = [event(f"u{n % 3}", f"i{n % 5}", 100 + n) for n in range(20)]
    data = ingest(tmp_path, log, ITEMS, split="global-time", validation_share=0.2, test_share=0.1)
    by_split = {s: [r["timestamp"] for r in table(data) if r["split"] == s] for s in range(3)}
    assert max(by_split[0]) < min(by_split[1]) <= max(by_split[1]) < min(by_split[2])
    assert [len(by_split[s]) for s in range(3)] == [14, 4, 2]


def test_filters_drop_and_count_in_their_order(tmp_path: Path) -> None:
    log = [
        event("u", "i0", 1, type="purchase", rating=5),
        event("u", "i0", 1, type="purchase", rating=5),  # exact duplicate
        event("u", "i0", 2, type="purchase", rating=5),  # repeated item
        event("u", "i1", 3, type="impression"),  # not a type of ours
        event("u", "i1", 3, type="view", rating=1),  # of another type: stays beside the sequence
        event("u", "i2", 4, type="purchase", rating=1),  # low
        event("u", "nowhere", 5, type="purchase", rating=5),  # unknown item
        event("u", "i3", 0, type="purchase", rating=5),  # no time
        event("", "i3", 6, type="purchase"),  # no user
        event("u", "i4", 7, type="purchase"),  # no rating: stays
    ]
    data = ingest(
        tmp_path,
        log,
        ITEMS,
        event_types=["purchase"],
        min_rating=3.0,
        duplicates="first-per-item",
    )
    assert sequences(data) == {"u": ["i0", "i4"]}
    assert [(row["type"], row["split"]) for row in data.events.to_pylist()] == [
        ("purchase", 0),
        ("view", OTHER_TYPE),
        ("purchase", 0),
    ]
    counts = data.manifest.counts
    assert counts["dropped"] == {
        "no_user": 1,
        "unknown_type": 1,
        "unknown_item": 1,
        "low_rating": 1,
        "no_time": 1,
        "duplicate": 1,
        "repeated_item": 1,
    }
    assert counts["unknown_types"] == {"impression": 1}
    assert counts["times_unusable"] == 1
    assert counts["events"] == 2 and counts["other_events"] == 1
    assert counts["events_read"] == 10 == 3 + sum(counts["dropped"].values())


def test_duplicates_may_stay(tmp_path: Path) -> None:
    log = [event("u", "i0"), event("u", "i0")]
    assert ingest(tmp_path, log, ITEMS, duplicates="keep").manifest.counts["events"] == 2


def test_k_core_and_unseen_items(tmp_path: Path) -> None:
    log = [event(u, i, n) for n, (u, i) in enumerate([("a", "i1"), ("a", "i3"), ("b", "i1")], 1)]
    log += [event("b", "i3", 9), event("c", "i0", 9)]
    data = ingest(tmp_path, log, ITEMS, k_core=2, drop_unseen_items=True)
    assert data.item_ids == ["i1", "i3"] and data.user_ids == ["a", "b"]
    assert data.manifest.counts["dropped"] == {"outside_core": 1}
    assert [data.item(n).title for n in range(2)] == ["Item 1", "Item 3"]


def test_without_an_item_file_items_come_from_the_events(tmp_path: Path) -> None:
    data = ingest(tmp_path, [event("u", "z"), event("u", "a", 2), event("u", "late", 0)])
    assert data.item_ids == ["z", "a"]  # "late" had no time, so it is no item either
    assert data.item(0).title == "" and data.item(0).in_stock
    assert data.manifest.counts["items_without_title"] == 2


def test_unknown_items_may_be_added(tmp_path: Path) -> None:
    log = [event("u", "new", 1), event("u", "i1", 2)]
    data = ingest(tmp_path, log, ITEMS, unknown_items="add")
    assert data.item_ids == ["i0", "i1", "i2", "i3", "i4", "new"]
    assert sequences(data) == {"u": ["new", "i1"]}


def test_ties_are_shuffled_by_seed_and_counted(tmp_path: Path) -> None:
    log = [event("tied", f"i{n}", 5) for n in range(5)]
    log += [event("apart", f"i{n}", n + 1) for n in range(5)]
    orders = []
    for seed in (1, 1, 2):
        data = ingest(tmp_path, log, ITEMS, seed=seed)
        assert sequences(data)["apart"] == ["i0", "i1", "i2", "i3", "i4"]
        orders.append(sequences(data)["tied"])
    assert orders[0] == orders[1] != orders[2]
    assert data.manifest.counts["ties"] == {
        "events": 5,
        "events_share": 0.5,
        "users": 1,
        "users_share": 0.5,
        "users_tied_across_splits": 1,
    }


def test_texts_follow_their_events_through_sort_and_shuffle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log = [
        event(f"u{u}", f"i{i}", int(t), text=f"u{u} i{i} {t}", rating=float(i), session=f"s{t}")
        for u, i, t in rng.integers([0, 0, 1], [30, 5, 21], (3000, 3))
    ]
    data = ingest(tmp_path, log, ITEMS)
    written = table(data)
    assert len(written) == len({e["text"] for e in log})
    keys = [(r["user"], r["timestamp"]) for r in written]
    assert keys == sorted(keys)
    for row in written:
        user, item = data.user_ids[row["user"]], data.item_ids[row["item"]]
        assert row["text"] == f"{user} {item} {row['timestamp']:.0f}"
        assert row["rating"] == float(item[1:]) and row["session"] == f"s{row['timestamp']:.0f}"


def test_untimed_log_keeps_its_order_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\nu,c\nu,a\nv,a\nu,c\n")
    config = IngestConfig(events=tmp_path / "log.csv", event_columns={"timestamp": None})
    data = Dataset(run(config, tmp_path / "out"))
    assert sequences(data) == {"u": ["c", "a", "c"], "v": ["a"]}  # a repeat is no duplicate here
    assert "order of the file was kept" in data.manifest.counts["order"]
    assert data.train_histories().timestamps is None


def test_sequences_keep_item_file_order_and_side_fields(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u1 3 1 3\nu2 2 1 3 1\n")
    items = tmp_path / "items.jsonl"
    rows = [{"item_id": n, "title": f"T{n}", "attribute_ids": [n, 9]} for n in (3, 2, 1, 4)]
    items.write_text("".join(json.dumps(r) + "\n" for r in rows))
    config = IngestConfig(events=tmp_path / "s.txt", items=items, format="sequences")
    data = Dataset(run(config, tmp_path / "out"))
    assert data.item_ids == ["3", "2", "1", "4"]
    assert data.item(0).attributes == {"attribute_ids": "3,9"}
    assert sequences(data) == {"u1": ["3", "1", "3"], "u2": ["2", "1", "3", "1"]}


def test_beauty_has_its_published_size(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "amazon2014-beauty"
    config = IngestConfig(
        events=folder / "sequences.txt", items=folder / "items.jsonl", format="sequences"
    )
    data = Dataset(run(config, tmp_path / "out"))
    counts = data.manifest.counts
    assert (counts["users"], counts["items"], counts["events"]) == (22_363, 12_101, 198_502)
    assert counts["validation"] == counts["test"] == 22_363
    lines = (folder / "sequences.txt").read_text().splitlines()
    for user in (0, 9_999, 22_362):
        _, *items = map(int, lines[user].split())
        case = data.cases("test")
        assert [*case.histories[user].tolist(), case.targets[user]] == [i - 1 for i in items]


def test_movielens_folder(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ml-latest-small"
    data = Dataset(run(IngestConfig(events=folder, format="movielens"), tmp_path / "out"))
    counts = data.manifest.counts
    assert (counts["users"], counts["items"], counts["events"]) == (610, 9_742, 100_836)
    assert counts["items_without_events"] == 18 and counts["dropped"] == {}
    toy_story = data.item(0)
    assert toy_story.title == "Toy Story (1995)"
    assert toy_story.categories[0] == "Adventure"
    assert toy_story.attributes == {"tags": "pixar,fun", "year": "1995"}
    assert toy_story.available_from == 788_918_400.0  # 1 January 1995
    assert Path(toy_story.image or "").is_file()
    assert sum(image is not None for image in data.items["image"].to_pylist()) == 3_548
    assert {r["type"] for r in table(data)} == {"rating"}


def test_second_run_is_skipped_and_a_changed_input_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(tmp_path, [event("u", "i0")], ITEMS)
    ingest(tmp_path, [event("u", "i0")], ITEMS)
    assert "up to date" in capsys.readouterr().out
    data = ingest(tmp_path, [event("u", "i1")], ITEMS)
    assert sequences(data) == {"u": ["i1"]}


def test_command_line_with_recipe_and_with_flags(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u a b c d\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"name: toy\nseed: 3\nout: {tmp_path}/run\n"
        f"ingest: {{format: sequences, events: '{tmp_path}/s.txt'}}\n"
    )
    run_command(["ingest", str(recipe), "--out", f"{tmp_path}/run/dataset"])
    data = Dataset(tmp_path / "run" / "dataset")
    assert data.item_ids == ["a", "b", "c", "d"] and data.manifest.seed == 3
    flags = ["--format", "sequences", "--events", f"{tmp_path}/s.txt", "--out", f"{tmp_path}/flags"]
    run_command(["ingest", *flags, "--k-core", "1"])
    assert Dataset(tmp_path / "flags").user_ids == ["u"]
    with pytest.raises(SystemExit):
        run_command(["ingest", "--events", f"{tmp_path}/s.txt"])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"event_columns": {"usr": "x"}}, "'usr' is not one of user_id"),
        ({"event_types": ["buy"]}, "'buy' is not one of view"),
        ({"split": "by-user"}, "'by-user' is not one of leave-one-out"),
        ({"split": "leave-k-out", "leave_k": 0}, "leave_k: must be 1 or more"),
        ({"max_dropped": 1.5}, "max_dropped: must be in"),
        ({"event_reading": {"quote": "''"}}, "event_reading.quote: \"''\" is not one ASCII"),
        ({"item_reading": {"encoding": "utf-9"}}, "encoding: 'utf-9' is not known"),
        ({"item_reading": {"delimiter": ""}}, "delimiter: '' cannot part cells"),
        ({"validation_share": 0.6, "test_share": 0.4}, "nothing to train on"),
        ({"k_core": -1}, "k_core"),
        ({"formt": "table"}, "did you mean 'format'"),
        (
            {"format": "csv"},
            "format: .csv. is not one of table, sequences, split-sequences, movielens",
        ),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(IngestConfig, {"events": "log.csv", **settings}, "r.yaml: ingest")


def test_a_killed_run_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "out"
    line = json.dumps(event("u%d", "i%d", 1_700_000_000, text="some words on it"))
    with open(log, "w") as file:
        for n in range(200_000):
            file.write(line.replace("%d", str(n % 999)) + "\n")
    command = [sys.executable, "-m", "llmrec", "ingest", "--events", str(log), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen(command, env=environment)
    texts = tmp_path / ".out.part" / "spill" / "texts"
    deadline = time.monotonic() + 20
    while not (texts.exists() and texts.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL  # it was still at work
    assert texts.exists() and not out.exists()
    data = Dataset(run(IngestConfig(events=log, max_dropped=1), out))
    assert data.manifest.counts["events"] == 999
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "out"]
    assert sorted(p.name for p in out.iterdir()) == [
        "events.parquet",
        "items.parquet",
        "manifest.json",
        "users.parquet",
    ]


def test_files_that_are_named_by_item_are_found_where_the_row_names_none(tmp_path: Path) -> None:
    (tmp_path / "posters").mkdir()
    for name in ("a", "b"):
        (tmp_path / "posters" / f"{name}.jpg").write_bytes(b"x")
    items = [{"item_id": "a"}, {"item_id": "b", "image": "own.jpg"}, {"item_id": "c"}]
    events = [event("u", item, when) for when, item in enumerate("abc")]
    pattern = str(tmp_path / "posters" / "{item_id}.jpg")
    dataset = ingest(tmp_path, events, items, media_files={"image": pattern})
    found = [dataset.item(row).image for row in range(3)]
    own = dataset.item(1).image
    assert found == [str(tmp_path / "posters" / "a.jpg"), own, None]
    assert own is not None and own.endswith("own.jpg")
    assert dataset.manifest.counts["image_files"] == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [({"poster": "{item_id}.jpg"}, "'poster' is not one of"), ({"image": "a.jpg"}, "not contain")],
)
def test_media_files_need_a_known_field_and_a_place_for_the_item(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        ingest(tmp_path, [event("u", "a")], media_files=files)
