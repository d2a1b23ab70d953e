"""Validating on the way: the best weights are kept, patience ends a run, losses stay the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tune_runs import counts_of, log_of, losses, tiny_tune, weights

from llmrec.data.dataset import Dataset
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.training.next_item.validation import validation_cases, validation_metrics
from llmrec.training.tune import training_run
from llmrec.training.tune.run import run
from llmrec.training.tune.settings import TuneLoopConfig
from llmrec.training.tune.sft import METRIC, _ended_early, out_of_patience


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Validations with given scores; the last value stays."""

    def measured(*_: Any) -> dict[str, float]:
        return {"recall@10": 0.5, "ndcg@10": values.pop(0) if len(values) > 1 else values[0]}

    monkeypatch.setattr(training_run, "validation_metrics", measured)


def validations(folder: Path) -> dict[int, float]:
    return {e["step"]: e[METRIC] for e in log_of(folder) if METRIC in e and e["step"] > 0}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_best_weights_are_those_of_their_step(
    home: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = home / "atomic", home / "dataset"
    loop = {"max_steps": 8, "validate_every": 3, "save_steps": 2, "schedule": "constant"}
    scripted(monkeypatch, [0.1, 0.2, 0.9, 0.3])  # at step 0, then 3, 6 and 8
    best = tiny_tune(loop | {"keep": "best"}, method=method)
    run(best, *place, tmp_path / "best")
    assert validations(tmp_path / "best") == {3: 0.2, 6: 0.9, 8: 0.3}
    counts = counts_of(tmp_path / "best")
    assert (counts["kept_step"], counts["steps"]) == (6, 8)
    assert (counts["validation_ndcg_before"], counts["validation_ndcg"]) == (0.1, 0.9)
    run(tiny_tune(loop | {"max_steps": 6}, method=method), *place, tmp_path / "six")
    run(tiny_tune(loop, method=method), *place, tmp_path / "last")
    part = "model" if method == "full" else "adapter"
    kept, six, last = (weights(tmp_path / name / part) for name in ("best", "six", "last"))
    assert all(torch.equal(kept[name], six[name]) for name in six)
    assert not all(torch.equal(kept[name], last[name]) for name in last)
    assert counts["trained_parameters"] == counts_of(tmp_path / "last")["trained_parameters"] > 0


def test_what_is_kept_is_served(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    loop = {"max_steps": 9, "validate_every": 3, "keep": "best", "learning_rate": 0.1}
    run(tiny_tune(loop), home / "atomic", home / "dataset", out)
    served = load_llm_with_adapters(out / "base", [out / "adapter"], beams=10)
    cases = validation_cases(Dataset(home / "dataset"), 30, 0)
    metrics = validation_metrics(served.with_adapter("recommend"), cases)
    assert metrics["ndcg@10"] == pytest.approx(max(validations(out).values()), abs=1e-6)
    assert metrics["ndcg@10"] == pytest.approx(counts_of(out)["validation_ndcg"], abs=1e-6)


def test_validating_changes_no_loss(home: Path, tmp_path: Path) -> None:
    loop = {"max_steps": 6, "logging_steps": 4}
    for name, more in (("without", {}), ("with", {"validate_every": 2})):
        run(tiny_tune(loop | more, dropout=0.2), home / "atomic", home / "dataset", tmp_path / name)
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    assert list(validations(tmp_path / "with")) == [2, 4, 6]
    assert validations(tmp_path / "with")[6] == validations(tmp_path / "without")[6]
    one, other = (weights(tmp_path / name / "adapter") for name in ("with", "without"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_patience_ends_a_run_also_when_it_is_started_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = {"max_steps": 20, "validate_every": 2, "keep": "best", "patience": 2}
    scripted(monkeypatch, [0.1, 0.4, 0.5, 0.5, 0.3, 0.9])

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training_run.TuneRun, "_save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_tune(loop), home / "atomic", home / "dataset", tmp_path / "tuned")
    run(tiny_tune(loop), home / "atomic", home / "dataset", tmp_path / "tuned")
    assert validations(tmp_path / "tuned") == {2: 0.4, 4: 0.5, 6: 0.5, 8: 0.3}
    counts = counts_of(tmp_path / "tuned")
    assert (counts["kept_step"], counts["steps"]) == (4, 8)


def test_patience_counts_validations_since_the_best() -> None:
    def out(values: list[float], patience: int) -> bool:
        return out_of_patience([{"loss": 1.0}, *({f"eval_{METRIC}": v} for v in values)], patience)

    assert out([0.3, 0.2], 1) and out([0.3, 0.3], 1), "no better is not better"
    assert out([0.3, 0.1, 0.2], 2) and not out([0.3, 0.1, 0.4], 2)
    assert not out([0.3], 1) and not out([], 1) and not out([0.3, 0.2, 0.1], 0)


def test_a_checkpoint_knows_that_patience_had_ended(tmp_path: Path) -> None:
    history = [{f"eval_{METRIC}": value} for value in (0.3, 0.2)]
    state = {"global_step": 14, "log_history": history}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    patient = {"validate_every": 1, "keep": "best"}
    assert _ended_early(str(tmp_path), TuneLoopConfig(**patient, patience=1)) == 14
    assert _ended_early(str(tmp_path), TuneLoopConfig(**patient, patience=2)) is None
    assert _ended_early(None, TuneLoopConfig(**patient, patience=1)) is None
