"""What was trained is what is served: five ways to the same lists, and who would notice if not."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_shop import TinyRun
from tiny_tuned import NAMES, Tuned, open_vllm

from llmrec.bench import agree
from llmrec.bench.agree import WAYS, compare
from llmrec.bench.agree import test_users as users_of
from llmrec.bench.ranking_comparison import RankingComparison
from llmrec.bench.reference_scores import BruteForce, open_trained
from llmrec.cli import main
from llmrec.data.dataset import Dataset
from llmrec.llm import merge
from llmrec.recommender import top_n
from llmrec.stage import read_manifest
from llmrec.types import Histories, Ranking

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds

N, USERS = 20, 200
ROUNDING = 2e-5  # of log-probabilities around -5; measured: 2e-6


@pytest.fixture(scope="module")
def histories(tiny_data: Dataset) -> Histories:
    return users_of(tiny_data, USERS)


@pytest.fixture(scope="module")
def vllm_merged(
    vllm_here: None, tuned_atomic: Tuned, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """vLLM on the atomic base with ``recommend`` merged into it."""
    folder = tmp_path_factory.mktemp("merged") / "model"
    merge.run(tuned_atomic.base, tuned_atomic.adapters["recommend"], folder)
    yield from open_vllm(folder)


@pytest.fixture(scope="module")
def opener(vllm_atomic: Any, vllm_merged: Any) -> Any:
    """Opens a folder on vLLM by giving the engine that serves the same files already."""

    def open_folder(folder: Path, adapters: Any = ()) -> Any:
        return nullcontext(vllm_atomic if adapters else vllm_merged)

    return open_folder


@pytest.fixture(scope="module")
def found(tuned_atomic: Tuned, histories: Histories, opener: Any) -> RankingComparison:
    """All five, the first of them the very model that its trainer held in memory."""
    adapter = tuned_atomic.adapters["recommend"]
    trained = tuned_atomic.trained["recommend"]
    return compare(tuned_atomic.base, adapter, histories, N, model=trained, open_vllm=opener)


def test_what_is_served_is_what_was_trained(found: RankingComparison) -> None:
    assert tuple(found.lists) == WAYS
    rows = found.rows()
    assert len(rows) == 10
    for row in rows:
        assert row["same"] == row["users"] == USERS, row
        assert row["max_score_difference"] < ROUNDING, row
    for ranking in found.lists.values():
        assert (ranking.items >= 0).all()
    assert max(found.error(way) for way in WAYS) < ROUNDING
    assert found.agree


def test_a_lost_adapter_would_be_noticed(found: RankingComparison) -> None:
    assert found.moved > 0.9 * USERS
    without = replace(found, lists=found.lists | {"vllm": found.base})
    assert not without.agree


def test_each_adapter_gives_its_own_lists_in_every_engine(
    tuned_atomic: Tuned, histories: Histories, vllm_atomic: Any, found: RankingComparison
) -> None:
    """Swapped: an engine asked for one adapter must not answer as the other."""
    trained = open_trained(tuned_atomic.base, tuned_atomic.adapters["gifts"])
    both = {"recommend": found.scores, "gifts": scores_of(trained, vllm_atomic, histories)}
    for name in NAMES:
        ranking = vllm_atomic.recommend(histories, N, adapter=name)
        for other in NAMES:
            own = RankingComparison(both[other], {"trained": top_n(both[other], N)}, found.base)
            same = own.same(ranking, own.lists["trained"])
            assert same.all() if other == name else same.mean() < 0.1


def scores_of(model: Any, vllm: Any, histories: Histories) -> np.ndarray:
    """Every item's score as trained, the history left out."""
    brute = BruteForce(model, vllm.encoder.vocabulary, vllm.ids)
    scores = brute.all_scores(vllm.encoder.encode_all(histories))
    for user, history in enumerate(histories):
        scores[user, history] = -np.inf
    return scores


@pytest.mark.parametrize("name", NAMES)
def test_semantic_ids_are_served_as_trained(
    tuned_semantic: Tuned,
    histories: Histories,
    vllm_semantic: Any,
    name: str,
    tmp_path: Path,
) -> None:
    """Merged on our engine only, to start one vLLM less."""
    few = histories.select(range(60))
    found = compare(
        tuned_semantic.base,
        tuned_semantic.adapters[name],
        few,
        N,
        model=tuned_semantic.trained[name],
        ways=WAYS[:-1],
        open_vllm=lambda folder, adapters: nullcontext(vllm_semantic),
    )
    assert tuple(found.lists) == WAYS[:-1]
    assert found.agree
    assert found.moved > 0.9 * len(few)


