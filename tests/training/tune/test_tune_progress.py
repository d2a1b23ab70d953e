"""What a terminal, a log and the files of a job show of a fine-tuning run."""

import io
import json
import sys
from pathlib import Path

import pytest
from tune_runs import log_of, tiny_tune

from llmrec.loop.status import read_metrics
from llmrec.training.tune.run import run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_bar_for_each_phase(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    config = tiny_tune({"max_steps": 4}, align=2)
    run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    shown = [line for line in terminal.getvalue().replace("\r", "\n").split("\n") if "step" in line]
    assert all(line.startswith(("align:", "tune:")) for line in shown)
    assert "2/6" in shown[-1] or any("6/6" in line and "loss" in line for line in shown)
    assert any("<" in line and "step/s" in line for line in shown), "the time left"
    assert "{'loss'" not in capsys.readouterr().out


def test_a_log_shows_a_line_every_logging_steps_and_at_the_end(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    monkeypatch.setenv("LLMREC_JOB", str(job))
    monkeypatch.setattr("llmrec.loop.progress.LINE_SECONDS", 1e9)  # none for time alone
    config = tiny_tune({"max_steps": 5, "logging_steps": 2}, align=3)
    run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    lines = [line for line in capsys.readouterr().err.splitlines() if ": step " in line]
    assert [line.split("  ")[0] for line in lines] == [
        "align: step 2/8",
        "align: step 3/8",
        "tune: step 5/8",
        "tune: step 7/8",
        "tune: step 8/8",
    ]
    assert all("loss" in line and line.endswith(" left") for line in lines)
    assert read_metrics(job) == log_of(tmp_path / "tuned")
    status = json.loads((job / "status.json").read_text())
    assert (status["step"], status["total"], status["stage"]) == (8, 8, "tune")
