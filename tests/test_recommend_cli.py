"""``llmrec recommend`` as people type it: exit status, output, one line for a mistake."""

import json

import pytest
from tiny_shop import TinyRun

from llmrec.bundle import Bundle
from llmrec.cli import main
from llmrec.data.dataset import Dataset


def call(*words: object, capsys: pytest.CaptureFixture[str]) -> str:
    """Standard output of a command that works."""
    capsys.readouterr()
    assert main(["recommend", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_by_history(tiny_run: TinyRun, atomic: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    history = atomic.item_ids[5:8]
    said = " , ".join(history)
    out = call(tiny_run.bundle("atomic"), "--history", said, "-n", 4, capsys=capsys)
    expected = atomic.recommend(history, 4)
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
    expected = atomic.recommend(history, 6, history_times=times.tolist())
    assert [(a["item_id"], a["rank"]) for a in answer] == [(e.item_id, e.rank) for e in expected]
    assert [a["score"] for a in answer] == pytest.approx([e.score for e in expected], abs=1e-5)
    assert set(answer[0]) == {"item_id", "title", "rank", "score", "reason"}
    assert not {a["item_id"] for a in answer} & set(history)


def test_by_words_and_with_the_history_kept(
    tiny_run: TinyRun, semantic: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_run.bundle("semantic")
    out = call(folder, "--query", semantic.titles[30], "-n", 1, "--json", capsys=capsys)
    assert json.loads(out)[0]["title"] == semantic.titles[30]
    everything = ",".join(semantic.item_ids)
    assert call(folder, "--history", everything, capsys=capsys) == ""
    kept = call(folder, "--history", everything, "--keep-history", "-n", 3, capsys=capsys)
    assert len(kept.splitlines()) == 3


def test_an_empty_history_is_answered(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    out = call(tiny_run.bundle("atomic"), "--history", "", "-n", 2, capsys=capsys)
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --history ID,ID,... or --dataset DIR --user NAME or --query WORDS"),
        (["--user", "u1"], "--user: needs --dataset, the folder whose people it names"),
        (["--user", "nobody", "--dataset", "DATASET"], "--user: 'nobody' is not among the people"),
        (["--history", "a-thing"], "history: 'a-thing' is not in the catalogue"),
        (["--history", "", "-n", "0"], "n: 0 items were asked for"),
        (
            ["--user", "nobody", "--dataset", "BUNDLE"],
            "holds the 'bundle' stage",
        ),
    ],
)
def test_a_mistake_is_one_line(
    tiny_run: TinyRun, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert main(["recommend", str(tiny_run.folder / "nowhere"), "--history", ""]) == 2
    assert "nowhere/manifest.json: not found" in capsys.readouterr().err


def _is_progress(line: str) -> bool:
    """Bars of libraries that load weights; they are no message."""
    return "%|" in line or line == ""


def test_help_names_every_way_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["recommend", "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for flag in ("--history", "--user", "--dataset", "--query", "--keep-history", "--json"):
        assert flag in said
