"""``llmrec jobs``: training runs in the background, each a folder.

    llmrec jobs start NAME RECIPE.yaml --base DIR --dataset DIR
    llmrec jobs list
    llmrec jobs show NAME --follow
    llmrec jobs stop NAME
    llmrec jobs resume NAME

A recipe with a `tune:` section runs llmrec tune, one with `prefer:` llmrec prefer. A job that was
stopped, failed or killed is resumed from its last checkpoint, to the losses of one that was not.
Jobs are in --jobs DIR, or $LLMREC_JOBS, or runs/jobs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from llmrec.errors import ConfigError, LlmrecError
from llmrec.loop.status import STOP
from llmrec.training.jobs import table
from llmrec.training.jobs.job import (
    RESUMABLE,
    Job,
    JobSpec,
    create,
    job_names,
    jobs_folder,
    kind_of,
    lock_job,
    open_job,
)
from llmrec.training.jobs.supervisor import THREADS, print_new, start_supervisor, supervise


def start(
    name: str,
    recipe: Path,
    /,
    base: Path,
    dataset: Path,
    adapter: Path | None = None,
    features: Path | None = None,
    impressions: Path | None = None,
    seed: int = 0,
    processes: int = 1,
    accelerate: Path | None = None,
    jobs: Path | None = None,
    foreground: bool = False,
) -> None:
    """Make a job and start it.

    Args:
        name: of the job.
        recipe: YAML with a `tune:` or `prefer:` section.
        base: folder of an expanded model.
        dataset: folder of llmrec ingest.
        adapter: adapter to go on from.
        features: folder of llmrec embed, for items that the base of llmrec tune does not know.
        impressions: lists that were shown, for llmrec prefer.
        seed: of the run.
        processes: train in so many processes.
        accelerate: a file of training/accelerate/.
        jobs: folder of all jobs ($LLMREC_JOBS, runs/jobs).
        foreground: stay and show what it prints; Ctrl-C stops it.

    Raises:
        ConfigError: for a path that is not there or a flag of the other command.
    """
    root, kind = jobs_folder(jobs), kind_of(recipe)
    if accelerate is not None and not accelerate.is_file():
        raise ConfigError(f"--accelerate: {accelerate} is no file")
    paths = {"base": base, "dataset": dataset, "adapter": adapter}
    own = {"features": ("tune", features), "impressions": ("prefer", impressions)}
    for flag, (command, path) in own.items():
        if path is not None and command != kind:
            raise ConfigError(
                f"--{flag}: is a flag of llmrec {command}, and the recipe has a `{kind}:` section"
            )
        paths[flag] = path
    flags = ["--seed", str(seed)]
    for flag, path in paths.items():
        if path is not None:
            if not path.exists():
                raise ConfigError(f"--{flag}: {path} does not exist")
            flags += [f"--{flag}", str(path.resolve())]  # holds wherever the job is resumed
    threads = os.environ.get(THREADS, "")
    spec = JobSpec(kind, flags, processes, round(time.time(), 3), threads)
    if kind != "tune" and accelerate is not None:
        raise ConfigError(f"--accelerate: llmrec {kind} trains in one process")
    lock = create(root, name, spec, recipe, accelerate)
    _run(open_job(root, name), lock, foreground)


def resume(name: str, /, jobs: Path | None = None, foreground: bool = False) -> None:
    """Resume a job that was stopped, failed or killed.

    Args:
        name: of the job.
        jobs: folder of all jobs ($LLMREC_JOBS, runs/jobs).
        foreground: stay and show what it prints; Ctrl-C stops it.
    """
    job = open_job(jobs_folder(jobs), name)
    # the process of a job that has just ended, and what a killed one leaves behind, end after it
    lock = lock_job(job.folder, wait=5.0 if job.state in RESUMABLE else 0.0)
    if job.state not in RESUMABLE:
        os.close(lock)
        raise LlmrecError(f"{job.folder}: job {job.name} is {job.state}; there is nothing to do")
    _run(job, lock, foreground)


def _run(job: Job, lock: int, foreground: bool) -> None:
    if not foreground:
        pid = start_supervisor(job, lock)
        print(f"job {job.name}: process {pid}; llmrec jobs show {job.name} --follow")
        return
    status = supervise(job, lock, echo=True)
    print(f"job {job.name}: {status['state']}")
    if status["state"] == "stopped":
        raise SystemExit(128 + signal.SIGTERM)
    if status["state"] != "done":
        raise LlmrecError(f"{job.folder}: {status['error']}")


def stop(name: str, /, jobs: Path | None = None, now: bool = False) -> None:
    """End a job after its next step, with a checkpoint; once more: kill it.

    Args:
        name: of the job.
        jobs: folder of all jobs ($LLMREC_JOBS, runs/jobs).
        now: kill it, without a checkpoint.
    """
    job = open_job(jobs_folder(jobs), name)
    status = job.status()
    while status.get("state") == "queued":  # for as long as a process takes to start
        time.sleep(0.02)
        status = job.status()
    if status.get("state") != "running":
        raise LlmrecError(f"{job.folder}: job {job.name} does not run ({job.state})")
    if now or (job.folder / STOP).exists():
        os.kill(status["pid"], signal.SIGKILL)  # the command dies with it
        while job.is_active:
            time.sleep(0.02)
        print(f"job {job.name}: killed")
    else:
        os.kill(status["pid"], signal.SIGTERM)
        print(f"job {job.name}: stops after its next step; the same again kills it")


def show(name: str, /, jobs: Path | None = None, follow: bool = False) -> None:
    """Show the details of a job.

    Args:
        name: of the job.
        jobs: folder of all jobs ($LLMREC_JOBS, runs/jobs).
        follow: print its log until it ends.
    """
    job = open_job(jobs_folder(jobs), name)
    if follow:
        offset, active = 0, True
        while active:
            active = job.is_active
            offset = print_new(job.log, offset) if job.log.exists() else 0
            time.sleep(0.2 if active else 0.0)
    print(table.details(job))


def list_jobs(jobs: Path | None = None) -> None:
    """List every job in a table, and name those that cannot be read.

    Args:
        jobs: folder of all jobs ($LLMREC_JOBS, runs/jobs).
    """
    root = jobs_folder(jobs)
    known, damaged = [], []
    for name in job_names(root):
        try:
            job = open_job(root, name)
            known.append((job, job.status()))
        except LlmrecError as error:
            damaged.append(error)
    if known or not damaged:
        print(table.overview(known) or f"no jobs in {root}")
    for problem in damaged:
        print(f"llmrec: warning: {problem}", file=sys.stderr)
