"""The kinds of file that people have, each with the right value or a message that helps."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.cli import run_command
from llmrec.data import raw_streams
from llmrec.data.dataset import Dataset
from llmrec.data.event_store import EVENT_CODES, EventStore
from llmrec.data.ingest import run
from llmrec.data.reading import ReadingOptions
from llmrec.data.settings import IngestConfig
from llmrec.errors import ConfigError, DataError

T = 1_700_000_000
LOG = "".join(f"u{n // 3},i{n % 4},{T + n}\n" for n in range(12))
EVENTS = "user_id,item_id,timestamp\n" + LOG


def ingest(
    folder: Path, events: str, items: str = "", *, endings: str = "csv csv", **settings: Any
):
    """A dataset of these files."""
    folder.mkdir(exist_ok=True)
    paths = {}
    for name, text, ending in zip(
        ("events", "items"), (events, items), endings.split(), strict=True
    ):
        if text:
            paths[name] = folder / f"{name}.{ending}"
            paths[name].write_text(text, newline="")
    return Dataset(run(IngestConfig(**paths, **settings), folder / "out"))


def failing(folder: Path, *files: str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        ingest(folder, *files, **settings)
    assert not (folder / "out").exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


def catalogue(titles: dict[str, str] | None = None) -> str:
    names = {f"i{n}": f"Thing {n}" for n in range(4)} | (titles or {})
    return "item_id,title\n" + "".join(f"{item},{title}\n" for item, title in names.items())


def test_a_quote_never_swallows_rows(tmp_path: Path) -> None:
    lines = EVENTS.replace("\n", ",ok\n").replace("timestamp,ok", "timestamp,text").splitlines(True)
    lines[5] = lines[5].replace("ok", '"great stuff')
    message = failing(tmp_path, "".join(lines))
    assert "events.csv: row 6: a quoted cell begins that does not end" in message
    data = ingest(tmp_path, "".join(lines), event_reading=ReadingOptions(quote=None))
    assert data.manifest.counts["events"] == 12
    assert '"great stuff' in data.events["text"].to_pylist()


def test_a_title_of_a_tsv_may_begin_with_a_quote(tmp_path: Path) -> None:
    items = catalogue({"i2": '"Heroes'}).replace(",", "\t")
    data = ingest(tmp_path, EVENTS, items, endings="csv tsv")
    assert data.manifest.counts["events"] == 12
    assert data.items["title"].to_pylist() == ["Thing 0", "Thing 1", '"Heroes', "Thing 3"]


def test_backslashes_before_quotes(tmp_path: Path) -> None:
    data = ingest(tmp_path, EVENTS, catalogue({"i2": '"The \\"Best\\" of"'}))
    assert data.item(2).title == 'The "Best" of'


def test_prices_with_a_decimal_comma(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = ['"12,99"', '"€12,99"', '"1.234,50 €"', "from 12.99"]
    items = "item_id,title,price\n" + "".join(f"i{n},x,{p}\n" for n, p in enumerate(prices))
    data = ingest(tmp_path, EVENTS, items)
    assert data.items["price"].to_pylist() == [12.99, 12.99, 1234.5, None]
    assert data.manifest.counts["prices_unreadable"] == 1
    assert "1 prices cannot be read ('from 12.99' 1)" in capsys.readouterr().err


def test_prices_of_one_column_have_one_mark(tmp_path: Path) -> None:
    items = 'item_id,title,price\ni0,x,12.99\ni1,x,"12,99"\ni2,x,1\ni3,x,NA\n'
    message = failing(tmp_path, EVENTS, items)
    assert "items.csv: row 3: price '12,99' has a decimal comma" in message
    assert "row 2: price '12.99'" in message and "decimal" in message
    data = ingest(tmp_path, EVENTS, items, item_reading=ReadingOptions(decimal="."))
    assert data.items["price"].to_pylist() == [12.99, None, 1.0, None]


def test_currencies_are_kept_apart_where_there_are_several(tmp_path: Path) -> None:
    prices = ["12.99 USD", "¥1200", "5", "7 USD"]
    items = "item_id,title,price\n" + "".join(f"i{n},x,{p}\n" for n, p in enumerate(prices))
    data = ingest(tmp_path, EVENTS, items)
    assert data.items["price"].to_pylist() == [12.99, 1200.0, 5.0, 7.0]
    currencies = [data.item(n).attributes.get("currency") for n in range(4)]
    assert currencies == ["USD", "¥", None, "USD"]
    assert data.manifest.counts["currencies"] == {"USD": 2, "¥": 1}


def test_ratings_with_a_decimal_comma(tmp_path: Path) -> None:
    log = f"user_id;item_id;timestamp;rating\nu;a;{T};4,5\nu;b;{T + 1};5\nu;c;{T + 2};\n"
    assert ingest(tmp_path, log).events["rating"].to_pylist() == [4.5, 5.0, None]
    mixed = log.replace(";5\n", ";3.5\n")
    message = failing(tmp_path / "mixed", mixed)
    assert "row 2: rating '4,5' has a decimal comma, but" in message and "row 3" in message


def test_ratings_of_a_long_file_have_one_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_streams, "PART", 50)
    lines = [f"u;i{n};{T + n};4.5\n" for n in range(9)] + [f"u;j;{T};4,5\n"]
    message = failing(tmp_path, "user_id;item_id;timestamp;rating\n" + "".join(lines))
    assert "row 11: rating '4,5' has a decimal comma, but" in message and "row 2:" in message


@pytest.mark.parametrize(
    "written, format",
    [
        ("20231114", None),
        ("2023-11-14 00:00:00 UTC", None),
        ("14/11/2023", "%d/%m/%Y"),
        ("11.14.23 UTC", "%m.%d.%y UTC"),
        ("20231114", "%Y%m%d"),
        ("2023-11-14T01:00:00.000000+0100", "%Y-%m-%dT%H:%M:%S.%f%z"),
    ],
)
def test_days_in_every_notation(tmp_path: Path, written: str, format: str | None) -> None:
    log = f"user_id,item_id,timestamp\nu,a,{written}\nv,b,{written}\n"
    day = datetime(2023, 11, 14, tzinfo=UTC).timestamp()
    assert (
        ingest(tmp_path, log, timestamp_format=format).events["timestamp"].to_pylist() == [day] * 2
    )


@pytest.mark.parametrize(
    "written, expected",
    [
        ("23/10/2022", "'23/10/2022' is not a time; set timestamp_format: '%d/%m/%Y'"),
        (
            "20231114221320",
            "lies in the future, as 2 of 2 do; set timestamp_format: '%Y%m%d%H%M%S'",
        ),
        ("2023", "lies before 1990, as 2 of 2 do; set timestamp_format: '%Y'"),
        ("45244", "lies before 1990, as 2 of 2 do; set timestamp_unit or timestamp_format"),
        ("4000000000", "lies in the future"),
    ],
)
def test_times_that_cannot_be_are_an_error_that_names_the_format(
    tmp_path: Path, written: str, expected: str
) -> None:
    log = f"user_id,item_id,timestamp\nu,a,{written}\nv,b,{written}\n"
    message = failing(tmp_path, log)
    assert "events.csv: row 2: timestamp" in message and expected in message


def test_some_times_in_the_future_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ingest(tmp_path, EVENTS + "u9,i1,4000000000\n")
    assert data.manifest.counts["times_in_future"] == 1
    said = capsys.readouterr().err
    assert "1 events lie in the future (the first: " in said and "row 14: 4000000000)" in said


MARKERS = ("NA", "NULL", "null", "None", "nan", "\\N", "")


def test_no_user_is_not_one_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = "".join(f"{marker},i1,{T}\n" for marker in MARKERS)
    data = ingest(tmp_path, EVENTS + lost)
    assert data.user_ids == ["u0", "u1", "u2", "u3"]
    assert data.manifest.counts["dropped"] == {"no_user": 7}
    assert "7 without a user ('NA' 1, " in capsys.readouterr().err
    kept = ingest(tmp_path, EVENTS + lost, event_reading=ReadingOptions(missing=["NULL"]))
    assert kept.user_ids == ["u0", "u1", "u2", "u3", "NA", "null", "None", "nan", "\\N"]
    message = failing(tmp_path / "all", EVENTS.splitlines()[0] + "\n" + lost)
    assert "7 of 7 events would be dropped: 7 without a user ('NA' 1, 'NULL' 1" in message


def test_lists_and_mappings_as_python_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        "\"['Indie', 'Action']\",\"{'colour': 'red', 'size': 4}\"",
        '"[""Indie""]","{""colour"": ""red""}"',
        "Indie|Action,colour: red; size: 4",
        "\"['Indie' 'Action']\",just words",
    ]
    items = "item_id,categories,attributes\n" + "".join(f"i{n},{r}\n" for n, r in enumerate(rows))
    data = ingest(tmp_path, EVENTS, items)
    both, one = ("Indie", "Action"), ("Indie",)
    assert [data.item(n).categories for n in range(4)] == [both, one, both, both]
    red, large = {"colour": "red"}, {"colour": "red", "size": "4"}
    assert [data.item(n).attributes for n in range(4)] == [large, red, large, {}]
    assert data.manifest.counts["attributes_unreadable"] == 1
    assert "1 attributes cannot be read ('just words' 1)" in capsys.readouterr().err


def test_attributes_as_names_and_values(tmp_path: Path) -> None:
    row = {"attributes": [{"name": "colour", "value": "red"}, {"name": "size", "value": 4}]}
    items = "".join(json.dumps({"item_id": f"i{n}", **row}) + "\n" for n in range(4))
    data = ingest(tmp_path, EVENTS, items, endings="csv jsonl")
    assert data.item(3).attributes == {"colour": "red", "size": "4"}


def test_whole_floats_are_whole_numbers(tmp_path: Path) -> None:
    log = "".join(f"{n // 3}.0,{n % 4}.0,{T + n}\n" for n in range(12))
    items = "item_id,title\n" + "".join(f"{n},Thing {n}\n" for n in range(4))
    data = ingest(tmp_path, "user_id,item_id,timestamp\n" + log, items)
    assert data.user_ids == ["0", "1", "2", "3"]
    assert data.item_ids == ["0", "1", "2", "3"] and data.manifest.counts["events"] == 12
    # in the other direction, and where a column is not of whole numbers alone
    items = "item_id,title\n" + "".join(f"{n}.0,Thing {n}\n" for n in range(4))
    log = log.replace(".0,", ",").replace("0,", "0.0,", 1).replace("\n1,", "\n1.5,", 1)
    data = ingest(tmp_path, "user_id,item_id,timestamp\n" + log, items)
    assert data.item_ids == ["0", "1", "2", "3"]
    assert {"0.0", "1.5", "1"} <= set(data.user_ids)


def test_large_numbers_keep_every_digit(tmp_path: Path) -> None:
    people = [1.5, 2**53 + 1, 2**53 + 2, 2**53 + 3, 2**70]
    log = [{"user_id": u, "item_id": 2**53 + n, "timestamp": T + n} for n, u in enumerate(people)]
    data = ingest(tmp_path, "".join(map("{}\n".format, map(json.dumps, log))), endings="jsonl csv")
    assert data.user_ids == [str(user) for user in people]
    assert data.item_ids == [str(2**53 + n) for n in range(5)]


def test_if_no_item_is_known_the_message_shows_both_sides(tmp_path: Path) -> None:
    message = failing(tmp_path, EVENTS.replace(",i", ",item-").replace("item-t", "it"), catalogue())
    assert "12 of 12 events would be dropped" in message
    assert "('item-0' 3, 'item-1' 3" in message and "the item file has 'i0', 'i1'" in message


def test_rows_are_lines_of_the_file(tmp_path: Path) -> None:
    log = f'user_id,item_id,timestamp,text\nu,a,{T},"one\ntwo\nthree"\n\n\nu,b,{T},x\nu,c,never,x\n'
    assert "events.csv: row 8: timestamp 'never'" in failing(tmp_path, log)


def test_old_mac_line_ends(tmp_path: Path) -> None:
    assert ingest(tmp_path, EVENTS.replace("\n", "\r")).manifest.counts["events"] == 12


def test_a_json_array_and_an_attribute_that_only_some_have(tmp_path: Path) -> None:
    rows = [{"item_id": f"i{n}", **({"colour": "red"} if n > 1 else {})} for n in range(4)]
    for ending, text in [
        ("json", json.dumps(rows, indent=1)),
        ("jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
    ]:
        data = ingest(tmp_path, EVENTS, text, endings=f"csv {ending}", attribute_columns=["colour"])
        assert [data.item(n).attributes for n in (0, 3)] == [{}, {"colour": "red"}]


def typed(*types: str) -> str:
    lines = LOG.splitlines()
    rows = (f"{line},{types[n % len(types)]}\n" for n, line in enumerate(lines))
    return "user_id,item_id,timestamp,type\n" + "".join(rows)


def test_types_of_any_case_and_by_number(tmp_path: Path) -> None:
    data = ingest(tmp_path, typed("Purchase", " VIEW ", "NA"), default_type="click")
    assert sorted(set(data.events["type"].to_pylist())) == ["click", "purchase", "view"]
    names = {"1": "view", "2": "cart"}
    for types in (("1", "2"), ("1.0", "2.0")):
        data = ingest(tmp_path, typed(*types), type_names=names)
        assert sorted(set(data.events["type"].to_pylist())) == ["cart", "view"]


def test_types_that_are_not_known_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ingest(tmp_path, typed("view", "addtocart", "view"))
    assert data.manifest.counts["dropped"] == {"unknown_type": 4}
    said = capsys.readouterr().err
    assert "4 of 12 events (33.3%) were dropped" in said
    assert "4 of a type that is not known ('addtocart' 4); known are view, click, cart" in said
    message = failing(tmp_path / "most", typed("pv", "buy", "view"))
    assert "8 of 12 events would be dropped" in message and "'pv' 4, 'buy' 4" in message
    data = ingest(tmp_path / "most", typed("pv", "buy", "view"), max_dropped=1)
    assert data.manifest.counts["events"] == 4


def test_types_of_the_shop_s_own_have_a_weight(tmp_path: Path) -> None:
    data = ingest(
        tmp_path,
        typed("Like", "play", "view"),
        own_types={"like": 5, "play": 2},
        event_types=["like", "play"],
        min_rating=3,
    )
    kept = data.events.to_pylist()
    assert [(row["type"], row["rating"]) for row in kept[:2]] == [("like", 5.0), ("view", None)]
    assert data.manifest.counts["dropped"]["low_rating"] == 4  # played, not liked
    ratings = EventStore.open(data).kind == EVENT_CODES["rating"]
    assert ratings.tolist() == [row["type"] == "like" for row in kept]


def test_a_recipe_says_how_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "log.dat").write_text(f"u::a::{T}::1\nu::NONE::{T}::2\nNA::b::{T}::2\n")
    recipe = tmp_path / "r.yaml"
    text = f"""
