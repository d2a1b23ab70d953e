"""How far a run is: on a terminal, in a log, in the files of a job."""

from pathlib import Path

import pytest
from test_import_light import heavy_after

from llmrec.loop.progress import RunProgress
from llmrec.loop.status import read_metrics, read_status


class Clock:
    """Seconds that pass when set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_left_is_that_of_the_steps_made_in_this_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    progress = RunProgress(100, 8, job=tmp_path, clock=clock)
    clock.now += 50  # opening the model
    progress.begin_phase("tune", 20, 10, [])  # 10 of its steps were made before
    assert progress.seconds_left is None
    for step in (11, 12):
        clock.now += 3
        progress.advance(step)
    clock.now += 1000  # a validation
    progress.restart_clock()
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
    progress = RunProgress(10, 1, job=tmp_path)
    progress.set_log([first])
    progress.begin_phase("tune", 0, 0, [])
    for line in lines:
        progress.log(line)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "tune", "st')  # killed while it wrote
    assert read_metrics(tmp_path) == [first, *lines]
    again = RunProgress(10, 1, job=tmp_path)
    again.set_log([first])
    again.begin_phase("tune", 0, 5, lines[:2])  # the checkpoint is of step 5
    again.log(lines[2])
    assert read_metrics(tmp_path) == [first, *lines]


def test_only_the_first_process_shows_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = RunProgress(10, 1, enabled=False, job=tmp_path)
    progress.begin_phase("tune", 0, 0, [])
    progress.advance(1)
    progress.log({"stage": "tune", "step": 1, "loss": 1.0})
    progress.set_log([])
    progress.note_stopped()
    assert capsys.readouterr().err == "" and not list(tmp_path.iterdir())


def test_progress_is_light() -> None:
    assert heavy_after("import llmrec.loop.progress, llmrec.training.jobs.commands") == []


def test_a_log_gets_a_line_each_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = RunProgress(40, 8, clock=clock)
    progress.begin_phase("tune", 0, 0, [])
    for step in range(1, 9):
        clock.now += 4
        progress.advance(step)
    said = capsys.readouterr().err.splitlines()
    assert said == ["tune: step 3/40  2:28 left", "tune: step 6/40  2:16 left"]
