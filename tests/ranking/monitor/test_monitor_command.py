"""llmrec monitor from a log to a report, and what it says of a log it cannot use."""

import gzip
import json
import zipfile
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from served_logs import DAY, MONDAY, records, reference_of, shown, write_jsonl, write_parquet

from llmrec.cli import run_command
from llmrec.data import raw_files
from llmrec.errors import ArtifactError, ConfigError, DataError, LlmrecError
from llmrec.ranking.monitor import run


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return reference_of(shown(seed=9), tmp_path / "reference.json")


def test_a_log_like_the_reference_is_well(reference: Path, tmp_path: Path, capsys) -> None:
    log = write_jsonl(shown(), tmp_path / "served.jsonl")
    out = tmp_path / "out"
    given = ["--reference", str(reference), "--log", str(log), "--out", str(out)]
    run_command(["monitor", *given, "--fail-on-drift"])
    assert "nothing is wrong" in capsys.readouterr().out
    report = json.loads((out / "monitor.json").read_text())
    assert report["failed"] == []
    assert [window["start"] for window in report["windows"]] == [
        *("2024-05-06", "2024-05-07", "2024-05-08")
    ]
    assert report["overall"]["rows"] == sum(window["rows"] for window in report["windows"]) == 6000
    assert report["overall"]["ece"] < 0.02
    assert {row["name"]: row["state"] for row in report["inputs"]} == {
        "price": "stable",
        "category": "stable",
    }
    page = (out / "report.md").read_text()
    assert "| 2024-05-07 |" in page and "![clicks and drift](monitor.png)" in page
    assert page.count("PSI below 0.1 is stable") == 1
    assert matplotlib.image.imread(out / "monitor.png").shape[1] == 960
    assert sorted(file.name for file in out.iterdir()) == [
        *("manifest.json", "monitor.json", "monitor.png", "report.md")
    ]


