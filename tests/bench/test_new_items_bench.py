"""``llmrec bench new-items``: copies of what fits somebody, found at the next request."""

import json
from pathlib import Path

import pytest
from tiny_shop import TinyRun

from llmrec.cli import main, run_command
from llmrec.stage import folder_hash


def test_of_a_tiny_bundle(tiny_run: TinyRun, tmp_path: Path) -> None:
    bundle, out = tiny_run.bundle("semantic"), tmp_path / "new-items.json"
    before = folder_hash(bundle)
    words = ["bench", "new-items", str(bundle), f"--dataset={tiny_run.folder / 'dataset'}"]
    run_command([*words, "--people", "4", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["counts"]["people"] == 4
    metrics = found["metrics"]
    assert metrics["fitting@100"] == 1.0
    assert metrics["fitting@10"] <= metrics["fitting@20"] <= metrics["fitting@100"]
    assert 1 <= metrics["fitting_median_rank"] <= 100
    assert 0 < metrics["change_p50_ms"] <= metrics["change_p95_ms"]
    assert folder_hash(bundle) == before, "the bundle itself stays as it is"


def test_a_number_that_makes_no_sense(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "new-items", str(tiny_run.bundle("atomic")), "--people", "0"]
    words += [f"--dataset={tiny_run.folder / 'dataset'}", f"--out={tmp_path / 'out.json'}"]
    assert main(words) == 2
    assert "people: must be" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
