"""A run that SIGKILL ends, wherever it is, goes on to the log and the weights of one it did not."""

import json
import signal
from pathlib import Path
from typing import Any

import torch
from forked import Forks
from tune_runs import counts_of, log_of, weights

RECIPE: dict[str, Any] = {
    "rank": 4,
    "dropout": 0.2,
    "validation_users": 30,
    "beams": 10,
    "tasks": {"next_item": 1.0, "rank": 1.0},
    "align": {"steps": 5, "learning_rate": 1e-2},
    "loop": {
        "max_steps": 11,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "save_steps": 2,
        "logging_steps": 3,
        "validate_every": 4,
        "keep": "best",
    },
}
PLACES = (
    "align 2",  # before the first checkpoint
    "optimizer",  # of a checkpoint, half of the file
    "baking",  # the aligned rows into the base
    "validating",
    "random",  # the random state of a checkpoint
    "tune 4",
    "state",  # the last file of a checkpoint
    "tune 10",
    "saving",  # trained, the adapter not yet written
    "cleaning",  # all is written, the checkpoints not yet removed
    "renaming",
)


def metrics(job: Path) -> list[dict[str, Any]]:
    """Whole lines of the metrics; one that was being written when the run died is none."""
    text = (job / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_run_killed_anywhere_ends_as_one_that_was_not(
    home: Path, tmp_path: Path, forks: Forks
) -> None:
    assert forks.tune(RECIPE, home, tmp_path / "whole").statuses == [0]
    whole = log_of(tmp_path / "whole")
    job = tmp_path / "job"
    job.mkdir()
    for place in PLACES:
        ended = forks.tune(RECIPE, home, tmp_path / "killed", kill=place, LLMREC_JOB=str(job))
        assert ended.statuses == [-signal.SIGKILL], (place, ended.printed)
        assert not (tmp_path / "killed").exists(), place
        if (job / "metrics.jsonl").exists():
            known = metrics(job)
            assert known == whole[: len(known)], place
    ended = forks.tune(RECIPE, home, tmp_path / "killed", LLMREC_JOB=str(job))
    assert ended.statuses == [0]
    assert "step" not in ended.printed[0].replace("steps", ""), "all was done"
    assert log_of(tmp_path / "killed") == whole == metrics(job)
    steps = [(line["stage"], line["step"]) for line in whole if "loss" in line]
    assert steps == [("align", 3), ("align", 5), *(("tune", step) for step in (3, 6, 9, 11))]
    for part in ("adapter", "base"):
        one, other = weights(tmp_path / "whole" / part), weights(tmp_path / "killed" / part)
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    different = {"train_seconds", "peak_mib"}
    one, other = counts_of(tmp_path / "whole"), counts_of(tmp_path / "killed")
    assert {k: v for k, v in one.items() if k not in different} == {
        k: v for k, v in other.items() if k not in different
    }
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"adapter", "base", "log.json", "manifest.json", "training.png"}
