"""A run that was stopped ends as one that was not."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tune_runs import log_of, tiny_tune, weights

from llmrec.cli import run_command
from llmrec.loop.graceful_stop import Stopped
from llmrec.loop.status import read_status
from llmrec.training.tune import sft
from llmrec.training.tune.callbacks import note_processes
from llmrec.training.tune.run import run
from llmrec.training.tune.settings import TuneConfig


class Stop:
    """Interrupts training before some steps, each time once, like Ctrl-C."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
        self.left = steps
        real = sft.FiniteGradients.on_pre_optimizer_step

        def stopping(callback: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            real(callback, args, state, control, **kwargs)
            if self.left and state.global_step + 1 == self.left[0]:
                self.left.pop(0)
                raise KeyboardInterrupt

        monkeypatch.setattr(sft.FiniteGradients, "on_pre_optimizer_step", stopping)


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_a_stopped_run_ends_with_the_same_losses(
    home: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_tune(
        {"max_steps": 9, "save_steps": 2, "logging_steps": 3},
        align=5,
        method=method,
        dropout=0.2,
        tasks={"next_item": 1.0, "rank": 1.0},
    )
    place = home / "atomic", home / "dataset"
    run(config, *place, tmp_path / "whole")
    # in the alignment before and after a checkpoint, then in the training that follows
    stop = Stop(monkeypatch, [2, 4, 4, 6])
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run(config, *place, tmp_path / "stopped")
        assert not (tmp_path / "stopped").exists()
    assert stop.left == []
    run(config, *place, tmp_path / "stopped")
    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "whole")
    result = "model" if method == "full" else "adapter"
    one, other = weights(tmp_path / "whole" / result), weights(tmp_path / "stopped" / result)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_was_done_is_not_done_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config: TuneConfig = tiny_tune({"max_steps": 8, "save_steps": 2}, align=2)
    Stop(monkeypatch, [6])
    with pytest.raises(KeyboardInterrupt):
        run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    work = tmp_path / ".tuned.part" / "work"
    aligned = (work.parent / "base" / "model.safetensors").stat().st_mtime_ns
    assert sft.last_checkpoint(work / "tune") == str(work / "tune" / "checkpoint-4")
    capsys.readouterr()
    run(config, home / "atomic", home / "dataset", tmp_path / "tuned")
    assert capsys.readouterr().out.count("validation_ndcg@10") == 1, "only the last one is left"
    assert (tmp_path / "tuned" / "base" / "model.safetensors").stat().st_mtime_ns == aligned


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    assert sft.last_checkpoint(tmp_path / "nothing") is None
    for step, state in ((2, "{}"), (10, '{"cut": '), (9, None), (8, "{}")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert sft.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-8")


def test_a_checkpoint_is_whole_when_every_process_has_written(tmp_path: Path) -> None:
    for step in (2, 4):
        note_processes(tmp_path / f"checkpoint-{step}", 2)
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        for rank in range(2):
            torch.save({"cpu": 1}, tmp_path / f"checkpoint-{step}" / f"rng_state_{rank}.pth")
    assert sft.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    last = tmp_path / "checkpoint-4" / "rng_state_1.pth"
    last.write_bytes(last.read_bytes()[:-30])  # killed while it wrote
    assert sft.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    last.unlink()
    assert sft.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_sigterm_writes_a_checkpoint_and_the_run_goes_on_from_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between lines of the log and checkpoints; the log does not tell that it happened."""
    loop = {"max_steps": 9, "save_steps": 4, "logging_steps": 3}
    place = home / "atomic", home / "dataset"
    config = tiny_tune(loop, align=3, dropout=0.2)
    run(config, *place, tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    real, left = sft.FiniteGradients.on_pre_optimizer_step, [2, 5, 7]

    def terminated(callback: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        real(callback, args, state, control, **kwargs)
        if left and state.global_step + 1 == left[0]:
            left.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sft.FiniteGradients, "on_pre_optimizer_step", terminated)
    for step, stage in ((2, "align"), (5, "tune"), (7, "tune")):
        with pytest.raises(Stopped, match=f"stopped at step {step} of . of {stage}"):
            run(config, *place, tmp_path / "stopped")
        folder = tmp_path / ".stopped.part" / "work" / stage
        assert sft.last_checkpoint(folder) == str(folder / f"checkpoint-{step}")
        assert signal.getsignal(signal.SIGTERM) is before
    run(config, *place, tmp_path / "stopped")
    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "whole")
    one, other = (weights(tmp_path / name / "adapter") for name in ("whole", "stopped"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_command_says_where_it_stopped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "stop").touch()
    monkeypatch.setenv("LLMREC_JOB", str(tmp_path / "job"))
    (tmp_path / "recipe.yaml").write_text("tune: {rank: 2, loop: {max_steps: 3, batch_size: 4}}")
    flags = ["--base", str(home / "atomic"), "--dataset", str(home / "dataset")]
    with pytest.raises(SystemExit) as ended:
        recipe = tmp_path / "recipe.yaml"
        run_command(["tune", str(recipe), *flags, "--out", str(tmp_path / "tuned")])
    assert ended.value.code == 143
    assert "llmrec: stopped at step 1 of 3 of tune" in capsys.readouterr().err
    assert read_status(tmp_path / "job")["stopped_at"] == 1
