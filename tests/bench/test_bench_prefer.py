"""``llmrec bench prefer`` on a shop of a hundred items, and what it makes of figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_bench_tune import LOOP, SOURCE

from llmrec import cli
from llmrec.bench import prefer, recipe_runs
from llmrec.config import build

PREFER = {
    "method": "grpo",
    "rewards": {"hit": 1.0, "stock": 0.2},
    "grpo": {"group": 4},
    "loop": LOOP,
    "validation_users": 20,
}


def recipe(home: Path, **changes: Any) -> Path:
    """A recipe of the benchmark beside those it names."""
    (home / "source.yaml").write_text(SOURCE)
    (home / "grpo.yaml").write_text(yaml.safe_dump({"prefer": PREFER}))
    settings: dict[str, Any] = {
        "name": "bench",
        "source": str(home / "source.yaml"),
        "model": "atomic",
        "resamples": 50,
        "supervised": {"rank": 2, "loop": LOOP, "validation_users": 20},
        "rewards": {"hit": 1.0, "stock": 0.2},
        "runs": {"grpo": str(home / "grpo.yaml")},
    }
    path = home / "bench.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def test_the_command_goes_on_from_one_adapter_and_measures_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands run in this process; that they get one each, the test of ``bench tune`` sees."""
    path = recipe(tmp_path)
    monkeypatch.setattr(recipe_runs, "_run", lambda arguments, _: cli.run_command(arguments))
    assert cli.main(["bench", "prefer", str(path), "--out", str(tmp_path / "run")]) == 0

    result = json.loads((tmp_path / "run" / "bench.json").read_text())
    start, grpo = result["rows"]
    assert (start["run"], grpo["run"]) == ("supervised", "grpo")
    metrics = result["metrics"]
    assert metrics["grpo_total"] == grpo["total"] > 0
    difference = grpo["ndcg@10"] - start["ndcg@10"]
    assert metrics["grpo_minus_supervised_ndcg@10"] == pytest.approx(difference)
    assert grpo["valid"] == start["valid"] == 1.0
    # total is the sum of the parts as they are weighed
    assert grpo["total"] == pytest.approx(grpo["hit"] + 0.2 * grpo["stock"])
    assert result["cases"] == 120
    made = json.loads((tmp_path / "run" / "prefer" / "grpo" / "manifest.json").read_text())
    assert "adapter/adapter_model.safetensors" in made["inputs"]
    page = (tmp_path / "run" / "bench.md").read_text()
    assert "| grpo |" in page and "](bench.png)" in page
    assert (tmp_path / "run" / "bench.png").stat().st_size > 1000


def test_differences_are_paired_by_case(tmp_path: Path) -> None:
    settings = yaml.safe_load(recipe(tmp_path).read_text())
    config = build(prefer.PreferBenchConfig, settings, "bench")
    start = np.linspace(0, 1, 40)
    values = {"supervised": {"total": start}, "grpo": {"total": start + 0.25}}
    rows = [prefer.row_of(name, values, config) for name in values]
    metrics, intervals = prefer.figures(rows)
    assert metrics["grpo_minus_supervised_total"] == pytest.approx(0.25)
    # every case gained the same, so resampling them changes nothing
    assert intervals["grpo_minus_supervised_total"] == pytest.approx([0.25, 0.25])
    low, high = intervals["supervised_total"]
    assert low < 0.5 < high
    assert "supervised_minus_supervised_total" not in metrics


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": {}}, "runs: name at least one"),
        ({"runs": {"supervised": "x.yaml"}}, "none of them 'supervised'"),
        ({"runs": {"a": "nowhere.yaml"}}, "nowhere.yaml: no such recipe"),
        ({"supervised": {"method": "full"}}, "preferences go on from an adapter"),
        ({"rewards": {"hit": 0.0}}, "all weights are 0"),
    ],
)
def test_a_wrong_recipe_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, **changes)
    assert cli.main(["bench", "prefer", str(path), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