ingest:
  events: {tmp_path}/log.dat
  event_columns: {{user_id: "1", item_id: "2", timestamp: "3", type: "4"}}
  event_reading: {{delimiter: "::", header: false, quote: null, missing: [NONE]}}
  type_names: {{1: view, 2: cart}}
"""
    recipe.write_text(text)
    run_command(["ingest", str(recipe), "--out", str(tmp_path / "out")])
    events = Dataset(tmp_path / "out").events.to_pylist()
    assert [(row["user"], row["type"]) for row in events] == [(0, "view"), (1, "cart")]
    recipe.write_text(text + "  delimiter: ;\n")
    with pytest.raises(ConfigError, match=r"did you mean 'item_reading\.delimiter' or 'event_read"):
        run_command(["ingest", str(recipe), "--out", str(tmp_path / "out")])


def test_a_few_drops_are_said_without_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = "user_id,item_id,timestamp\n" + "".join(f"u{n},i{n},{T + n}\n" for n in range(50))
    ingest(tmp_path, log + f"u1,,{T}\n")
    said = capsys.readouterr()
    assert "50 of 51 events, 50 users, 50 items" in said.out
    assert "dropped 1 without an item ('' 1)" in said.out and "dropped" not in said.err


BASKETS = "user_id,item_id\n" + "".join(
    f"b{n},thing{item}\n" for n in range(20) for item in sorted({n % 7, n % 5 + 3, n % 3 + 7})
)


def test_the_order_of_a_file_is_not_trusted_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def order(log: str, **settings: Any) -> tuple[list[int], str]:
        data = ingest(tmp_path, log, event_columns={"timestamp": None}, **settings)
        return data.events["item"].to_pylist(), capsys.readouterr().err

    in_order, said = order(BASKETS)
    assert "no event has a time" in said and "order: file" in said
    assert "in the order of their items' names" in said
    meant, said = order(BASKETS, order="file")
    assert meant == in_order and "no event has a time" not in said and "names" in said
    shuffled, said = order(BASKETS, order="random")
    assert sorted(shuffled) == sorted(in_order) and shuffled != in_order
    assert "warning: events" not in said and "no event has a time" not in said


def test_equal_times_in_the_order_of_names_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = BASKETS.replace("item_id\n", "item_id,timestamp\n", 1)
    log = log.splitlines()[0] + "\n" + "".join(f"{x},{T}\n" for x in log.splitlines()[1:])
    ingest(tmp_path, log)
    assert (
        "one user at one time stand in the order of their items' names" in capsys.readouterr().err
    )
    data = ingest(tmp_path, log, order="file")
    items = data.events["item"].to_pylist()
    names = [data.item_ids[item] for item in items[:3]]
    assert names == sorted(names)


@pytest.mark.parametrize("form", ["column", "files"])
def test_splits_that_are_given(tmp_path: Path, form: str) -> None:
    splits = ["train", "Train", "valid", "test"]
    rows = [f"u{n // 4},i{n % 4},{T + n}" for n in range(12)]
    if form == "column":
        lines = [f"{row},{splits[n % 4]}\n" for n, row in enumerate(rows)]
        events = tmp_path / "log.csv"
        events.write_text("user_id,item_id,timestamp,fold\n" + "".join(lines))
        columns: dict[str, str | None] = {"split": "fold"}
    else:
        events, columns = tmp_path / "log", {}
        events.mkdir()
        for name in ("train", "valid", "test"):
            lines = [f"{r}\n" for n, r in enumerate(rows) if splits[n % 4].lower() == name]
            (events / f"a.{name}.csv").write_text("user_id,item_id,timestamp\n" + "".join(lines))
    config = IngestConfig(events=events, event_columns=columns, split="given")
    data = Dataset(run(config, tmp_path / "out"))
    assert data.events["split"].to_pylist() == [0, 0, 1, 2] * 3
    histories = [[data.item_ids[item] for item in one] for one in data.train_histories()]
    assert histories == [["i0", "i1"]] * 3


def test_given_splits_without_times_stand_in_their_order(tmp_path: Path) -> None:
    log = "user_id,item_id,split\nu,a,test\nu,b,train\nu,c,valid\nu,d,train\n"
    data = ingest(tmp_path, log, split="given", event_columns={"timestamp": None, "split": "split"})
    items = [data.item_ids[item] for item in data.events["item"].to_pylist()]
    assert items == ["b", "d", "c", "a"]
    bad = log.replace("valid", "fold 3")
    settings = {"split": "given", "event_columns": {"timestamp": None}}
    message = failing(tmp_path / "bad", bad, **settings)
    assert "row 4: split 'fold 3' is none of train, validation, test and history" in message


def test_random_and_leave_k_out_splits(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp\n" + "".join(f"u{n % 9},i{n},{T + n}\n" for n in range(900))
    counts = ingest(tmp_path, log, split="random", test_share=0.2).manifest.counts
    assert 50 < counts["validation"] < 130 < counts["test"] < 230
    counts = ingest(tmp_path, log, split="leave-k-out", leave_k=3).manifest.counts
    assert (counts["validation"], counts["test"]) == (27, 27)


def test_bad_rows_are_skipped_up_to_a_limit_wherever_they_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = f'u1,i1\nu1,i1,never\nu1,"i1,{T}\nu1,i1,{T + 50}\n'
    message = failing(tmp_path, EVENTS + bad, event_reading=ReadingOptions(skip_bad_rows=2))
    assert "after 2 others were skipped" in message
    data = ingest(tmp_path, EVENTS + bad, event_reading=ReadingOptions(skip_bad_rows=3))
    counts = data.manifest.counts
    assert counts["dropped"] == {"unreadable": 3} and counts["events_read"] == 16
    assert "3 rows were skipped, such as " in capsys.readouterr().err
    items = catalogue() + 'i8,"x"y\n' + ",no id\n"
    data = ingest(tmp_path, EVENTS, items, item_reading=ReadingOptions(skip_bad_rows=2))
    assert data.n_items == 4


@pytest.mark.parametrize(
    "column, values, expected",
    [
        ("user_id", pa.array([["a"], ["b"]]), "user_id is a list<"),
        ("item_id", pa.array([{"x": 1}, {"x": 2}]), "item_id is a struct<"),
        ("user_id", pa.array([b"\xff", b"a"]), "the column 'user_id' holds bytes"),
        ("timestamp", pa.array([[T], [T]]), "is a column of list<"),
        ("timestamp", pa.array([T, T]).cast(pa.time64("us")), "is a column of time64"),
        ("rating", pa.array([["5"], ["4"]]), "rating \"['5']\" is not a number"),
        ("type", pa.array([["view"], ["view"]]), "type is a list<"),
    ],
)
def test_columns_of_other_kinds_in_parquet(
    tmp_path: Path, column: str, values: pa.Array, expected: str
) -> None:
    columns = {"user_id": ["u", "v"], "item_id": ["a", "b"], "timestamp": [T, T]}
    table = pa.table({**columns, column: values})
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(DataError) as caught:
        run(IngestConfig(events=tmp_path / "log.parquet"), tmp_path / "out")
    message = str(caught.value)
    assert "log.parquet" in message and expected in message and "\n" not in message


def test_columns_of_parquet_that_say_the_same(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array([b"u", b"v"]),
            "item_id": pa.array(["a", "b"]).dictionary_encode(),
            "timestamp": pa.array([T, T]).dictionary_encode(),
            "rating": pa.array([4, 5], pa.decimal128(12, 0)),
            "type": pa.array(["view", "cart"], pa.large_string()),
            "context": pa.array([{"device": "phone", "at": datetime(2023, 1, 1)}, None]),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    data = Dataset(run(IngestConfig(events=tmp_path / "log.parquet"), tmp_path / "out"))
    assert (data.user_ids, data.item_ids) == (["u", "v"], ["a", "b"])
    assert data.events["timestamp"].to_pylist() == [T, T]
    assert data.events["rating"].to_pylist() == [4.0, 5.0]
    assert json.loads(data.events["context"][0].as_py())["device"] == "phone"


def test_deep_lists_end_as_a_count(tmp_path: Path) -> None:
    deep = "[" * 900 + "]" * 900
    data = ingest(tmp_path, EVENTS, f"item_id,categories,attributes\ni0,{deep},{deep}\ni1,,\n"
                  "i2,,\ni3,,\n")  # fmt: skip
    counts = data.manifest.counts
    assert counts["categories_unreadable"] == counts["attributes_unreadable"] == 1


def test_an_item_has_one_identifier(tmp_path: Path) -> None:
    items = '{"item_id": ["i0", "i1"]}\n'
    message = failing(tmp_path, EVENTS, items, endings="csv jsonl")
    assert "items.jsonl: row 1: item_id is a list, not one text" in message


def test_items_without_titles_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest(tmp_path, EVENTS)
    assert "4 of 4 items have no title; their item_id stands in" in capsys.readouterr().err
