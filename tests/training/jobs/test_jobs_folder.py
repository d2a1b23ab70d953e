"""A job's folder: names, what it runs, who has it, and whether its process is still there."""

import fcntl
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.loop.process import same_process, started
from llmrec.loop.status import read_metrics, read_status, write_status
from llmrec.training.jobs.job import Job, JobSpec, create, jobs_folder, kind_of, lock_job, open_job

RECIPES = Path(__file__).parents[3] / "training"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("tune: {rank: 2}\n")
    return path


def make(root: Path, name: str, recipe: Path, **changes: Any) -> Job:
    spec = JobSpec("tune", ["--base", "/b"], **changes)
    os.close(create(root, name, spec, recipe, None))
    return open_job(root, name)


@pytest.mark.parametrize("name", ["", "a b", "../up", ".hidden", "a/b", "-x", "é", "x" * 101])
def test_a_name_that_no_folder_should_have(tmp_path: Path, recipe: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"name: .* cannot be a job's"):
        make(tmp_path / "jobs", name, recipe)
    assert not (tmp_path / "jobs").exists()


def test_an_unknown_name_is_told_the_nearest(tmp_path: Path, recipe: Path) -> None:
    with pytest.raises(ConfigError, match="no job 'night'; there is none"):
        open_job(tmp_path, "night")
    make(tmp_path, "night", recipe)
    with pytest.raises(ConfigError, match="no job 'nihgt'; did you mean 'night'"):
        open_job(tmp_path, "nihgt")
    with pytest.raises(ConfigError, match="no job 'zzz'; there is night"):
        open_job(tmp_path, "zzz")


def test_a_name_is_taken_once(tmp_path: Path, recipe: Path) -> None:
    job = make(tmp_path, "night", recipe)
    with pytest.raises(
        ConfigError, match=r"a job night \(killed\); resume it with llmrec jobs resume"
    ):
        make(tmp_path, "night", recipe)
    write_status(job.folder, state="done")
    with pytest.raises(ConfigError, match=r"a job night \(done\); take another name"):
        make(tmp_path, "night", recipe)


