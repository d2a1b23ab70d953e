"""From raw files to people's recommendations: ``llmrec run``, and that serving changes nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ask_bundle import recommend
from tiny_shop import TinyRun, run_recipe

from llmrec.bench.recommenders import load_recommender
from llmrec.data.dataset import Dataset
from llmrec.generation.load import load_llm
from llmrec.serving.bundle import Bundle
from llmrec.training.next_item.validation import validation_cases, validation_metrics

STAGES = ["demo", "ingest", "embed", "index", "train", "hybrid", "bundle", "evaluate"]
# what readers of result files rely on
RESULT_KEYS = {
    *("name", "dataset", "split", "model", "metrics", "intervals", "command", "seed", "seconds"),
    *("peak_mib", "machine", "versions", "date", "history_removed"),
}
METRICS = {
    *("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "map@10", "coverage@10"),
    "invalid_rate",
}


def manifests(folder: Path) -> dict[str, str]:
    """Every stage's manifest, as it stands on disk; the time a stage took is part of it."""
    found = sorted(folder.rglob("manifest.json"))
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def people_shown(printed: str) -> str:
    """What the run's last stage printed, without the times."""
    return re.sub(r"\d+\.\d s", "", printed.rsplit("== ", 1)[1])


def test_the_run_shows_people_and_what_they_get(tiny_run: TinyRun, tiny_data: Dataset) -> None:
    shown = people_shown(tiny_run.printed)
    assert shown.count("  recommended\n") == 2
    assert shown.count("what came next") == 2
    titles = set(tiny_data.items["title"].to_pylist())
    lines = [line for line in shown.splitlines() if line.startswith("    1. ")]
    assert len(lines) == 2
    for line in lines:
        assert line.removeprefix("    1. ").split("  <-")[0] in titles


def test_a_second_run_finds_everything_done(tiny_run: TinyRun) -> None:
    before = manifests(tiny_run.folder)
    again = run_recipe(tiny_run.recipe, tiny_run.folder)
    assert manifests(tiny_run.folder) == before
    assert "wrote" not in again
    first = re.findall(r"^(\w+): wrote", tiny_run.printed, re.MULTILINE)
    second = re.findall(r"^(\w+): up to date", again, re.MULTILINE)
    assert sorted(first) == sorted(second)
    assert sorted(set(second)) == sorted(STAGES)
    # The same people get the same recommendations from the same files.
    assert people_shown(again) == people_shown(tiny_run.printed)


@pytest.mark.parametrize("model", ["popularity", "atomic", "semantic", "sasrec"])
def test_results_hold_what_readers_rely_on(tiny_run: TinyRun, model: str) -> None:
    folder = tiny_run.folder / "evaluation" / f"tiny-{model}"
    result = json.loads((folder / f"tiny-{model}.json").read_text())
    assert result.keys() >= RESULT_KEYS
    assert result["name"] == f"tiny-{model}"
    assert result["metrics"].keys() >= METRICS
    assert all(0 <= result["metrics"][name] <= 1 for name in METRICS)
    assert result["metrics"]["invalid_rate"] == 0
    assert result["history_removed"] is True
    assert {"cores", "memory_gib", "gpu"} <= result["machine"].keys()
    assert (tiny_run.folder / "report" / "report.md").is_file()


@pytest.mark.parametrize("model", ["atomic", "semantic"])
def test_what_is_served_is_what_was_trained(
    tiny_run: TinyRun, tiny_data: Dataset, model: str
) -> None:
    """The validation NDCG that chose the weights comes out of the bundle again."""
    manifest = json.loads((tiny_run.model(model) / "manifest.json").read_text())
    beams = manifest["config"]["beams"]
    served = load_llm(tiny_run.bundle(model) / "model", beams=beams)
    metrics = validation_metrics(served, validation_cases(tiny_data, 0, seed=3))
    assert metrics["ndcg@10"] == pytest.approx(manifest["counts"]["best_validation_ndcg"], abs=1e-9)
    assert metrics["ndcg@10"] > 0


@pytest.mark.parametrize("model", ["atomic", "semantic"])
def test_the_bundle_ranks_as_the_trained_model(
    tiny_run: TinyRun, tiny_data: Dataset, model: str
) -> None:
    trained = load_recommender(tiny_run.bundle(model), beams=50)  # with its item graph, if any
    bundle = Bundle(tiny_run.bundle(model), beams=50)
    cases = tiny_data.cases("test").select(range(20))
    expected = trained.recommend(cases.histories, 10)
    assert cases.histories.now is not None
    for row in range(len(cases)):
        times = cases.histories.times(row)
        assert times is not None
        answer = recommend(
            bundle,
            [bundle.item_ids[i] for i in cases.histories[row]],
            10,
            history_times=times.tolist(),
            now=float(cases.histories.now[row]),
        )
        wanted = [bundle.item_ids[i] for i in expected.items[row]]
        assert [found.item_id for found in answer] == wanted
        scores = [found.score for found in answer]
        assert np.allclose(scores, expected.scores[row], atol=1e-4)
