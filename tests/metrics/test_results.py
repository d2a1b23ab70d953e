import json
import shlex
import sys

import numpy as np
import pytest

from llmrec.bench.evaluate import figures
from llmrec.bench.evaluation_compare import compare_runs
from llmrec.bench.evaluation_compare import run as compare_files
from llmrec.bench.evaluation_report import write_report
from llmrec.errors import ArtifactError, DataError
from llmrec.metrics.machine import machine, peak_mib
from llmrec.metrics.measure import evaluate, train_counts
from llmrec.metrics.results import read_cases, read_result, write_cases, write_result
from llmrec.types import Cases, Histories

N_ITEMS = 40


class Noisy:
    """Knows the targets as well as ``skill`` says."""

    n_items = N_ITEMS

    def __init__(self, targets, skill):
        self.targets, self.skill, self.start = targets, skill, 0

    def score(self, histories):
        rng = np.random.default_rng(self.start)
        scores = rng.random((len(histories), N_ITEMS)).astype(np.float32)
        rows = np.arange(len(histories))
        scores[rows, self.targets[self.start : self.start + len(rows)]] += self.skill
        self.start += len(rows)
        return scores


@pytest.fixture
def run_folder(tmp_path):
    """Two evaluations of the same cases, the second one clearly better."""
    rng = np.random.default_rng(0)
    histories = Histories.from_lists([rng.integers(0, 20, 4).tolist() for _ in range(120)])
    targets = rng.integers(20, N_ITEMS, 120).astype(np.int32)
    cases = Cases(np.arange(120, dtype=np.int32), histories, targets)
    counts = train_counts(histories, N_ITEMS)
    for name, skill in (("weak", 0.1), ("strong", 0.5)):
        result = evaluate(Noisy(targets, skill), cases, counts, ks=(5, 10), list_length=20)
        parts = figures(result, resamples=50, seed=0)
        write_result(
            tmp_path / f"{name}.json",
            name=name,
            dataset="toy",
            split="test",
            model=name,
            seed=0,
            seconds=result.seconds,
            catalogue=N_ITEMS,
            **parts,
        )
        write_cases(tmp_path / f"{name}.cases.parquet", result, name, "toy", "test")
    return tmp_path


def test_result_has_the_shape_readers_rely_on(run_folder, monkeypatch):
    result = read_result(run_folder / "weak.json")
    top = "name dataset split model metrics intervals command seed seconds peak_mib machine"
    assert {*top.split(), "versions", "date", "history_removed", "slices"} <= result.keys()
    keys = "recall@5 recall@10 ndcg@5 ndcg@10 mrr map@10 coverage@10 invalid_rate precision@10"
    for protocol in ("metrics", "metrics_with_history"):
        assert {*keys.split(), "f1@10", "hr@10", "gini@10"} <= result[protocol].keys()
        assert all(isinstance(value, float) for value in result[protocol].values())
    assert result["history_removed"] is True
    for name, (low, high) in result["intervals"].items():
        assert low <= result["metrics"][name] <= high
    assert {"cores", "memory_gib", "cpu", "gpu"} <= result["machine"].keys()
    assert {"python", "llmrec", "numpy"} <= result["versions"].keys()


def test_command_is_the_one_that_runs(tmp_path, monkeypatch):
    argv = ["/usr/bin/llmrec", "evaluate", "--name", "two words"]
    monkeypatch.setattr(sys, "argv", argv)
    path = write_result(tmp_path / "deep" / "a.json", name="a", metrics={"p50_ms": 1.5}, rows=[1])
    result = read_result(path)
    assert shlex.split(result["command"]) == ["llmrec", *argv[1:]]
    assert result["rows"] == [1]
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_machine_says_what_it_measured():
    found = machine()
    assert found["cores"] >= 1
    assert found["cpu"]
    before = peak_mib()
    block = np.ones(64 * 2**20, dtype=np.uint8)
    assert block[-1] == 1
    assert peak_mib() >= before > 10


def test_nan_is_not_a_figure(tmp_path):
    with pytest.raises(DataError, match="auc is nan"):
        write_result(tmp_path / "a.json", name="a", metrics={"auc": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_cases_come_back(run_folder):
    found = read_cases(run_folder / "weak.cases.parquet")
    metrics = read_result(run_folder / "weak.json")
    assert (found.name, found.dataset, found.n_items, found.rank_limit) == ("weak", "toy", 40, None)
    for protocol, key in (("rank", "metrics"), ("rank_with_history", "metrics_with_history")):
        values = found.values((5, 10), protocol)
        assert values["ndcg@10"].mean() == pytest.approx(metrics[key]["ndcg@10"])


def test_paired_comparison_finds_the_better_run(run_folder):
    weak, strong = (read_cases(run_folder / f"{n}.cases.parquet") for n in ("weak", "strong"))
    for row in compare_runs(weak, strong):
        assert row.interval[0] > 0
        assert row.p_value < 0.01
    table = compare_files(run_folder / "weak.cases.parquet", run_folder / "strong.cases.parquet")
    assert "| ndcg@10 |" in table


def test_runs_on_other_cases_are_not_compared(run_folder):
    import dataclasses

    weak = read_cases(run_folder / "weak.cases.parquet")
    other = dataclasses.replace(weak, name="other", targets=weak.targets[::-1])
    with pytest.raises(DataError, match="their cases differ"):
        compare_runs(weak, other)
    with pytest.raises(DataError, match="split 'test' against 'validation'"):
        compare_runs(weak, dataclasses.replace(weak, split="validation"))


def test_report_shows_the_figures_of_the_files(run_folder):
    write_result(run_folder / "lat.json", name="lat", metrics={"p50_ms": 12.25}, command="x")
    files = [run_folder / f"{name}.json" for name in ("strong", "weak", "lat")]
    page = write_report(files, run_folder / "page")
    text = page.read_text()
    for name in ("weak", "strong"):
        figure = read_result(run_folder / f"{name}.json")["metrics"]["ndcg@10"]
        assert f"{figure:.4f}" in text
    assert text.index("| weak |") < text.index("| strong |"), "best last"
    assert "Paired differences to strong" in text
    assert "| lat | p50_ms | 12.2500 |" in text
    pictures = sorted(p.name for p in page.parent.glob("*.png"))
    assert pictures == [
        f"toy-test-{n}.png" for n in ("history_length", "item_popularity", "models")
    ]
    for picture in pictures:
        assert f"({picture})" in text
        assert (page.parent / picture).read_bytes()[:4] == b"\x89PNG"


def test_report_without_cases_has_no_differences(run_folder):
    (run_folder / "weak.cases.parquet").unlink()
    files = [run_folder / f"{name}.json" for name in ("strong", "weak")]
    assert "Paired differences" not in write_report(files, run_folder / "page").read_text()


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(ArtifactError, match="no such result"):
        read_result(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ArtifactError, match="not a result file"):
        read_result(tmp_path / "list.json")
    (tmp_path / "bad.cases.parquet").write_text("nonsense")
    with pytest.raises(ArtifactError, match="not the cases"):
        read_cases(tmp_path / "bad.cases.parquet")
    with pytest.raises(ArtifactError, match="no such file"):
        read_cases(tmp_path / "none.cases.parquet")
    (tmp_path / "a.json").write_text(json.dumps({"name": "a", "metrics": {}}))
    with pytest.raises(DataError, match="two results are named 'a'"):
        write_report([tmp_path / "a.json", tmp_path / "a.json"], tmp_path / "page")