def test_a_start_that_was_killed_leaves_the_name_free(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("llmrec.training.jobs.job.asdict", lambda _: 1 / 0)  # before job.json
        with pytest.raises(ZeroDivisionError):
            make(tmp_path, "night", recipe)
    recipe.write_text("tune: {rank: 9}\n")
    job = make(tmp_path, "night", recipe)
    assert (job.folder / "recipe.yaml").read_text() == "tune: {rank: 9}\n"
    assert len({path.stat().st_mode for path in job.folder.iterdir()}) == 1


def test_of_many_starts_at_one_time_one_is_let_in(tmp_path: Path, recipe: Path) -> None:
    locks: list[int] = []
    refused: list[str] = []
    gate = threading.Barrier(8)

    def begin() -> None:
        gate.wait()
        try:
            locks.append(create(tmp_path, "night", JobSpec("tune", []), recipe, None))
        except LlmrecError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(locks) == 1 and len(refused) == 7
    assert all("job night runs, or is being started" in message for message in refused)
    job = open_job(tmp_path, "night")
    with pytest.raises(LlmrecError, match="runs, or is being started"):
        lock_job(job.folder, wait=0.1)
    os.close(locks[0])
    os.close(lock_job(job.folder))


def test_a_lock_is_held_as_long_as_a_child_has_it(tmp_path: Path, recipe: Path) -> None:
    job = make(tmp_path, "night", recipe)
    lock = lock_job(job.folder)
    child = subprocess.Popen(["sleep", "30"], pass_fds=[lock])
    os.close(lock)
    with pytest.raises(LlmrecError, match="runs, or is being started"):
        lock_job(job.folder)
    child.kill()
    child.wait()
    os.close(lock_job(job.folder))


def test_the_command_is_the_one_that_was_asked_for(tmp_path: Path, recipe: Path) -> None:
    job = make(tmp_path, "night", recipe)
    out = ["--base", "/b", "--out", str(tmp_path / "night" / "result")]
    own = str(tmp_path / "night" / "recipe.yaml")
    assert job.command() == [sys.executable, "-m", "llmrec", "tune", own, *out]
    recipe.write_text("changed: {}\n")
    assert Path(own).read_text() == "tune: {rank: 2}\n"
    several = make(tmp_path, "two", Path(own), processes=2).command()
    assert several[1:3] == ["-m", "accelerate.commands.launch"]
    assert several[several.index("--num_processes") + 1] == "2"
    assert several[several.index("llmrec") - 1] == "-m"


def test_a_config_of_accelerate_is_kept_with_the_job(tmp_path: Path, recipe: Path) -> None:
    config = RECIPES / "accelerate" / "fsdp.yaml"
    os.close(create(tmp_path, "night", JobSpec("tune", []), recipe, config))
    command = open_job(tmp_path, "night").command()
    own = tmp_path / "night" / "accelerate.yaml"
    assert command[command.index("--config_file") + 1] == str(own)
    assert own.read_text() == config.read_text() and "--num_processes" not in command


def test_the_kind_is_told_by_the_recipe(tmp_path: Path) -> None:
    assert kind_of(RECIPES / "tune_demo.yaml") == "tune"
    path = tmp_path / "recipe.yaml"
    for text, message in (
        ("train: {}", "a job needs one section, `tune:` or `prefer:`"),
        ("tune: {}\nprefer: {}", "and not both"),
        ("tune: {rnak: 3}", "unknown key 'rnak'; did you mean 'rank'"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            kind_of(path)
    path.write_text("prefer: {}")
    assert kind_of(path) == "prefer"


def test_a_spec_that_makes_no_sense_is_named() -> None:
    for changes, message in (
        ({"kind": "train"}, "kind: 'train' is not one of tune, prefer"),
        ({"processes": 0}, "--processes: must be 1 or more"),
        ({"kind": "prefer", "processes": 2}, "llmrec prefer trains in one process"),
    ):
        with pytest.raises(ConfigError, match=message):
            JobSpec(**({"kind": "tune", "arguments": []} | changes))


def test_a_damaged_file_is_named(tmp_path: Path, recipe: Path) -> None:
    job = make(tmp_path, "night", recipe)
    (job.folder / "status.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"night/status.json: cannot be read"):
        job.status()
    (job.folder / "job.json").write_text("[")
    with pytest.raises(ArtifactError, match=r"night/job.json: cannot be read"):
        open_job(tmp_path, "night")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"status: expected a mapping, got \[\]"),
        ('"running"', "status: expected a mapping"),
        ('{"state": "asleep"}', "state: 'asleep' is not one of queued"),
        ('{"state": ["running"]}', "is not one of queued"),
        ('{"state": "running", "pid": -1, "process_started": 1.0}', "pid: must not be negative"),
        ('{"state": "running", "pid": "7"}', "pid: expected int, got '7'"),
        ('{"began": "yesterday"}', "began: expected float"),
        ('{"began": NaN}', "began: must be"),
        ('{"eta": Infinity}', "eta: must be"),
        ('{"step": 1.5, "total": 3}', "step: expected int"),
        ('{"loss": "high"}', "loss: expected a number, got 'high'"),
        ("[" * 100_000, "nested deeper than 64 levels"),
    ],
)
def test_a_status_of_another_type_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "status.json").write_text(content)
    with pytest.raises(ArtifactError, match=rf"^{tmp_path}/status\.json: .*{message}") as caught:
        read_status(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_that_has_diverged_has_a_status(tmp_path: Path) -> None:
    write_status(tmp_path, state="running", loss=float("nan"), eta=None)
    assert math.isnan(read_status(tmp_path)["loss"])


@pytest.mark.parametrize("content", ["{\n", "[]\n", '{"step": 1}\n[1]\n', "[" * 100_000 + "\n"])
def test_damaged_metrics_are_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl: (cannot be read|has a line)"):
        read_metrics(tmp_path)


def test_where_jobs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMREC_JOBS", raising=False)
    assert jobs_folder(None) == Path("runs/jobs")
    monkeypatch.setenv("LLMREC_JOBS", "/elsewhere")
    assert jobs_folder(None) == Path("/elsewhere")
    assert jobs_folder(Path("here")) == Path("here")


def test_a_status_is_whole_for_everyone_who_reads(tmp_path: Path) -> None:
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set():
            status = read_status(tmp_path)
            if status:
                assert status["filler"] == "x" * 5000
                seen.add(status["step"])

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(200):
        write_status(tmp_path, step=step, filler="x" * 5000)
    done.set()
    reader.join()
    assert len(seen) > 1
    assert write_status(tmp_path, state="done")["step"] == 199, "other fields stay"


def test_a_line_that_is_being_written_is_no_metric(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step"')
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_a_number_alone_does_not_tell_a_process(tmp_path: Path, recipe: Path) -> None:
    child = subprocess.Popen(["sleep", "30"])
    start = started(child.pid)
    assert start is not None and same_process(child.pid, start)
    assert not same_process(child.pid, start - 60) and not same_process(None, None)
    job = make(tmp_path, "night", recipe)
    write_status(job.folder, state="running", pid=child.pid, process_started=start)
    assert job.state == "running"
    write_status(job.folder, process_started=start - 60)  # the number was given away again
    assert job.state == "killed" and job.status()["error"] == "its process is gone"
    write_status(job.folder, process_started=start)
    child.kill()
    end = time.monotonic() + 10
    while job.state == "running":  # dead, and not yet noticed by its parent
        assert time.monotonic() < end
    assert child.returncode is None and started(child.pid) is None
    child.wait()
    assert job.state == "killed"
    assert json.loads((job.folder / "status.json").read_text())["state"] == "running"


@pytest.mark.parametrize("state", ["queued", "running", "stopped", "failed", "done"])
def test_a_job_that_was_going_on_is_killed_once_its_process_is_gone(
    tmp_path: Path, recipe: Path, state: str
) -> None:
    job = make(tmp_path, "night", recipe)
    own = started(os.getpid())
    write_status(job.folder, state=state, pid=os.getpid(), process_started=own)
    assert job.state == state
    write_status(job.folder, process_started=0.0)
    assert job.state == ("killed" if state in ("queued", "running") else state)
    assert job.is_active is False


def test_a_process_with_spaces_and_brackets_in_its_name(tmp_path: Path) -> None:
    program = tmp_path / "a ) b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "30"])
    try:
        assert same_process(child.pid, started(child.pid))
    finally:
        child.kill()
        child.wait()


def test_the_lock_is_one_of_flock(tmp_path: Path, recipe: Path) -> None:
    job = make(tmp_path, "night", recipe)
    with (job.folder / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(LlmrecError, match="runs, or is being started"):
            lock_job(job.folder)
