"""How far a run is: on a terminal, in a log, in the files of a job."""

import io
import json
import sys
from pathlib import Path

import pytest
from test_import_light import heavy_after
from tune_runs import log_of, tiny_tune

from llmrec.loop.progress import Progress
from llmrec.loop.status import read_metrics, read_status
from llmrec.training.tune.run import run


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_time_left_is_that_of_the_steps_made_in_this_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    progress = Progress(100, 8, job=tmp_path, clock=clock)
    clock.now += 50  # opening the model
    progress.begin("tune", 20, 10, [])  # 10 of its steps were made before
    assert progress.seconds_left is None
    for step in (11, 12):
        clock.now += 3
        progress.advance(step)
    clock.now += 1000  # a validation
    progress.resume()
    progress.log({"stage": "tune", "step": 12, "loss": 2.5, "learning_rate": 1e-3})
    assert capsys.readouterr().err == "tune: step 32/100  loss 2.5000  3:24 left\n"
    status = read_status(tmp_path)
    assert status.pop("updated") > 0
    assert status == {
        "stage": "tune",
        "step": 32,
        "total": 100,
        "elapsed": 1056.0,
        "eta": 204.0,
        "loss": 2.5,
        "learning_rate": 1e-3,
        "examples_per_second": 2.67,
    }


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    first = {"stage": "align", "step": 0}
    lines = [{"stage": "tune", "step": step, "loss": 1.0} for step in (2, 4, 6)]
    progress = Progress(10, 1, job=tmp_path)
    progress.so_far([first])
    progress.begin("tune", 0, 0, [])
    for line in lines:
        progress.log(line)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "tune", "st')  # killed while it wrote
    assert read_metrics(tmp_path) == [first, *lines]
    again = Progress(10, 1, job=tmp_path)
    again.so_far([first])
    again.begin("tune", 0, 5, lines[:2])  # the checkpoint is of step 5
    again.log(lines[2])
    assert read_metrics(tmp_path) == [first, *lines]


def test_only_the_first_process_shows_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(10, 1, shown=False, job=tmp_path)
    progress.begin("tune", 0, 0, [])
    progress.advance(1)
    progress.log({"stage": "tune", "step": 1, "loss": 1.0})
    progress.so_far([])
    progress.stopped()
    assert capsys.readouterr().err == "" and not list(tmp_path.iterdir())


def test_a_terminal_shows_one_bar_for_each_stretch(
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


def test_progress_is_light() -> None:
    assert heavy_after("import llmrec.loop.progress, llmrec.training.jobs.commands") == []
