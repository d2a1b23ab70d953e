"""A run that was killed ends as one that was not."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefer_runs import counts_of, log_of, tiny_prefer
from safetensors.torch import load_file

from llmrec.loop.graceful_stop import Stopped
from llmrec.training.preference import loop, training_run
from llmrec.training.preference.run import run

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from llmrec.training.preference import loop
from prefer_runs import tiny_prefer
from llmrec.training.preference.run import run

def kill(self, args, state, control, **kwargs):
    if state.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

loop._LogWhereSaved.on_step_begin = kill
run(tiny_prefer({method!r}, {loop!r}), *map(Path, {place!r}))
"""
LOOP = {"max_steps": 7, "save_steps": 2, "logging_steps": 3}


def same(one: Path, other: Path) -> bool:
    """Whether two runs left the same log, measurements and weights."""
    first, second = (load_file(f / "adapter" / "adapter_model.safetensors") for f in (one, other))
    return log_of(one) == log_of(other) and all(v.equal(second[n]) for n, v in first.items())


def test_a_killed_run_ends_with_the_same_log_and_weights(home: Path, tmp_path: Path) -> None:
    place, start = (home / "untied", home / "timed"), home / "untied-adapter"
    run(tiny_prefer("dpo", LOOP), *place, tmp_path / "whole", start)
    folders = [str(folder) for folder in (*place, tmp_path / "killed", start)]
    code = KILLED.format(path=sys.path, step=5, method="dpo", loop=LOOP, place=folders)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    work = tmp_path / ".killed.part" / "work" / "dpo"
    assert sorted(p.name for p in work.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    run(tiny_prefer("dpo", LOOP), *place, tmp_path / "killed", start)
    assert same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("steps", [[1], [5, 6]])
def test_an_interrupted_run_draws_what_it_would_have_drawn(
    home: Path, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first checkpoint, between two, and again after it went on."""
    place, start = (home / "untied", home / "timed"), home / "untied-adapter"
    run(tiny_prefer("grpo", LOOP), *place, tmp_path / "whole", start)

    def interrupt(_: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if steps and state.global_step == steps[0]:
            steps.pop(0)
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._LogWhereSaved, "on_step_begin", interrupt)
    for _ in steps[:]:
        with pytest.raises(KeyboardInterrupt):
            run(tiny_prefer("grpo", LOOP), *place, tmp_path / "stopped", start)
    run(tiny_prefer("grpo", LOOP), *place, tmp_path / "stopped", start)
    assert steps == [] and same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_a_run_that_was_trained_has_only_to_be_written(
    home: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_prefer(method, {"max_steps": 4, "save_steps": 2})
    place, start = (home / "atomic", home / "dataset"), home / "atomic-adapter"
    run(config, *place, tmp_path / "whole", start)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training_run, "write_adapter", interrupted)
        run(config, *place, tmp_path / "out", start)
    assert not (tmp_path / "out").exists()
    run(config, *place, tmp_path / "out", start)
    assert same(tmp_path / "whole", tmp_path / "out")


def test_a_run_that_is_asked_to_stop_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, start = (home / "atomic", home / "dataset"), home / "atomic-adapter"
    job = tmp_path / "job"
    job.mkdir()
    (job / "stop").touch()
    monkeypatch.setenv("LLMREC_JOB", str(job))
    with pytest.raises(Stopped, match="stopped at step 1 of 6"):
        run(tiny_prefer(), *place, tmp_path / "out", start)
    assert not (tmp_path / "out").exists()
    (job / "stop").unlink()
    run(tiny_prefer(), *place, tmp_path / "out", start)
    monkeypatch.delenv("LLMREC_JOB")
    run(tiny_prefer(), *place, tmp_path / "whole", start)
    assert same(tmp_path / "whole", tmp_path / "out")
    assert counts_of(tmp_path / "out")["reward"] == counts_of(tmp_path / "whole")["reward"]
    assert (job / "metrics.jsonl").read_text().count("\n") == 6
