"""``llmrec recommend`` as people type it: exit status, output, one line for a mistake."""

import json
from pathlib import Path

import pytest
from ask_bundle import rank, recommend
from tiny_shop import TinyRun

from llmrec.cli import main
from llmrec.data.dataset import Dataset
from llmrec.generation.beam_search import SearchOptions
from llmrec.serving.bundle import Bundle


def call(*words: object, capsys: pytest.CaptureFixture[str]) -> str:
    """Standard output of a command that works."""
    capsys.readouterr()
    assert main(["recommend", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_by_history(tiny_run: TinyRun, atomic: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    history = atomic.item_ids[5:8]
    out = call(tiny_run.bundle("atomic"), "--history", *history, "-n", 4, capsys=capsys)
    expected = recommend(atomic, history, 4)
    lines = out.splitlines()
    assert len(lines) == 4
    for line, found in zip(lines, expected, strict=True):
        assert line.split()[:3] == [str(found.rank), f"{found.score:.3f}", found.item_id]
        assert line.endswith(found.title[:90])


def test_by_user_with_the_times_of_the_dataset(
    tiny_run: TinyRun, atomic: Bundle, tiny_data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    user = tiny_data.user_ids[11]
    flags = ["--dataset", tiny_run.folder / "dataset", "--user", user, "-n", 6, "--json"]
    answer = json.loads(call(tiny_run.bundle("atomic"), *flags, capsys=capsys))
    history = [tiny_data.item_ids[i] for i in tiny_data.history(11)]
    times = tiny_data.times(11)
    assert times is not None
    expected = recommend(atomic, history, 6, history_times=times.tolist())
    assert [(a["item_id"], a["rank"]) for a in answer] == [(e.item_id, e.rank) for e in expected]
    assert [a["score"] for a in answer] == pytest.approx([e.score for e in expected], abs=1e-5)
    assert set(answer[0]) == {"item_id", "title", "rank", "score", "reason", "sources"}
    assert not {a["item_id"] for a in answer} & set(history)


def test_by_words_and_with_the_history_kept(
    tiny_run: TinyRun, semantic: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_run.bundle("semantic")
    out = call(folder, "--query", semantic.titles[30], "-n", 1, "--json", capsys=capsys)
    assert json.loads(out)[0]["title"] == semantic.titles[30]
    everything = ["--history", *semantic.item_ids]
    assert call(folder, *everything, capsys=capsys) == ""
    kept = call(folder, *everything, "--no-exclude-history", "-n", 3, capsys=capsys)
    assert len(kept.splitlines()) == 3


def test_an_empty_history_is_answered(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_run.bundle("atomic")
    out = call(folder, "--history", "-n", 2, capsys=capsys)
    assert len(out.splitlines()) == 2
    assert call(folder, "-n", 2, capsys=capsys) == out


def test_one_shop_is_searched_and_what_moved_it_named(
    tiny_run: TinyRun, atomic: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words of the reason are those of tests/serving/test_explanation.py."""
    domains = dict(zip(atomic.item_ids, atomic.items.domains, strict=True))
    history = [item for item in atomic.item_ids if domains[item] == "clothing"][:6]
    flags = ["--history", *history, "--domain", "home", "-n", 5]
    for model in ("atomic", "semantic"):
        folder = tiny_run.bundle(model)
        out = call(folder, *flags, "--explain", capsys=capsys)
        found, reasons = out.splitlines()[::2], out.splitlines()[1::2]
        assert found == call(folder, *flags, capsys=capsys).splitlines()
        assert [domains[line.split()[2]] for line in found] == ["home"] * 5
        assert all(line.strip().startswith("likely to follow") for line in reasons)
        assert any(line.endswith(" of clothing speaks for it") for line in reasons)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--user", "u1", "--dataset", "DATASET", "--history", "x"], "leave out --history"),
        (["--user", "u1"], "--user: needs --dataset, the folder whose users it names"),
        (["--user", "nobody", "--dataset", "DATASET"], "--user: 'nobody' is not among the users"),
        (["--all", "--dataset", "DATASET"], "--all: needs --dataset, whose users it means, and"),
        (["--all", "--out", "a.jsonl"], "--all: needs --dataset, whose users it means, and --out"),
        (["--all", "--user", "u1", "--dataset", "DATASET"], "leave out --history and --user"),
        (["--out", "a.jsonl"], "--out: is the file of --all; give --all, or leave it out"),
        (
            ["--all", "--dataset", "DATASET", "--out", "a.csv"],
            "--out: a.csv names no known form; call it .jsonl or .parquet",
        ),
        (["--now", "yesterday"], "now: 'yesterday' is no time; write ISO 8601"),
        (["-n", "0"], "n: 0 items were asked for"),
        (
            ["--user", "nobody", "--dataset", "BUNDLE"],
            "holds the 'bundle' stage",
        ),
        (["--allow", "@EMPTY"], "--allow: names no item; give item ids, or @FILE"),
        (["--allow", "@nowhere"], "nowhere: No such file"),
        (["--allow", "@BINARY"], "--allow: BINARY is not UTF-8 text"),
        (["--categories", "x y z"], "categories: no item has 'x y z'"),
        (["--price-min", "nan"], "price_min: must be 0 or more, got nan"),
        (["--price-min", "2", "--price-max", "1"], "2.0 is above price_max, 1.0"),
        (["--temperature", "0"], "temperature: must be in [0.001, 1000], got 0.0"),
        (["--exact", "--groups", "2"], "exact: "),
        (["--candidates", "x"], "candidates: 'x' is not in the catalogue"),
        (["--candidates", "x", "-n", "-1"], "--n: must not be negative, got -1"),
        (["--candidates", "x", "--in-stock"], "leave out query, exclude, allow and where"),
        (["--attributes", "x"], "--attributes: 'x' is not NAME=VALUE"),
    ],
)
def test_a_mistake_is_one_line(
    tiny_run: TinyRun,
    flags: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("BINARY").write_bytes(b"\xff\xfe")
    Path("EMPTY").write_text("\n")
    bundle = str(tiny_run.bundle("atomic"))
    places = {"DATASET": str(tiny_run.folder / "dataset"), "BUNDLE": bundle}
    capsys.readouterr()
    assert main(["recommend", bundle, *(places.get(flag, flag) for flag in flags)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    errors = [line for line in printed.err.splitlines() if not _is_progress(line)]
    assert len(errors) == 1
    assert errors[0].startswith("llmrec: error: ")
    assert message in errors[0]


def test_a_folder_that_is_no_bundle(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(tiny_run.folder / "nowhere")]) == 2
    assert "nowhere/manifest.json: not found" in capsys.readouterr().err


def _is_progress(line: str) -> bool:
    """Bars of libraries that load weights; they are no message."""
    return "%|" in line or line == ""


def test_help_names_every_way_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["recommend", "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for flag in ("--history", "--user", "--dataset", "--query", "--exclude-history", "--json"):
        assert flag in said


def recommended(out: str) -> list[str]:
    return [line.split()[2] for line in out.splitlines()]


def test_some_items_only(
    tiny_run: TinyRun,
    atomic: Bundle,
    tiny_data: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, ids = tiny_run.bundle("atomic"), atomic.item_ids
    listed = tmp_path / "allowed.txt"
    listed.write_text("\n".join([*ids[10:20], ""]))
    flags = ["--history", ids[10], "--allow", f"@{listed}", "--exclude", ids[11], ids[99]]
    out = call(folder, *flags, "-n", 9, capsys=capsys)
    assert set(recommended(out)) == set(ids[12:20])
    assert main(["recommend", str(folder), *flags, "-n", "9"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes == ["note: only 8 of 9 items: no more are left to recommend"]


def test_items_of_a_kind_only(
    tiny_run: TinyRun, atomic: Bundle, tiny_data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [tiny_data.item(row) for row in range(120)]
    first = items[0]
    flags = ["--categories", first.categories[0].lower(), "--brands", first.brand, items[9].brand]
    flags += ["--domains", first.domain, "--in-stock"]
    flags += ["--price-min", "1", "--price-max", "60", "-n", "120"]
    out = call(tiny_run.bundle("atomic"), *flags, capsys=capsys)
    expected = {
        item.item_id
        for item in items
        if first.categories[0] in item.categories
        and item.brand in (first.brand, items[9].brand)
        and item.domain == first.domain
        and item.in_stock
        and item.price is not None
        and 1 <= item.price <= 60
    }
    assert 0 < len(expected) < 120
    assert set(recommended(out)) == expected


def test_candidates_are_ranked(
    tiny_run: TinyRun, semantic: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, ids = tiny_run.bundle("semantic"), semantic.item_ids
    flags = ["--history", ids[3], "--candidates", *ids[:30]]
    assert recommended(call(folder, *flags, capsys=capsys)) == [
        found.item_id for found in rank(semantic, [ids[3]], ids[:30])
    ]
    best = json.loads(call(folder, *flags, "-n", 2, "--json", capsys=capsys))
    assert [found["rank"] for found in best] == [1, 2]


def test_how_to_search(
    tiny_run: TinyRun, semantic: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, history = tiny_run.bundle("semantic"), semantic.item_ids[:3]

    def scores(*flags: object) -> list[tuple[str, float]]:
        said = ["--history", *history, "-n", 8, "--json", *flags]
        return [(f["item_id"], f["score"]) for f in json.loads(call(folder, *said, capsys=capsys))]

    def expected(options: SearchOptions) -> list[tuple[str, float]]:
        found = recommend(semantic, history, 8, options=options)
        return [(f.item_id, pytest.approx(f.score, abs=1e-4)) for f in found]

    exact = SearchOptions(beams=8, exact=True)
    assert scores("--beams", 8, "--exact") == expected(exact)
    level = SearchOptions(normalise="level", temperature=0.5)
    assert scores("--normalise", "level", "--temperature", 0.5) == expected(level)
    diverse = SearchOptions(beams=8, groups=4, diversity=5.0)
    assert scores("--beams", 8, "--groups", 4, "--diversity", 5) == expected(diverse)
    assert expected(diverse) != expected(exact)