def test_all_formats_and_batch_sizes_say_the_same(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = shown(1000)
    lines = write_jsonl(columns, tmp_path / "served.jsonl")
    expected = run.monitor(reference, lines)
    assert run.monitor(reference, write_parquet(columns, tmp_path / "s.parquet")) == expected
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, rows in (("a", slice(0, 300)), ("b", slice(300, None))):
        write_jsonl({k: v[rows] for k, v in columns.items()}, folder / f"{name}.jsonl")
    for other in (folder, lines):
        monkeypatch.setattr(raw_files, "JSON_CHUNK", 77)
        found = run.monitor(reference, other)
        assert found["inputs"] == expected["inputs"]
        for name, value in expected["overall"].items():
            assert found["overall"][name] == pytest.approx(value)


def test_a_log_is_read_as_ingest_reads_it(reference: Path, tmp_path: Path) -> None:
    """Zipped and not, with a mark in front, times in any unit, and markers for what is missing."""
    columns = shown(300)
    expected = run.monitor(reference, write_jsonl(columns, tmp_path / "served.jsonl"))
    rows = records(columns)
    for row in rows:
        row["timestamp"] = round(row["timestamp"] * 1000)
        row.setdefault("price", "NA")
    names = list(columns)
    lines = [names, *([str(row[name]) for name in names] for row in rows)]
    text = "".join(",".join(line) + "\n" for line in lines)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    (tmp_path / "b.tsv").write_text(text.replace(",", "\t"))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as packed:
        packed.writestr("logs/served.csv", text.replace(",", ";"))
    for name in ("a.csv.gz", "b.tsv", "c.zip"):
        found = run.monitor(reference, tmp_path / name)
        assert found["inputs"] == expected["inputs"], name
        assert found["overall"] == expected["overall"], name
        assert [w["start"] for w in found["windows"]] == [w["start"] for w in expected["windows"]]


def test_drift_fails_and_says_what_moved(reference: Path, tmp_path: Path, capsys) -> None:
    columns = shown()
    columns["category"] = np.where(columns["category"] == "bags", "boots", columns["category"])
    log = write_parquet(columns, tmp_path / "served.parquet")
    given = ["--reference", str(reference), "--log", str(log)]
    run_command(["monitor", *given])
    assert "| category | drifted |" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        run_command(["monitor", *given, "--fail-on-drift"])
    assert caught.value.code == 1
    assert "category has drifted: PSI" in capsys.readouterr().err
    worst = run.monitor(reference, log)["inputs"][0]
    assert worst["name"] == "category"
    assert worst["moved"] in ("bags", "other")  # as many as the one lost, the other won
    assert sorted(round(worst[key], 1) for key in ("share_before", "share_now")) == [0, 0.5]


def test_what_began_in_the_latest_window_is_seen_in_a_long_log(
    reference: Path, tmp_path: Path
) -> None:
    columns = shown(20_000, days=20)
    late = columns["timestamp"] > MONDAY + 19 * DAY
    columns["price"] = np.where(late, columns["price"] * 3, columns["price"])
    columns["clicked"] = np.where(late, 0, columns["clicked"])
    log = write_parquet(columns, tmp_path / "served.parquet")
    report = run.monitor(reference, log)
    price = next(row for row in report["inputs"] if row["name"] == "price")
    assert price["psi"] < 0.05 < 0.5 < price["latest_psi"]
    assert price["state"] == "drifted"
    assert report["overall"]["ece"] < 0.05
    assert len(report["failed"]) == 2
    for reason in report["failed"]:
        assert "in the day from 2024-05-25 on" in reason
    before = {name: values[~late] for name, values in columns.items()}
    assert run.monitor(reference, write_parquet(before, tmp_path / "b.parquet"))["failed"] == []


def test_an_ece_above_the_limit_fails(reference: Path, tmp_path: Path) -> None:
    columns = shown()
    columns["p_click"] = np.sqrt(columns["p_click"])
    log = write_parquet(columns, tmp_path / "served.parquet")
    report = run.monitor(reference, log)
    assert len(report["failed"]) == 2 and all("is above 0.05" in why for why in report["failed"])
    low, _ = report["overall"]["predicted_over_observed_interval"]
    assert low > 2
    assert run.monitor(reference, log, max_ece=0.5)["failed"] == []


def test_a_log_without_clicks_is_looked_at_for_drift_alone(
    reference: Path, tmp_path: Path, capsys
) -> None:
    columns = shown()
    del columns["clicked"]
    for log in (
        write_jsonl(columns, tmp_path / "served.jsonl"),
        write_parquet(columns, tmp_path / "served.parquet"),
    ):
        out = tmp_path / log.suffix[1:]
        run_command(
            ["monitor", "--reference", str(reference), "--log", str(log), "--out", str(out)]
        )
        assert "has no `clicked`; only drift" in capsys.readouterr().out
        report = json.loads((out / "monitor.json").read_text())
        assert report["overall"]["ece"] is None and report["overall"]["labelled"] == 0
        assert len(report["inputs"]) == 2


def test_clicks_may_be_true_and_false_and_not_known_yet(reference: Path, tmp_path: Path) -> None:
    columns = shown(900)
    rows = records(columns)
    for number, row in enumerate(rows):
        row["clicked"] = bool(row["clicked"])
        if number % 3 == 0:
            row["clicked"] = None
    log = tmp_path / "served.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overall = run.monitor(reference, log)["overall"]
    assert (overall["rows"], overall["labelled"]) == (900, 600)
    known = np.arange(900) % 3 != 0
    assert overall["observed"] == pytest.approx(columns["clicked"][known].mean())


def test_weeks_are_another_window(reference: Path, tmp_path: Path) -> None:
    log = write_parquet(shown(days=9), tmp_path / "served.parquet")
    report = run.monitor(reference, log, "week")
    assert [one["start"] for one in report["windows"]] == ["2024-05-06", "2024-05-13"]


def test_a_log_may_have_some_of_the_inputs(reference: Path, tmp_path: Path) -> None:
    columns = {name: values for name, values in shown(500).items() if name != "price"}
    log = write_jsonl(columns, tmp_path / "served.jsonl")
    report = run.monitor(reference, log, inputs=["category"])
    assert [row["name"] for row in report["inputs"]] == ["category"]
    assert run.monitor(reference, log, inputs=[])["inputs"] == []
    with pytest.raises(ConfigError, match=r"--inputs colour: .* has no such input"):
        run.monitor(reference, log, inputs=["colour"])


def spoiled(changes: dict) -> list[dict]:
    rows = records(shown(5))
    for number, change in changes.items():
        rows[number] = {k: v for k, v in (rows[number] | change).items() if v != "gone"}
    return rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({2: {"p_click": 1.5}}, r"row 3: p_click 1.5 is outside \[0, 1\]; log the probability"),
        ({1: {"p_click": "gone"}}, "row 2: p_click is missing; log a probability"),
        ({1: {"p_click": float("nan")}}, "row 2: p_click.* is missing"),
        ({4: {"p_click": "high"}}, "row 5: p_click 'high' is no number"),
        ({0: {"clicked": 2}}, "row 1: clicked 2 is neither 0 nor 1"),
        ({3: {"timestamp": "soon"}}, "row 4: timestamp 'soon' is not a time; write seconds"),
        ({3: {"timestamp": "gone"}}, "row 4: timestamp is no time after 1970; log when"),
        ({2: {"price": "dear"}}, "row 3: price 'dear' is no number; log a number"),
        ({n: {"price": "gone"} for n in range(5)}, "no column 'price'.*log this input too"),
        ({n: {"p_click": "gone"} for n in range(5)}, "no column 'p_click'.*log the calibrated"),
    ],
)
def test_a_wrong_row_is_named_in_one_line(
    changes: dict, message: str, reference: Path, tmp_path: Path
) -> None:
    log = tmp_path / "served.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in spoiled(changes)))
    with pytest.raises(DataError, match=message) as caught:
        run_command(
            [
                "monitor",
                "--reference",
                str(reference),
                "--log",
                str(log),
                "--out",
                str(tmp_path / "o"),
            ]
        )
    assert str(caught.value).startswith(str(log)) and "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_a_log_that_cannot_be_read_is_told_so(reference: Path, tmp_path: Path) -> None:
    log = tmp_path / "served.jsonl"
    log.write_text('{"p_click": 0.1,\n')
    with pytest.raises(DataError, match="row 1: not a readable JSON object"):
        run.monitor(reference, log)
    log.write_text("")
    with pytest.raises(DataError, match=r"served.jsonl: the file is empty"):
        run.monitor(reference, log)
    log.write_text("\n\n")
    with pytest.raises(DataError, match=r"served.jsonl: the log holds no row; give one"):
        run.monitor(reference, log)
    empty = {name: values[:0] for name, values in shown(5).items()}
    with pytest.raises(DataError, match="the log holds no row"):
        run.monitor(reference, write_parquet(empty, tmp_path / "served.parquet"))
    with pytest.raises(DataError, match="no such file"):
        run.monitor(reference, tmp_path / "nowhere.jsonl")


