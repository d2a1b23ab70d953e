"""Results of several trainings: means, and intervals over users and trainings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec.bench.evaluate import figures
from llmrec.bench.evaluation_seeds import run
from llmrec.errors import DataError
from llmrec.metrics.measure import evaluate
from llmrec.metrics.results import CASES_SUFFIX, read_result, write_cases, write_result
from llmrec.types import Cases, Histories, Ranking

USERS, ITEMS = 60, 5


class Fixed:
    """Puts the target of some users first, and of the others last but one."""

    n_items = ITEMS

    def __init__(self, right: int) -> None:
        self.right, self.asked = right, 0

    def recommend(self, histories: Histories, n: int, **_: object) -> Ranking:
        rows = np.arange(self.asked, self.asked + len(histories))
        self.asked = (self.asked + len(histories)) % USERS
        best = np.where(rows < self.right, 0, 3)[:, None]
        rest = np.array([[i for i in range(ITEMS) if i != one] for one in best[:, 0]])
        return Ranking(np.concatenate([best, rest], axis=1)[:, :n], np.zeros((len(rows), n)))


def result(folder: Path, name: str, right: int, seed: int, **changes: object) -> Path:
    histories = Histories.from_lists([[4]] * USERS)
    targets = np.zeros(USERS, np.int32)
    cases = Cases(np.arange(USERS, dtype=np.int32), histories, targets)
    counts = np.arange(ITEMS)  # the target is cold
    found = evaluate(Fixed(right), cases, counts, ks=(1, 2), list_length=2, with_history=False)
    write_cases(folder / f"{name}{CASES_SUFFIX}", found, name, "toy", "test")
    more = {"settings": {"ks": [1, 2]}, "catalogue": ITEMS, "dataset_hash": "h", "seed": 0}
    more |= {"training": {"seed": seed}, "model": f"m{seed}", "seconds": 1.0, "split": "test"}
    return write_result(
        folder / f"{name}.json", dataset="toy", **figures(found, 50, 0), **(more | changes)
    )


def test_figures_are_means_and_intervals_hold_both_kinds_of_chance(tmp_path: Path) -> None:
    paths = [result(tmp_path, f"r{seed}", right, seed) for seed, right in enumerate((30, 36, 48))]
    mean = read_result(run(paths, out=tmp_path / "mean.json"))
    assert mean["metrics"]["recall@1"] == pytest.approx((0.5 + 0.6 + 0.8) / 3)
    assert mean["seeds"] == [0, 1, 2] and mean["model"] == ["m0", "m1", "m2"]
    assert mean["name"] == "mean" and mean["cases"] == USERS
    assert [one["mrr"] for one in mean["by_seed"]] == sorted(one["mrr"] for one in mean["by_seed"])
    low, high = mean["intervals"]["recall@1"]
    of_one = read_result(paths[1])["intervals"]["recall@1"]
    assert low < 0.55 and high > 0.72 and high - low > of_one[1] - of_one[0]
    assert mean["slices"]["item_popularity"]["0"]["cases"] == USERS
    # trainings that came out alike leave the chance of users alone
    same = [result(tmp_path, f"s{seed}", 36, seed) for seed in range(3)]
    alike = read_result(run(same, out=tmp_path / "alike.json"))["intervals"]["recall@1"]
    np.testing.assert_allclose(alike, [0.6 - 0.124, 0.6 + 0.124], atol=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_hash": "other"}, r"b.json: its dataset_hash is not that of .*a.json"),
        ({"settings": {"ks": [1]}}, r"b.json: its settings is not"),
        ({"training": {"seed": 0}}, r"have the seeds \[0, 0\]; give one result a seed"),
    ],
)
def test_results_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    paths = [result(tmp_path, "a", 30, 0), result(tmp_path, "b", 30, 1, **changes)]
    with pytest.raises(DataError, match=message):
        run(paths, out=tmp_path / "mean.json")
    assert not (tmp_path / "mean.json").exists()


def test_one_result_has_no_mean(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two"):
        run([result(tmp_path, "a", 30, 0)], out=tmp_path / "mean.json")


def test_the_file_is_json_that_other_pages_read(tmp_path: Path) -> None:
    paths = [result(tmp_path, "a", 30, 0), result(tmp_path, "b", 40, 1)]
    text = run(paths, out=tmp_path / "mean.json").read_text(encoding="utf-8")
    assert json.loads(text)["history_removed"] is True
