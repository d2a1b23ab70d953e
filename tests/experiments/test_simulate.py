"""Looked at every day, experiments without an effect raise no more false alarms than allowed."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec.cli import main
from llmrec.experiments.simulate import SimulationConfig, aa_false_alarms, shares, simulate

SMALL = SimulationConfig(experiments=60, days=14, new_people=40)


@pytest.fixture(scope="module")
def without_effect() -> dict[str, float]:
    return shares(SMALL, simulate(SMALL))


def test_false_alarms(without_effect: dict[str, float]) -> None:
    assert without_effect["aa_false_alarms"] <= 0.05
    assert without_effect["aa_false_alarms_any"] <= 0.1
    assert without_effect["aa_false_alarms_z_test"] > 0.1  # the trap that it avoids
    assert without_effect["sample_ratio_alarms"] <= 0.02
    assert aa_false_alarms(60, config=SMALL) == without_effect["aa_false_alarms"]


def test_an_effect_is_found() -> None:
    config = SimulationConfig(experiments=10, days=14, new_people=150, effect=1.0)
    found = shares(config, simulate(config))
    assert found["found"] > 0.8
    assert found["true_difference_left"] == 0
    assert "aa_false_alarms" not in found


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "experiments.json"
    words = ["experiment", "simulate", "--experiments", "2", "--days", "3", "--out", str(out)]
    assert main(words) == 0
    result = json.loads(out.read_text())
    assert result["metrics"]["aa_false_alarms"] == 0
    assert result["model"].startswith("normal mixture confidence sequence")
    assert out.with_suffix(".png").is_file()
    assert "aa_false_alarms" in capsys.readouterr().out
    assert main([*words, "--click-rate", "1"]) == 2
    assert "click_rate: must be in (0, 1)" in capsys.readouterr().err


def test_the_committed_result() -> None:
    path = Path(__file__).parents[2] / "eval" / "results" / "experiments.json"
    result = json.loads(path.read_text())
    assert result["config"]["experiments"] == 1000
    assert result["config"]["days"] >= 14
    assert result["metrics"]["aa_false_alarms"] <= 0.05
    assert np.isfinite(list(result["metrics"].values())).all()
