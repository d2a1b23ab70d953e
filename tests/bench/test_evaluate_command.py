"""``llmrec evaluate`` from the command line, on a small dataset folder."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.bench.evaluate import EvaluateConfig, run
from llmrec.cli import run_command
from llmrec.config import build
from llmrec.errors import ConfigError
from llmrec.metrics.metrics import NOT_FOUND
from llmrec.metrics.results import read_cases, read_result
from llmrec.stage import Manifest, read_manifest, run_stage

# Item 0 is everybody's; 1 goes with 2, 3 with 4. Last event: test, the one before: validation.
USERS = [[0, 1, 2, 0], [0, 3, 4, 0], [1, 2, 0, 5], [3, 4, 0, 1], [0, 5, 3, 4], [0, 1, 5, 2]]


@pytest.fixture
def dataset(tmp_path):
    """A folder as ``llmrec ingest`` writes it."""

    def work(stage):
        n = 6
        empty = [""] * n
        items = {name: empty for name in ("title", "description", "brand", "domain")}
        items = {"item_id": [f"i{i}" for i in range(n)], **items, "price": [None] * n}
        pq.write_table(pa.table(items), stage.folder / "items.parquet")
        users = pa.table({"user_id": [f"u{u}" for u in range(len(USERS))]})
        pq.write_table(users, stage.folder / "users.parquet")
        events = pa.table(
            {
                "user": np.repeat(np.arange(len(USERS), dtype=np.int32), 4),
                "item": np.array(USERS, dtype=np.int32).ravel(),
                "timestamp": pa.array([None] * 4 * len(USERS), pa.float64()),
                "split": np.tile(np.array([0, 0, 1, 2], dtype=np.int32), len(USERS)),
            }
        )
        pq.write_table(events, stage.folder / "events.parquet")

    return run_stage(tmp_path / "toy", Manifest("ingest", {}), work)


@pytest.mark.parametrize("model", ["popularity", "item-knn"])
def test_command_writes_result_and_cases(dataset, tmp_path, capsys, model):
    out, results = tmp_path / "run", tmp_path / "results"
    arguments = ["--dataset", str(dataset), "--model", model, "--name", "toy-x"]
    arguments += ["--ks", "1", "10", "--out", str(out), "--results", str(results)]
    run_command(["evaluate", *arguments])
    names = sorted(p.name for p in out.iterdir())
    assert names == ["manifest.json", "toy-x.cases.parquet", "toy-x.json"]
    assert [p.name for p in results.iterdir()] == ["toy-x.json"]
    result = read_result(results / "toy-x.json")
    assert (result["dataset"], result["split"], result["model"]) == ("toy", "test", model)
    assert result["metrics"]["recall@10"] == pytest.approx(4 / 6), "two targets are in the history"
    assert result["metrics_with_history"]["recall@10"] == 1.0
    assert read_cases(out / "toy-x.cases.parquet").targets.tolist() == [u[-1] for u in USERS]
    assert "recall@10" in capsys.readouterr().out


def test_ranks_of_both_protocols_are_those_worked_out_by_hand(dataset, tmp_path):
    """Popularity in training: 0 four times, 1 three times, 3 twice, then 2, 4, 5 once each."""
    folder = run(EvaluateConfig(), dataset, "popularity", tmp_path / "pop")
    cases = read_cases(folder / "pop.cases.parquet")
    assert cases.targets.tolist() == [0, 0, 5, 1, 4, 2]
    missed = NOT_FOUND  # the target is in the history
    assert cases.ranks["rank"].tolist() == [missed, missed, 2, 0, 2, 1]
    assert cases.ranks["rank_with_history"].tolist() == [0, 0, 5, 1, 4, 3]


def test_validation_split_has_shorter_histories(dataset, tmp_path):
    folder = run(EvaluateConfig(split="validation"), dataset, "popularity", tmp_path / "valid")
    found = read_cases(folder / "valid.cases.parquet")
    assert found.targets.tolist() == [u[-2] for u in USERS]


def test_same_evaluation_is_not_run_twice(dataset, tmp_path, capsys):
    first = run(EvaluateConfig(), dataset, "popularity", tmp_path / "pop")
    stamp = (first / "pop.json").stat().st_mtime_ns
    run(EvaluateConfig(), dataset, "popularity", tmp_path / "pop")
    assert (first / "pop.json").stat().st_mtime_ns == stamp
    assert "up to date" in capsys.readouterr().out
    assert read_manifest(first, "evaluate").counts == {"cases": 6, "items": 6}


def test_two_runs_can_be_compared_and_reported(dataset, tmp_path, capsys):
    folders = [run(EvaluateConfig(), dataset, m, tmp_path / m) for m in ("popularity", "item-knn")]
    cases = [str(folder / f"{folder.name}.cases.parquet") for folder in folders]
    run_command(["evaluate", "compare", *cases])
    assert "| recall@10 |" in capsys.readouterr().out
    files = [str(folder / f"{folder.name}.json") for folder in folders]
    run_command(["evaluate", "report", *files, "--out", str(tmp_path / "page")])
    assert "Paired differences" in (tmp_path / "page" / "report.md").read_text()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"ks": [60]}, "ks"),
        ({"ks": []}, "ks"),
        ({"list_length": 100}, "beams"),
        ({"split": "train"}, "split"),
        ({"resamples": 0}, "resamples"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_wrong_settings_are_named(values, named):
    with pytest.raises(ConfigError, match=named):
        build(EvaluateConfig, values, "recipe.yaml: evaluate")


def test_unknown_model_is_named(dataset, tmp_path):
    with pytest.raises(ConfigError, match="itemknn: neither popularity nor item-knn nor a folder"):
        run(EvaluateConfig(), dataset, "itemknn", tmp_path / "x")
