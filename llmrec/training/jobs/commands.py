"""``llmrec jobs``: training runs in the background, each a folder.

    llmrec jobs start NAME RECIPE.yaml --base DIR --dataset DIR
    llmrec jobs list
    llmrec jobs show NAME --follow
    llmrec jobs stop NAME
    llmrec jobs resume NAME

A recipe with a `tune:` section runs llmrec tune, one with `prefer:` llmrec prefer. A job that was
stopped, failed or killed goes on from its last checkpoint, to the losses of one that was not.
Jobs are in --jobs DIR, or $LLMREC_JOBS, or runs/jobs.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

from llmrec.errors import ConfigError, LlmrecError
from llmrec.loop.status import STOP
from llmrec.training.jobs import table
from llmrec.training.jobs.job import (
    RESUMABLE,
    Job,
    Spec,
    all_jobs,
    create,
    jobs_folder,
    kind_of,
    open_job,
)
from llmrec.training.jobs.watch import THREADS, show_new, watch
from llmrec.training.jobs.watch import start as start_watching

_FOLDERS = ("base", "dataset")
_OF_PREFER = ("adapter", "impressions")


def start(argv: list[str]) -> None:
    """``llmrec jobs start``."""
    parser = _parser("start", "make a job and start it")
    parser.add_argument("recipe", type=Path, help="YAML with a `tune:` or `prefer:` section")
    parser.add_argument("--base", type=Path, required=True, help="folder of an expanded model")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--adapter", type=Path, help="where llmrec prefer starts")
    parser.add_argument("--impressions", type=Path, help="for llmrec prefer: lists that were shown")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="train in so many together")
    parser.add_argument("--accelerate", type=Path, help="a file of training/accelerate/")
    _add_foreground(parser)
    arguments = parser.parse_args(argv)
    root = jobs_folder(arguments.jobs)
    accelerate: Path | None = arguments.accelerate
    if accelerate is not None and not accelerate.is_file():
        raise ConfigError(f"--accelerate: {accelerate} is no file")
    spec = Spec(
        kind_of(arguments.recipe),
        _flags(arguments),
        arguments.processes,
        round(time.time(), 3),
        os.environ.get(THREADS, ""),
    )
    if spec.kind != "tune" and accelerate is not None:
        raise ConfigError(f"--accelerate: llmrec {spec.kind} trains in one process")
    lock = create(root, arguments.name, spec, arguments.recipe, accelerate)
    _run(open_job(root, arguments.name), lock, arguments.foreground)


def _flags(arguments: argparse.Namespace) -> list[str]:
    """The command's own flags, with absolute paths, so that they hold wherever it is resumed.

    Raises:
        ConfigError: for a path that is not there or a flag of another command.
    """
    flags = ["--seed", str(arguments.seed)]
    if kind_of(arguments.recipe) == "tune":
        for name in _OF_PREFER:
            if getattr(arguments, name) is not None:
                raise ConfigError(f"--{name}: is a flag of llmrec prefer, and {_A_TUNE}")
    for name in (*_FOLDERS, *_OF_PREFER):
        path: Path | None = getattr(arguments, name)
        if path is not None:
            if not path.exists():
                raise ConfigError(f"--{name}: {path} does not exist")
            flags += [f"--{name}", str(path.resolve())]
    return flags


_A_TUNE = "the recipe has a `tune:` section"


def resume(argv: list[str]) -> None:
    """``llmrec jobs resume``."""
    parser = _parser("resume", "go on with a job that was stopped, failed or killed")
    _add_foreground(parser)
    arguments = parser.parse_args(argv)
    job = open_job(jobs_folder(arguments.jobs), arguments.name)
    # what a killed job leaves behind ends at once, but not before it
    lock = job.lock(wait=5.0 if job.state == "killed" else 0.0)
    if job.state not in RESUMABLE:
        os.close(lock)
        raise LlmrecError(f"{job.folder}: job {job.name} is {job.state}; there is nothing to do")
    _run(job, lock, arguments.foreground)


def _run(job: Job, lock: int, foreground: bool) -> None:
    if not foreground:
        pid = start_watching(job, lock)
        print(f"job {job.name}: process {pid}; llmrec jobs show {job.name} --follow")
        return
    status = watch(job, lock, echo=True)
    print(f"job {job.name}: {status['state']}")
    if status["state"] == "stopped":
        raise SystemExit(128 + signal.SIGTERM)
    if status["state"] != "done":
        raise LlmrecError(f"{job.folder}: {status['error']}")


def stop(argv: list[str]) -> None:
    """``llmrec jobs stop``."""
    parser = _parser("stop", "end a job after its next step, with a checkpoint; again: kill it")
    parser.add_argument("--now", action="store_true", help="kill it, without a checkpoint")
    arguments = parser.parse_args(argv)
    job = open_job(jobs_folder(arguments.jobs), arguments.name)
    status = job.status()
    while status.get("state") == "queued":  # for as long as a process takes to start
        time.sleep(0.02)
        status = job.status()
    if status.get("state") != "running":
        raise LlmrecError(f"{job.folder}: job {job.name} does not run ({job.state})")
    if arguments.now or (job.folder / STOP).exists():
        os.kill(status["pid"], signal.SIGKILL)  # the command dies with it
        while job.state in ("queued", "running"):
            time.sleep(0.02)
        print(f"job {job.name}: killed")
    else:
        os.kill(status["pid"], signal.SIGTERM)
        print(f"job {job.name}: stops after its next step; the same again kills it")


def show(argv: list[str]) -> None:
    """``llmrec jobs show``."""
    parser = _parser("show", "all there is to know of a job")
    parser.add_argument("--follow", action="store_true", help="print its log until it ends")
    arguments = parser.parse_args(argv)
    job = open_job(jobs_folder(arguments.jobs), arguments.name)
    if arguments.follow:
        offset = 0
        while True:
            running = job.state in ("queued", "running")
            offset = show_new(job.log, offset) if job.log.exists() else 0
            if not running:
                break
            time.sleep(0.2)
    print(table.details(job))


def list_jobs(argv: list[str]) -> None:
    """``llmrec jobs list``."""
    parser = argparse.ArgumentParser(prog="llmrec jobs list", description="every job, in a table")
    _add_jobs(parser)
    root = jobs_folder(parser.parse_args(argv).jobs)
    print(table.overview(list(all_jobs(root))) or f"no jobs in {root}")


def _parser(command: str, purpose: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"llmrec jobs {command}", description=purpose)
    parser.add_argument("name", help="of the job")
    _add_jobs(parser)
    return parser


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=Path, help="where jobs are ($LLMREC_JOBS, runs/jobs)")


def _add_foreground(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--foreground", action="store_true", help="stay and show what it prints; Ctrl-C stops it"
    )
