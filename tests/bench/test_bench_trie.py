"""``llmrec bench trie`` on catalogues of a thousand items."""

import json
from pathlib import Path

import pytest

from llmrec import cli


def test_the_command_measures_each_size_and_writes_figures_page_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--items 1000 200 --levels 3 --codes 16 --size nano --batch 2 --beams 3 --length 8"
    flags += f" --repeats 2 --threads 1 --out {tmp_path}"
    assert cli.main(["bench", "trie", *flags.split()]) == 0

    result = json.loads((tmp_path / "trie.json").read_text())
    small, large = result["rows"]
    assert (small["items"], large["items"]) == (200, 1000)
    for row in (small, large):
        assert row["peak_mib"] > 10 and row["codes_mib"] == pytest.approx(0, abs=0.1)
        assert 0 < row["trie_ms"] < row["step_ms"]
        assert row["save_s"] > 0 and row["load_s"] > 0 and len(row["build_seconds"]) == 2
        assert 8 < row["bytes_per_item"] < 200
    metrics = result["metrics"]
    assert metrics["build_s@1000"] == large["build_s"]
    assert metrics["bytes_per_item"] == large["bytes_per_item"]
    assert metrics["step_ratio"] == pytest.approx(large["step_ms"] / small["step_ms"], rel=1e-2)

    page = (tmp_path / "report.md").read_text()
    assert "| 1,000 |" in page and "](trie.png)" in page
    assert (tmp_path / "trie.png").stat().st_size > 1000
    assert page in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--items 20 --levels 2 --codes 4", "--items: 20 items need more than the 16 IDs"),
        ("--levels 1", "levels: must be in [2, 26], got 1"),
        ("--repeats 0", "repeats: must be 1 or more, got 0"),
        ("--results out.csv", "--results out.csv: give the name of a .json file"),
    ],
)
def test_a_wrong_flag_is_one_line(
    flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "trie", *flags.split()]) == 2
    assert capsys.readouterr().err.startswith(f"llmrec: error: {message}")


def test_a_size_that_is_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "trie", "--items", "ten"])
    assert caught.value.code == 2
    assert "ten" in capsys.readouterr().err
