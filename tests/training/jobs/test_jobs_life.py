"""The life of a job through the commands, in processes of its own."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from llmrec.cli import main
from llmrec.loop.status import read_metrics
from llmrec.training.jobs.job import lock_job, open_job

LOOP = {"max_steps": 60, "batch_size": 8, "save_steps": 7, "logging_steps": 2}
RECIPE: dict[str, Any] = {"rank": 4, "validation_users": 30, "beams": 10, "loop": LOOP}


def until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)
    return found


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMREC_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "jobs"


def start(place: Path, tmp_path: Path, *more: str, **loop: Any) -> int:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"tune": RECIPE | {"loop": LOOP | loop}}))
    flags = ["--base", str(place / "base"), "--dataset", str(place / "dataset")]
    return main(["jobs", "start", "night", str(recipe), *flags, *more])


def test_a_job_is_started_stopped_killed_and_resumed(
    place: Path, tmp_path: Path, jobs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert start(place, tmp_path) == 0
    job = open_job(jobs, "night")
    # nobody else can start it, and it goes on when this command has ended
    assert start(place, tmp_path) == 2 and main(["jobs", "resume", "night"]) == 2
    assert capfd.readouterr().err.count("job night runs, or is being started") == 2
    until(lambda: len(read_metrics(job.folder)) > 2)
    assert main(["jobs", "list"]) == 0
    assert "running" in capfd.readouterr().out
    assert main(["jobs", "stop", "night"]) == 0
    until(lambda: job.state == "stopped")
    status = job.status()
    assert 0 < status["stopped_at"] < 60 and not job.result.exists()
    assert main(["jobs", "stop", "night"]) == 2  # it does not run
    assert "job night does not run (stopped)" in capfd.readouterr().err

    known = len(read_metrics(job.folder))
    assert main(["jobs", "resume", "night"]) == 0
    until(lambda: len(read_metrics(job.folder)) > known + 1)
    os.kill(job.status()["pid"], signal.SIGKILL)
    until(lambda: job.state == "killed")

    assert main(["jobs", "resume", "night", "--foreground"]) == 0
    assert job.state == "done" and main(["jobs", "resume", "night"]) == 2
    assert main(["jobs", "show", "night", "--follow"]) == 0
    shown = capfd.readouterr().out
    assert "state    done" in shown and f"result   {job.result}" in shown
    assert "step     60/60" in shown and "stopped at step" in shown

    whole = tmp_path / "whole"
    flags = ["--base", str(place / "base"), "--dataset", str(place / "dataset")]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        main(["tune", str(job.folder / "recipe.yaml"), *flags, "--out", str(whole)])
    finally:
        torch.set_num_threads(threads)
    log = json.loads((whole / "log.json").read_text())
    assert log == json.loads((job.result / "log.json").read_text()) == read_metrics(job.folder)
    file = "adapter/adapter_model.safetensors"
    one, other = load_file(whole / file), load_file(job.result / file)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_job_of_two_processes_that_fails_says_why(
    place: Path, tmp_path: Path, jobs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Through ``accelerate launch``: both start, both stop, the error is that of the run."""
    more = {"learning_rate": 1e25, "warmup_ratio": 0.0, "save_steps": 1, "logging_steps": 1}
    assert start(place, tmp_path, "--processes", "2", "--foreground", **more) == 2
    assert "the loss stopped being a number" in capfd.readouterr().err
    job = open_job(jobs, "night")
    status = job.status()
    assert status["state"] == "failed"
    assert status["error"].startswith("training: the loss stopped being a number at step")
    assert read_metrics(job.folder)[0]["step"] == 0 and status["step"] >= 1


def test_a_job_that_is_told_to_stop_at_once_is_killed(
    place: Path, tmp_path: Path, jobs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for again in ([], ["--now"]):
        more = ["resume", "night"] if again else []
        assert (main(["jobs", *more]) if more else start(place, tmp_path)) == 0
        job = open_job(jobs, "night")
        assert main(["jobs", "stop", "night", *again]) == 0
        if not again:  # it is still importing, and asked a second time
            until((job.folder / "stop").exists)
            assert main(["jobs", "stop", "night"]) == 0
        assert job.state == "killed"
        assert "job night: killed" in capfd.readouterr().out
        os.close(lock_job(job.folder, wait=5.0))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--base", "nowhere"], "--base: nowhere does not exist"),
        (["--impressions", "."], "--impressions: is a flag of llmrec prefer"),
        (["--processes", "0"], "--processes: must be 1 or more"),
        (["--accelerate", "nowhere.yaml"], "--accelerate: nowhere.yaml is no file"),
    ],
)
def test_a_mistake_is_named_before_a_job_is_made(
    place: Path,
    tmp_path: Path,
    jobs: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    assert start(place, tmp_path, *flags) == 2
    assert message in capsys.readouterr().err and not jobs.exists()