def test_the_files_hold_the_model_that_was_trained(
    tuned_atomic: Tuned, histories: Histories, vllm_atomic: Any
) -> None:
    few = histories.select(range(30))
    for name in NAMES:
        trained = scores_of(tuned_atomic.trained[name], vllm_atomic, few)
        saved = open_trained(tuned_atomic.base, tuned_atomic.adapters[name])
        np.testing.assert_allclose(scores_of(saved, vllm_atomic, few), trained, atol=1e-5)


def listed(*rows: list[int], scores: list[list[float]]) -> RankingComparison:
    """Lists of one user each way, against scores as trained."""
    table = np.array(scores, dtype=np.float32)
    lists = {}
    for number, row in enumerate(rows):
        items = np.array([row])
        lists[f"way {number}"] = Ranking(items, np.take_along_axis(table, items, axis=1))
    lists = {"trained": lists["way 0"]} | lists
    return RankingComparison(table, lists, lists["way 0"], 0.01)


def test_ties_are_no_difference_and_everything_else_is() -> None:
    scores = [[0.0, -1.0, -1.005, -2.0, -2.004, -9.0]]
    assert listed([0, 1, 2, 3], [0, 2, 1, 3], scores=scores).agree
    assert listed([0, 1, 2, 3], [0, 1, 2, 4], scores=scores).agree, "a tie at the end of the list"
    assert not listed([0, 1, 2, 3], [1, 0, 2, 3], scores=scores).agree
    assert not listed([0, 1, 2, 3], [0, 1, 2, 5], scores=scores).agree
    assert not listed([0, 1, 2, 3], [0, 1, 1, 3], scores=scores).agree, "one item twice"
    same = listed([0, 1, 2], [0, 1, 2], scores=scores)
    assert same.agree and same.moved == 0
    same.lists["way 1"].scores[0, 1] += 0.02
    assert not same.agree, "the same lists by other scores"
    assert same.rows()[1]["max_score_difference"] == pytest.approx(0.02, abs=1e-6)


def test_the_command_writes_down_what_it_found(
    tuned_atomic: Tuned,
    tiny_run: TinyRun,
    opener: Any,
    vllm_atomic: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(agree, "VllmLlm", opener)
    results = tmp_path / "agree.json"
    flags = ["--dataset", str(tiny_run.folder / "dataset"), "--results", str(results)]
    asked = ["bench", "agree", str(tuned_atomic.bundle), *flags, "--users", "12"]
    assert main([*asked, "--adapter", "recommend"]) == 0
    said = capsys.readouterr().out
    assert said.count("12 of 12") >= 20
    assert said.rstrip().endswith("they agree")
    metrics = json.loads(results.read_text())["metrics"]
    assert metrics["agree"] == 1 and metrics["users"] == 12
    seed = read_manifest(tuned_atomic.bundle / "model").seed  # of the training
    assert json.loads(results.read_text())["seed"] == seed is not None
    assert metrics["other_list_without_adapter"] > 0.8
    assert all(metrics[f"same_list@{way}"] == 1 for way in WAYS[1:])
    assert len(json.loads(results.read_text())["rows"]) == 10
    # what is merged is `recommend`, so beside `gifts` it is another model
    with pytest.raises(SystemExit) as caught:
        main([*asked, "--adapter", str(tuned_atomic.adapters["gifts"])])
    assert caught.value.code == 1
    assert "THEY DO NOT AGREE" in capsys.readouterr().out
    assert json.loads(results.read_text())["metrics"]["same_list@vllm-merged"] < 0.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adapter", "nothing"], "nothing/llmrec_adapter.json: not found"),
        (["--adapter", "gifts", "--users", "0"], "users: must be 1 or more, got 0"),
        (["--adapter", "gifts", "--n", "0"], "n: must be 1 or more, got 0"),
        (
            ["--adapter", "gifts", "--ways", "llmrec", "x"],
            "--ways: 'x' is not one of trained",
        ),
        (["--adapter", "gifts", "--ways", "trained"], "--ways: leaves nothing to compare"),
        (["--adapter", "gifts", "--tolerance", "nan"], "tolerance: must be in [0, 1), got nan"),
        (["--adapter", "gifts", "--results", "x.csv"], "give the name of a .json file"),
    ],
)
def test_mistakes_are_one_line(
    tuned_atomic: Tuned,
    tiny_run: TinyRun,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset = ["--dataset", str(tiny_run.folder / "dataset")]
    assert main(["bench", "agree", str(tuned_atomic.bundle), *dataset, *flags]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