def test_other_mistakes_are_told(reference: Path, tmp_path: Path) -> None:
    log = write_parquet(shown(50), tmp_path / "served.parquet")
    with pytest.raises(ArtifactError, match="not found; fit it with the click model"):
        run.monitor(tmp_path / "nowhere.json", log)
    with pytest.raises(ConfigError, match="--max-ece 5: give a number from 0 to 1"):
        run.monitor(reference, log, max_ece=5)
    taken = tmp_path / "mine"
    taken.mkdir()
    (taken / "notes.txt").write_text("keep me")
    with pytest.raises(LlmrecError, match="was not written by llmrec"):
        run_command(
            ["monitor", "--reference", str(reference), "--log", str(log), "--out", str(taken)]
        )
    assert [file.name for file in taken.iterdir()] == ["notes.txt"]


def test_predictions_can_be_an_input_too(tmp_path: Path) -> None:
    columns = shown(seed=9)
    names = ("p_click", "price", "category")
    path = tmp_path / "reference.json"
    run.Reference.fit({name: columns[name] for name in names}).save(path)
    columns["p_click"] = columns["p_click"] * 3 % 1
    log = write_parquet(columns, tmp_path / "served.parquet")
    assert run.monitor(path, log)["inputs"][0]["name"] == "p_click"


def test_milliseconds_and_iso_times_are_understood(reference: Path, tmp_path: Path) -> None:
    columns = shown(50, days=1)
    expected = [("2024-05-06", 50)]
    for change in (
        columns["timestamp"] * 1000,
        np.full(50, "2024-05-06T10:00:00Z"),
        (columns["timestamp"] * 1e6).astype("datetime64[us]"),
    ):
        log = write_parquet(columns | {"timestamp": change}, tmp_path / "served.parquet")
        windows = run.monitor(reference, log)["windows"]
        assert [(one["start"], one["rows"]) for one in windows] == expected
    assert MONDAY % DAY == 0
