"""``llmrec evaluate domains``: a table a target domain, both protocols, parts of the history."""

import numpy as np
import pytest
from two_shops import ITEMS, USERS, write_lines

from llmrec.bench.domains import (
    RANKS_SUFFIX,
    DomainEvaluationConfig,
    domain_ranks,
    measure,
    run,
)
from llmrec.bench.domains_compare import run as compare
from llmrec.cli import run_command
from llmrec.data.ingest import run as ingest
from llmrec.data.settings import IngestConfig
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.metrics.metrics import NOT_FOUND
from llmrec.metrics.results import read_result
from llmrec.types import Cases, Histories

FEW = DomainEvaluationConfig(negatives=5, resamples=20)


class Numbers:
    """Likes items by their number; the first item of a history is scored highest of all."""

    n_items = 6

    def score(self, histories: Histories) -> np.ndarray:
        scores = np.tile(np.arange(6, dtype=np.float32), (len(histories), 1))
        for row, items in enumerate(histories):
            scores[row, items[:1]] = 9
        return scores


def test_only_items_of_the_targets_domain_are_rivals() -> None:
    """Items 0, 2, 4 are one domain; the history holds 4 and 5."""
    cases = Cases(np.array([0]), Histories.from_lists([[4, 5]]), np.array([0]))
    pool, negatives = np.array([0, 2, 4]), np.array([[2, -1]])
    found = domain_ranks(Numbers(), cases.histories, cases, pool, negatives, FEW)
    assert found["full"].tolist() == [1], "2 is better; 4 is in the history"
    assert found["sampled"].tolist() == [1]
    found = domain_ranks(Numbers(), cases.histories, cases, pool, np.array([[-1, -1]]), FEW)
    assert found["sampled"].tolist() == [0]


def test_the_graph_reads_the_other_shop(two_shops, tmp_path, capsys) -> None:
    """The last item says the target, and stands in the other shop."""
    arguments = ["--dataset", str(two_shops.folder), "--models", "item-graph", "--resamples", "20"]
    for part in ("all", "own"):
        out = str(tmp_path / part)
        run_command(["evaluate", "domains", *arguments, "--history", part, "--out", out])
    printed = capsys.readouterr().out
    assert "food: fewer than 999 items are no user's own; all are taken" in printed
    assert "| kitchen, full ranking |" in printed
    results = {part: read_result(tmp_path / part / f"{part}.json") for part in ("all", "own")}
    assert results["all"]["cases"] == {"food": USERS // 2, "kitchen": USERS // 2}
    for shop in ("food", "kitchen"):
        across, within = (results[part]["metrics"] for part in ("all", "own"))
        assert across[f"full_{shop}_mrr"] > within[f"full_{shop}_mrr"] + 0.2
        assert across[f"{shop}_mrr"] > within[f"{shop}_mrr"] + 0.2
        assert results["all"]["slices"][shop]["target_domain_events"]["1-5"]["cases"] == USERS // 2
    files = [tmp_path / part / f"{part}{RANKS_SUFFIX}" for part in ("own", "all")]
    table = compare(*files)
    assert "### food, at most 5 events there (60 cases)" in table
    assert "| mrr, sampled | " in table


def test_shuffled_figures_stand_beside(two_shops, tmp_path) -> None:
    first = run(FEW, ["popularity"], two_shops.folder, tmp_path / "first")
    beside = first / "first.json"
    out = run(FEW, ["popularity"], two_shops.folder, tmp_path / "both", shuffled=beside)
    both, alone = read_result(out / "both.json"), read_result(beside)
    for name, value in alone["metrics"].items():
        assert both["metrics"][name] == both["metrics"][f"shuffled_{name}"] == value
        if name in alone["intervals"]:
            assert both["intervals"][f"shuffled_{name}"] == alone["intervals"][name]


def test_history_of_the_other_shop_alone(two_shops) -> None:
    """Someone new in the target's shop: the graph still follows the last item."""
    other = DomainEvaluationConfig(negatives=5, history="other")
    found, _ = measure(other, two_shops, ["item-graph"], None, 0)
    assert (found["food"].ranks["full"][0] < ITEMS / 4).mean() > 0.6


def test_what_cannot_be_measured_is_said(two_shops, tmp_path) -> None:
    for models, said in (
        (["nothing"], "nothing: neither a baseline"),
        (["popularity", "item-graph"], "popularity: is a baseline"),
        ([], "name a baseline"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(FEW, models, two_shops.folder, tmp_path / "none")
    with pytest.raises(ConfigError, match="ks"):
        DomainEvaluationConfig(ks=[500])
    with pytest.raises(ArtifactError, match="give a NAME"):
        compare(tmp_path / "a", tmp_path / "b")


def test_a_domain_without_targets_and_one_of_a_single_item(tmp_path, capsys) -> None:
    """Nobody's last event is of food; kitchen has one item, which nothing can outrank."""
    names = [("a", "f1"), ("a", "f2"), ("a", "k"), ("b", "f2"), ("b", "f1"), ("b", "k")]
    rows = [*names[:1], ("a", "f2"), *names[1:4], ("b", "f1"), *names[4:]]
    log = [{"user_id": u, "item_id": i, "timestamp": t} for t, (u, i) in enumerate(rows)]
    shops = {"f1": "food", "f2": "food", "k": "kitchen"}
    items = [{"item_id": i, "title": i, "domain": shop} for i, shop in shops.items()]
    config = IngestConfig(
        write_lines(tmp_path / "events.jsonl", log),
        write_lines(tmp_path / "items.jsonl", items),
        timestamp_unit="s",
    )
    folder = ingest(config, tmp_path / "dataset")
    out = run(FEW, ["popularity"], folder, tmp_path / "out")
    result = read_result(out / "out.json")
    assert result["cases"] == {"kitchen": 2}
    assert result["metrics"]["kitchen_mrr"] == result["metrics"]["full_kitchen_mrr"] == 1
    assert "note: food: no test event is of this domain; it has no table" in capsys.readouterr().out


def test_other_cases_are_not_compared(two_shops, tmp_path) -> None:
    names = {"test": FEW, "validation": DomainEvaluationConfig("validation", negatives=5)}
    files = []
    for name, config in names.items():
        out = run(config, ["popularity"], two_shops.folder, tmp_path / name)
        files.append(out / f"{name}{RANKS_SUFFIX}")
    with pytest.raises(DataError, match="are of other cases"):
        compare(*files)


@pytest.mark.parametrize("model", ["atomic", "semantic"])
def test_lists_and_given_items_of_a_bundle(tiny_run, tiny_data, model) -> None:
    """A hybrid and a language model with semantic IDs, in two departments of the demo shop."""
    bundle = str(tiny_run.bundle(model))
    config = DomainEvaluationConfig(negatives=10, list_length=30)
    found, notes = measure(config, tiny_data, [bundle], None, 0)
    assert set(found) == {"clothing", "home"}
    assert notes == []
    for one in found.values():
        sampled, full = one.ranks["sampled"][0], one.ranks["full"][0]
        assert 0 <= sampled.min() <= sampled.max() <= 10
        listed = full < NOT_FOUND
        assert full[listed].max() < 30
        assert listed.mean() > 0.3
        assert sampled[full < 5].mean() < sampled.mean(), "both say what is likely"
