"""What watches a job notices how its command ended, with real processes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmrec.errors import ConfigError
from llmrec.loop.status import write_status
from llmrec.training.jobs.commands import list_jobs, show
from llmrec.training.jobs.job import Job, JobSpec, create, lock_job, open_job
from llmrec.training.jobs.supervisor import supervise, verdict


def job_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> tuple[Job, int]:
    """A job whose command is a script of Python instead."""
    (tmp_path / "recipe.yaml").write_text("tune: {}\n")
    lock = create(tmp_path / "jobs", "night", JobSpec("tune", []), tmp_path / "recipe.yaml", None)
    monkeypatch.setattr(Job, "command", lambda _: [sys.executable, "-c", script])
    return open_job(tmp_path / "jobs", "night"), lock


@pytest.mark.parametrize(
    ("script", "state", "error"),
    [
        ("print('fine')", "done", None),
        ("import sys; sys.exit('llmrec: error: rank: must be 1')", "failed", "rank: must be 1"),
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "failed", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed", "ended by SIGKILL; if nobody did that"),
        ("import os; os.kill(os.getpid(), 11)", "killed", "ended by SIGSEGV"),
    ],
)
def test_how_a_command_ended_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    state: str,
    error: str | None,
) -> None:
    job, lock = job_of(tmp_path, monkeypatch, script)
    status = supervise(job, lock)
    assert status["state"] == job.state == state
    assert (status["error"] or "").startswith(error or "")
    os.close(lock_job(job.folder))  # it has been let go
    show("night", jobs=tmp_path / "jobs")
    shown = capsys.readouterr().out
    assert f"state    {state}" in shown and (error is None or f"error    {error}" in shown)


def test_an_earlier_try_does_not_tell_what_went_wrong_in_this(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, lock = job_of(tmp_path, monkeypatch, "import sys; sys.exit('llmrec: error: first')")
    assert supervise(job, lock)["error"] == "first"
    write_status(job.folder, stopped_at=7)
    monkeypatch.setattr(Job, "command", lambda _: [sys.executable, "-c", "raise OSError(5)"])
    assert supervise(job, lock_job(job.folder))["error"] == "OSError: 5"
    assert job.state == "failed" and job.log.read_text().count("error: first") == 1


def test_being_asked_to_stop_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = (
        "import os, time, pathlib; from llmrec.loop.status import write_status\n"
        "job = pathlib.Path(os.environ['LLMREC_JOB'])\n"
        "while not (job / 'stop').exists(): time.sleep(0.01)\n"
        "write_status(job, stopped_at=3); raise SystemExit(143)"
    )
    job, lock = job_of(tmp_path, monkeypatch, waiting)
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
        timer.start()
        status = supervise(job, lock)
        timer.join()
        assert status["state"] == "stopped" and status["stopped_at"] == 3
        assert signal.getsignal(number) is before
        lock = lock_job(job.folder)
    os.close(lock)


def test_a_command_dies_with_who_watches_it(tmp_path: Path) -> None:
    """A job that is killed leaves nothing running, so that it can be resumed."""
    script = (
        "import os, sys; from pathlib import Path; from llmrec.training.jobs import job\n"
        "from llmrec.training.jobs.supervisor import supervise\n"
        "job.Job.command = lambda _: ['sleep', '60']\n"
        "place = Path(sys.argv[1])\n"
        "(place / 'recipe.yaml').write_text('tune: {}')\n"
        "lock = job.create(place, 'night', job.JobSpec('tune', []), place / 'recipe.yaml', None)\n"
        "supervise(job.open_job(place, 'night'), lock)"
    )
    watcher = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    while not (tmp_path / "night" / "status.json").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    job = open_job(tmp_path, "night")
    assert job.state == "running"
    watcher.kill()
    watcher.wait()
    assert job.state == "killed"
    os.close(lock_job(job.folder, wait=5.0))  # the command held it as well


def test_threads_are_those_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, lock = job_of(tmp_path, monkeypatch, "import os; print(os.environ.get('OMP_NUM_THREADS'))")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    supervise(job, lock)
    assert job.log.read_text() == "None\n", "there were none when the job was made"
    threads = Job(job.folder, JobSpec("tune", [], threads="3"))
    supervise(threads, lock_job(threads.folder))
    assert job.log.read_text() == "None\n3\n"


def test_what_is_printed_can_be_shown_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job, lock = job_of(tmp_path, monkeypatch, "print('one'); print('two')")
    job.folder.joinpath("log.txt").write_text("of an earlier try\n")
    supervise(job, lock, echo=True)
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_stop_counts_only_for_a_command_that_did() -> None:
    assert verdict(143, {"stopped_at": 4}, "") == ("stopped", None)
    assert verdict(0, {"stopped_at": 4}, "") == ("done", None)
    assert verdict(-15, {}, "")[0] == "killed"
    assert verdict(2, {}, "") == ("failed", "exit status 2")


def test_jobs_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMREC_JOBS", str(tmp_path / "jobs"))
    list_jobs()
    assert capsys.readouterr().out == f"no jobs in {tmp_path / 'jobs'}\n"
    job, lock = job_of(tmp_path, monkeypatch, "")
    os.close(lock)
    from llmrec.loop.process import started

    own = {"pid": os.getpid(), "process_started": started(os.getpid())}
    where = {"step": 40, "total": 1300, "loss": 1.25, "eta": 75.0, "began": time.time()}
    write_status(job.folder, state="running", **own, **where)
    list_jobs()
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "kind", "state", "step", "loss", "time", "left", "started"]
    assert line.split()[:6] == ["night", "tune", "running", "40/1,300", "1.2500", "1:15"]
    write_status(job.folder, state="failed", error="it broke")
    list_jobs()
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[2:6] == ["failed", "40/1,300", "1.2500", "-"]


def test_one_damaged_job_or_a_strange_folder_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job, lock = job_of(tmp_path, monkeypatch, "")
    os.close(lock)
    for name, file, content in (
        ("no-json", "job.json", "{"),
        ("no-mapping", "job.json", "[]"),
        ("no-kind", "job.json", '{"kind": "bake", "arguments": []}'),
        ("no-status", "status.json", "[]"),
        ("my job", "job.json", "{}"),
    ):
        shutil.copytree(job.folder, job.folder.parent / name)
        (job.folder.parent / name / file).write_text(content)
    list_jobs(job.folder.parent)
    shown = capsys.readouterr()
    _, line = shown.out.splitlines()
    assert line.split()[:3] == ["night", "tune", "killed"]
    warnings = shown.err.splitlines()
    assert len(warnings) == 5 and all(w.startswith("llmrec: warning: ") for w in warnings)
    for name in ("no-json", "no-mapping", "no-kind", "no-status", "'my job'"):
        assert sum(name in warning for warning in warnings) == 1
    with pytest.raises(ConfigError, match="no job 'nigth'; did you mean 'night'"):
        open_job(job.folder.parent, "nigth")


def test_a_status_without_all_its_fields_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job, lock = job_of(tmp_path, monkeypatch, "")
    os.close(lock)
    write_status(job.folder, step=3, elapsed=1.0, examples_per_second=2.0, eta=4.0)
    list_jobs(job.folder.parent)
    assert capsys.readouterr().out.splitlines()[1].split()[2:4] == ["killed", "-"]
    show("night", jobs=job.folder.parent)
    assert "2.0 examples/s" in capsys.readouterr().out
