"""A job: a folder with a command of llmrec that trains, and all that came of it.

::

    JOBS/NAME/
      recipe.yaml        as it was when the job was made
      job.json           the command line
      status.json        state, step, loss, time left
      log.txt            what the command printed
      metrics.jsonl      one line per logging step
      .result.part/      while it runs: checkpoints in work/
      result/            what the command wrote
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from llmrec.config import build, check_ranges, load_yaml, shown
from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.files import write_whole
from llmrec.jsonl import read_json
from llmrec.loop.process import same_process
from llmrec.loop.status import State, read_status
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.tune.settings import TuneConfig

# commands that a job may run, and the settings in the section of this name of their recipes
KINDS = {"tune": TuneConfig, "prefer": PreferConfig}
RECIPE, SPEC, LOG = "recipe.yaml", "job.json", "log.txt"
RESULT, LOCK, ACCELERATE = "result", "lock", "accelerate.yaml"
RESUMABLE = ("stopped", "failed", "killed")


def jobs_folder(given: Path | None) -> Path:
    """Where jobs are: as given, else ``$LLMREC_JOBS``, else ``runs/jobs``."""
    return given or Path(os.environ.get("LLMREC_JOBS") or "runs/jobs")


@dataclass(frozen=True)
class JobSpec:
    """What a job runs.

    Attributes:
        kind: the command: ``tune`` or ``prefer``.
        arguments: its flags, without the recipe and ``--out``; paths are absolute.
        processes: how many train in parallel.
        created: when the job was made, in seconds since 1970.
        threads: ``OMP_NUM_THREADS`` at that time, empty where it was not set; sums over another
            number of threads round otherwise.
    """

    kind: str
    arguments: list[str]
    processes: int = 1
    created: float = 0.0
    threads: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind: {shown(self.kind)} is not one of {', '.join(KINDS)}")
        check_ranges(self, "[1, inf)", "processes", prefix="--")
        if self.kind != "tune" and self.processes > 1:
            raise ConfigError(f"--processes: llmrec {self.kind} trains in one process")


@dataclass(frozen=True)
class Job:
    """A job's folder, opened."""

    folder: Path
    spec: JobSpec

    @property
    def name(self) -> str:
        """Of the job, as given to ``llmrec jobs``."""
        return self.folder.name

    @property
    def result(self) -> Path:
        """Where the result is, or will be."""
        return self.folder / RESULT

    @property
    def log(self) -> Path:
        """What the command printed, all tries one after the other."""
        return self.folder / LOG

    def status(self) -> dict[str, Any]:
        """Its last status, with the state corrected where its process is gone."""
        status = read_status(self.folder)
        if status.get("state") in ("queued", "running") and not same_process(
            status.get("pid"), status.get("process_started")
        ):
            status |= {"state": "killed", "error": "its process is gone"}
        return status

    @property
    def state(self) -> State:
        """What it is doing."""
        return cast(State, self.status().get("state", "killed"))

    @property
    def is_active(self) -> bool:
        """Whether it runs or is about to."""
        return self.state in ("queued", "running")

    def command(self) -> list[str]:
        """The command line, under ``accelerate launch`` where several processes train."""
        launch = [sys.executable, "-m"]
        config = self.folder / ACCELERATE
        if config.is_file() or self.spec.processes > 1:
            launch += ["accelerate.commands.launch", "--main_process_port", "0"]
            if config.is_file():
                launch += ["--config_file", str(config)]
            else:
                launch += ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"]
                launch += ["--dynamo_backend", "no"]
            if self.spec.processes > 1:
                launch += ["--num_processes", str(self.spec.processes)]
            launch.append("-m")
        recipe, out = self.folder / RECIPE, ["--out", str(self.result)]
        return [*launch, "llmrec", self.spec.kind, str(recipe), *self.spec.arguments, *out]


def create(root: Path, name: str, spec: JobSpec, recipe: Path, accelerate: Path | None) -> int:
    """Make a job's folder.

    Returns:
        the descriptor of its lock.

    Raises:
        ConfigError: if the name cannot be one, or the job exists.
        LlmrecError: if somebody is making it right now.
    """
    check_name(name)
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_job(folder)
    try:
        if (folder / SPEC).is_file():
            state = open_job(root, name).state
            again = f"resume it with llmrec jobs resume {name}, or " if state in RESUMABLE else ""
            raise ConfigError(
                f"{folder}: there is a job {name} ({state}); {again}take another name"
            )
        write_whole(folder / RECIPE, recipe.read_bytes())
        if accelerate is not None:
            write_whole(folder / ACCELERATE, accelerate.read_bytes())
        # the last one: from here on there is a job
        write_whole(folder / SPEC, json.dumps(asdict(spec), indent=1) + "\n")
    except BaseException:
        os.close(lock)
        raise
    return lock


def check_name(name: str) -> None:
    """A job's name is a folder's, and must need no quotes.

    Raises:
        ConfigError: if it is no such name.
    """
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ConfigError(
            f"name: {name!r} cannot be a job's; take up to 100 letters, digits, dots, hyphens and "
            "underscores, a letter or digit first"
        )


def open_job(root: Path, name: str) -> Job:
    """Open a job.

    Raises:
        ConfigError: if there is none of this name.
        ArtifactError: if its ``job.json`` is damaged.
    """
    check_name(name)
    folder = (root / name).absolute()
    if not (folder / SPEC).is_file():
        known = job_names(root)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known) or 'none'}"
        raise ConfigError(f"{root}: no job {name!r}; {hint}")
    path = folder / SPEC
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    return Job(folder, build(JobSpec, raw, str(path)))


def job_names(root: Path) -> list[str]:
    """The folders of jobs in a folder, whole or not."""
    return sorted(path.parent.name for path in root.glob(f"*/{SPEC}"))


def kind_of(recipe: Path) -> str:
    """The command that a recipe is for; its settings are checked.

    Raises:
        ConfigError: if it has no section of one, or of several, or a setting is wrong.
    """
    sections = load_yaml(recipe)
    kinds = [kind for kind in KINDS if isinstance(sections.get(kind), dict)]
    if len(kinds) != 1:
        wanted = " or ".join(f"`{kind}:`" for kind in KINDS)
        raise ConfigError(f"{recipe}: a job needs one section, {wanted}, and not both")
    (kind,) = kinds
    build(KINDS[kind], sections[kind], f"{recipe}: {kind}")
    return kind


def lock_job(folder: Path, wait: float = 0.0) -> int:
    """Take a job, so that nobody else can start it; as long as the descriptor is open.

    Args:
        wait: seconds to try, for a process that is just ending.

    Raises:
        LlmrecError: if another process has it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise LlmrecError(
                    f"{folder}: job {folder.name} runs, or is being started; see "
                    f"llmrec jobs show {folder.name}"
                ) from None
            time.sleep(0.05)
