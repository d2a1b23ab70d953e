"""``llmrec evaluate`` where what comes next is a basket: baselines, a language model, the page."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_shop import run_recipe

from llmrec.bench.evaluate import EvaluateConfig
from llmrec.bench.evaluate import run as evaluate
from llmrec.bench.evaluation_compare import run as compare
from llmrec.bench.why import run as why
from llmrec.data.dataset import Dataset
from llmrec.metrics.results import read_cases, read_result, result_files

RECIPE = """
name: groceries
ingest: {events: EVENTS, split: leave-last-basket}
models:
  atomic:
    index: {kind: atomic}
    train: {base: nano, content: {}, loop: {epochs: 1}}
baselines: [strong]
evaluate: {list_length: 20, beams: 20, resamples: 20, trials: 2}
show_users: 1
"""
STRONG = ["ease", "item-graph", "itemknn", "personal-frequency", "popularity"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 40 people who buy three things of their own five again and again."""
    home = tmp_path_factory.mktemp("groceries")
    draw = random.Random(0)
    rows = []
    for user in range(40):
        own = draw.sample(range(60), 5)
        for day in range(6):
            time = 1_700_000_000 + day * 86400
            rows += [f"u{user},i{item},{time}" for item in sorted(draw.sample(own, 3))]
    (home / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    (home / "r.yaml").write_text(RECIPE.replace("EVENTS", str(home / "events.csv")))
    (home / "printed").write_text(run_recipe(home / "r.yaml", home / "groceries"))
    return home


def test_every_recommender_is_measured_on_next_baskets(home: Path) -> None:
    files = {path.stem: path for path in home.glob("groceries/evaluation/*/*.json")}
    del files["manifest"]
    results = {name.removeprefix("groceries-"): read_result(path) for name, path in files.items()}
    assert sorted(results) == ["atomic", *STRONG]
    for result in results.values():
        assert (result["cases"], result["targets"], result["history_removed"]) == (40, 120, False)
        assert {"recall@5", "ndcg@5", "hr@5"} <= result["metrics"].keys()
        assert result["metrics"]["recall@5"] <= result["metrics"]["hr@5"]
        assert "recall@5" in result["metrics_history_removed"]
    own = results["personal-frequency"]
    # three of the five things; a few did not buy all of theirs before
    assert own["metrics"]["recall@5"] > 0.9 > 0.3 > results["popularity"]["metrics"]["recall@5"]
    assert own["metrics_history_removed"]["recall@5"] < 0.2
    assert (own["baseline"] and "decay" in own["tuning"]["chosen"]) or own["tuning"]["chosen"] == {}
    printed = (home / "printed").read_text()
    assert "with history" in printed
    shown = printed[printed.index("  recommended") :]
    assert shown.count("what came next") == 3, "all of the basket"
    page = (home / "groceries" / "report" / "report.md").read_text()
    assert "### Ranking, with history" in page and "ndcg@10 by basket size" in page
    assert "personal-frequency, the strongest baseline, history not removed" in page


def test_two_runs_are_compared_basket_by_basket(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {}
    for model in ("popularity", "personal-frequency"):
        evaluate(
            EvaluateConfig(resamples=5), home / "groceries" / "dataset", model, tmp_path / model
        )
        cases[model] = tmp_path / model / f"{model}.cases.parquet"
    printed = capsys.readouterr().out
    assert "40 cases of groceries/test, 120 items of next baskets" in printed and "hr@10" in printed
    found = read_cases(cases["personal-frequency"])
    assert len(found.values()["recall@5"]) == len(found.case_users) == 40
    mean = float(found.values()["recall@5"].mean())
    result = read_result(tmp_path / "personal-frequency" / "personal-frequency.json")
    assert mean == pytest.approx(result["metrics"]["recall@5"])
    assert f"| {mean:.4f} |" in compare(cases["popularity"], cases["personal-frequency"])
    page = why(list(cases.values()), out=tmp_path / "why.json", resamples=5).read_text()
    assert "40 cases, NDCG@10, history not removed" in page
    assert "## By basket size" in page


def test_lists_from_a_file_are_one_a_basket(home: Path, tmp_path: Path) -> None:
    data = Dataset(home / "groceries" / "dataset")
    cases = data.cases("test")
    bought = [[data.item_ids[i] for i in cases.targets[cases.basket == b]] for b in range(40)]
    users = [data.user_ids[user] for user in cases.users[cases.starts]]
    pq.write_table(pa.table({"user_id": users, "items": bought}), tmp_path / "all.parquet")
    out = evaluate(
        EvaluateConfig(), data.folder, out=tmp_path / "o", lists=tmp_path / "all.parquet"
    )
    result = read_result(next(iter(result_files(out))))
    assert (result["cases"], result["metrics"]["recall@5"]) == (40, 1.0)
