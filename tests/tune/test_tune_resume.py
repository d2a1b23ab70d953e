"""A run that was stopped ends as one that was not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tune_runs import log_of, tiny_tune, weights

from llmrec.tune import sft
from llmrec.tune.run import run
from llmrec.tune.settings import Config


class Stop:
    """Interrupts training before some steps, each time once, like Ctrl-C."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
        self.left = steps
        real = sft._Finite.on_pre_optimizer_step

        def stopping(callback: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            real(callback, args, state, control, **kwargs)
            if self.left and state.global_step + 1 == self.left[0]:
                self.left.pop(0)
                raise KeyboardInterrupt

        monkeypatch.setattr(sft._Finite, "on_pre_optimizer_step", stopping)


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
    config: Config = tiny_tune({"max_steps": 8, "save_steps": 2}, align=2)
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
