"""``llmrec bench tune`` on a shop of a hundred items, and what it makes of figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from llmrec import cli
from llmrec.bench import recipe_runs, tune
from llmrec.bench.tune import TuneBenchConfig
from llmrec.errors import ConfigError
from llmrec.stage import Manifest

SOURCE = """
name: source
demo_shop: {items: 100, users: 120}
ingest:
  events: "${out}/raw/events.jsonl"
  items: "${out}/raw/items.jsonl"
  event_types: [click]
models:
  atomic:
    index: {kind: atomic}
    train: {base: nano, content: {}, dropout: 0.1, loop: {epochs: 1, warmup_steps: 5}}
"""
LOOP = {"max_steps": 3, "batch_size": 8, "logging_steps": 1}


def recipe(home: Path, **changes: Any) -> Path:
    """A recipe of the benchmark beside the recipe of its data."""
    (home / "source.yaml").write_text(SOURCE)
    settings: dict[str, Any] = {
        "name": "bench",
        "source": str(home / "source.yaml"),
        "model": "atomic",
        "resamples": 50,
        "tune": {"loop": LOOP, "validation_users": 20},
        "runs": {
            "small": {"method": "lora", "rank": 2, "learning_rates": [1e-3]},
            "whole": {"method": "full", "learning_rates": [1e-4]},
        },
    }
    path = home / "bench.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def test_the_command_tunes_measures_and_writes_figures_page_and_plot(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path)
    arguments = ["bench", "tune", str(path), "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == 0

    result = json.loads((tmp_path / "run" / "bench.json").read_text())
    base, small, whole = result["rows"]
    assert [row["run"] for row in result["rows"]] == ["base", "small", "whole"]
    assert 0 < small["trained_parameters"] < whole["trained_parameters"]
    assert small["adapter_bytes"] > 4 * small["trained_parameters"]
    assert small["train_seconds"] > 0 and whole["peak_mib"] > 100
    assert base["ndcg@10"] == result["metrics"]["base_ndcg@10"]
    assert result["counts"]["newest"]["users"] == 24
    page = (tmp_path / "run" / "bench.md").read_text()
    assert "| small |" in page and "](bench.png)" in page
    assert (tmp_path / "run" / "bench.png").stat().st_size > 1000

    capfd.readouterr()
    assert cli.main(arguments) == 0  # what is there is not done again
    assert "tune: up to date" in capfd.readouterr().out
    again = json.loads((tmp_path / "run" / "bench.json").read_text())
    assert again["metrics"] == result["metrics"]


def test_of_several_rates_the_best_on_validation_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = {"one@0.001": 0.2, "one@0.01": 0.4, "one@0.1": 0.3}

    class Found:
        def __init__(self, folder: Path) -> None:
            self.counts = {"validation_ndcg": quality[folder.name]}

    monkeypatch.setattr(recipe_runs, "run_apart", lambda *_, **__: None)
    monkeypatch.setattr(tune, "read_manifest", Found)
    runs = {"one": {"method": "lora", "learning_rates": [1e-3, 1e-2, 1e-1]}}
    config = TuneBenchConfig(name="bench", source=Path("source.yaml"), model="atomic", runs=runs)
    best, rate = tune.tune_best(config, "one", tmp_path, tmp_path, tmp_path / "tune")
    assert (best.name, rate) == ("one@0.01", 1e-2)
    written = yaml.safe_load((tmp_path / "tune" / "one@0.1.yaml").read_text())
    assert written["tune"]["loop"]["learning_rate"] == 0.1


def test_the_headline_is_the_run_that_validation_chose() -> None:
    """Whatever the test events say, they choose nothing."""
    rows: list[dict[str, Any]] = [
        {"run": "base", "method": "base"},
        {"run": "r4", "method": "lora", "trained_parameters": 10, "validation_ndcg@10": 0.5},
        {"run": "r8", "method": "lora", "trained_parameters": 20, "validation_ndcg@10": 0.4},
        {"run": "full", "method": "full", "trained_parameters": 200, "validation_ndcg@10": 0.6},
        {
            "run": "rows",
            "method": "rows+lora",
            "trained_parameters": 20,
            "aligned_parameters": 100,
            "validation_ndcg@10": 0.9,
        },
    ]
    level = {"base": 0.1, "r4": 0.3, "r8": 0.9, "full": 0.5, "rows": 0.5}
    measured = {
        name: {"ndcg@10": np.full(6, value), "recall@10": np.full(6, value)}
        | {f"older_{m}": np.full(3, value / 2) for m in ("ndcg@10", "recall@10")}
        for name, value in level.items()
    }
    metrics, intervals = tune.figures(rows, measured, 20)
    assert metrics["lora_ndcg@10"] == pytest.approx(0.3)
    assert metrics["lora_over_full_ndcg@10"] == pytest.approx(0.6)
    assert metrics["lora_over_full_parameters"] == pytest.approx(0.05)
    assert metrics["full_older_ndcg@10"] == pytest.approx(0.25)
    assert intervals["lora_over_full_ndcg@10"] == pytest.approx([0.6, 0.6])
    assert "full_over_full_ndcg@10" not in metrics
    # what the alignment trained counts as well
    assert metrics["rows+lora_over_full_parameters"] == pytest.approx(0.6)


def test_a_run_that_trains_rows_first_is_a_method_of_its_own() -> None:
    config = {"method": "lora", "align": {"steps": 0}}
    assert tune.method_of(Manifest("tune", config)) == "lora"
    config = {"method": "qlora", "align": {"steps": 3}}
    assert tune.method_of(Manifest("tune", config)) == "rows+qlora"


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "runs: name at least one"),
        ({"a": {"method": "lora"}}, "runs.a.learning_rates: name at least one"),
        ({"a": 3}, "runs.a: expected settings, got 3"),
        ({"a": {"rnak": 2, "learning_rates": [0.1]}}, "runs.a: unknown key 'rnak'; did you mean"),
        ({"a/b": {"learning_rates": [0.1]}}, "'a/b' names a folder"),
    ],
)
def test_a_wrong_recipe_is_one_line(runs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TuneBenchConfig(name="bench", source=Path("source.yaml"), model="atomic", runs=runs)


def test_a_model_that_the_source_has_not_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, model="semantic")
    assert cli.main(["bench", "tune", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "source.yaml has no model 'semantic'; it has atomic" in capsys.readouterr().err
