"""``llmrec bench why`` on models whose differences are known."""

import numpy as np
import pytest

from llmrec.bench.why import run
from llmrec.cli import run_command
from llmrec.errors import ConfigError, DataError
from llmrec.metrics.measure import evaluate
from llmrec.metrics.results import read_result, write_cases
from llmrec.types import Cases, Histories

N_ITEMS, N_CASES = 30, 60
DAY = 86_400.0


class Knows:
    """Ranks the target first where it knows it, and else last."""

    n_items = N_ITEMS

    def __init__(self, targets, known):
        self.targets, self.known = targets, known

    def score(self, histories):
        rows = np.arange(len(histories))
        scores = np.zeros((len(rows), N_ITEMS), dtype=np.float32)
        scores[rows, self.targets] = np.where(self.known, 1.0, -1.0)
        return scores


@pytest.fixture
def files(tmp_path):
    """The graph knows targets that training has, the model those of short histories, one all."""
    rng = np.random.default_rng(0)
    lengths = np.arange(N_CASES) % 4 + 1
    histories = Histories.from_lists(
        [rng.integers(0, 10, n).tolist() for n in lengths],
        [[0.0] * n for n in lengths],
        [DAY * (case % 2) * 10 for case in range(N_CASES)],
    )
    targets = rng.integers(10, N_ITEMS, N_CASES).astype(np.int32)
    cases = Cases(np.arange(N_CASES, dtype=np.int32), histories, targets)
    counts = np.where(np.arange(N_ITEMS) < 20, 7, 0)
    known = {
        "graph": counts[targets] > 0,
        "llm": lengths == 1,
        "hybrid": (counts[targets] > 0) | (lengths == 1),
    }
    paths = []
    for name, mask in known.items():
        made = evaluate(Knows(targets, mask), cases, counts, name_ranks=np.arange(N_ITEMS))
        paths.append(tmp_path / f"{name}.cases.parquet")
        write_cases(paths[-1], made, f"toy-{name}", "toy", "test")
    return paths, known


def test_every_part_has_each_model_and_each_difference(files, tmp_path):
    paths, known = files
    out = tmp_path / "why-llm.json"
    flags = ["--out", str(out), "--names", "graph", "llm", "hybrid", "--resamples", "100"]
    run_command(["bench", "why", *map(str, paths), *flags])
    result = read_result(out)
    rows = {(row["slice"], row["bucket"]): row for row in result["rows"]}
    slices = ["all", "item_popularity", "history_length", "days_since_last_event", "name_order"]
    assert list(dict.fromkeys(row["slice"] for row in result["rows"])) == slices
    for name in slices:
        assert sum(row["cases"] for row in result["rows"] if row["slice"] == name) == N_CASES
    cold = rows["item_popularity", "0"]
    assert cold["figures"]["graph"] == 0.0
    assert cold["figures"]["llm"] == pytest.approx(known["llm"][~known["graph"]].mean())
    assert rows["item_popularity", "5-9"]["figures"]["graph"] == 1.0
    pairs = {(d["from"], d["to"]): d for d in cold["differences"]}
    assert list(pairs) == [("graph", "llm"), ("graph", "hybrid"), ("llm", "hybrid")]
    gain = pairs["graph", "hybrid"]
    assert gain["difference"] == pytest.approx(cold["figures"]["hybrid"])
    assert 0 < gain["interval"][0] <= gain["difference"] <= gain["interval"][1]
    assert pairs["llm", "hybrid"]["interval"] == [0.0, 0.0]
    assert rows["days_since_last_event", "7-29"]["cases"] == N_CASES // 2
    found = {(pair["one"], pair["other"]): pair for pair in result["found"]}
    both = found["graph", "llm"]
    assert both["other_alone"] == pytest.approx((known["llm"] & ~known["graph"]).mean())
    assert both["both"] + both["one_alone"] == pytest.approx(known["graph"].mean())


def test_the_page_shows_the_figures_and_its_pictures(files, tmp_path):
    paths, _ = files
    page = run(paths, out=tmp_path / "why.json", resamples=50)
    text = page.read_text()
    assert page == tmp_path / "why.md"
    assert "| bucket | cases | toy-graph | toy-llm | toy-hybrid | toy-llm - toy-graph |" in text
    row = read_result(tmp_path / "why.json")["rows"][0]
    assert f"| all | 60 | {row['figures']['toy-graph']:.4f} |" in text
    for name in ("item_popularity", "history_length", "days_since_last_event", "name_order"):
        assert f"(why-{name}.png)" in text
        assert (tmp_path / f"why-{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_compared_is_named(files, tmp_path):
    paths, _ = files
    with pytest.raises(ConfigError, match="two models or more"):
        run(paths[:1], out=tmp_path / "w.json")
    with pytest.raises(ConfigError, match="--names: a, a, b: give 3 different ones"):
        run(paths, out=tmp_path / "w.json", names=["a", "a", "b"])
    other = Cases(
        np.arange(2, dtype=np.int32), Histories.from_lists([[1], [2]]), np.array([3, 4], np.int32)
    )
    made = evaluate(Knows(other.targets, np.ones(2, bool)), other, np.ones(N_ITEMS, int))
    write_cases(tmp_path / "other.cases.parquet", made, "other", "toy", "test")
    with pytest.raises(DataError, match="their cases differ"):
        run([paths[0], tmp_path / "other.cases.parquet"], out=tmp_path / "w.json")
