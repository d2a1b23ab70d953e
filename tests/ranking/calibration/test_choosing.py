"""Which calibration method is chosen, and why."""

import numpy as np
import pytest
from scipy.special import expit

from llmrec.errors import ConfigError, DataError
from llmrec.ranking.calibration import choose, methods


def drawn(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels of true logits."""
    rng = np.random.default_rng(seed)
    return (rng.random(len(truth)) < expit(truth)).astype(float)


def logits_of(rows: int = 6000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and people of ten rows."""
    return np.random.default_rng(seed).normal(size=rows) * 1.5, np.arange(rows) // 10


def test_calibrated_logits_are_left_alone() -> None:
    logits, people = logits_of()
    chosen = choose(logits, drawn(logits), people)
    assert chosen.calibrator.method == "none"
    assert [score.method for score in chosen.scores] == ["none", "temperature", "platt", "isotonic"]


@pytest.mark.parametrize(
    ("truth", "method"),
    [
        (lambda x: x / 3, "temperature"),
        (lambda x: 0.6 * x - 2, "platt"),
        (lambda x: np.where(np.abs(x) < 1.2, -3.0, 2 * np.sign(x)), "isotonic"),
    ],
)
def test_the_method_that_can_undo_the_fault_is_chosen(truth, method: str) -> None:
    logits, people = logits_of()
    chosen = choose(logits, drawn(truth(logits)), people)
    assert chosen.calibrator.method == method
    about = chosen.calibrator.fitted_on
    assert about is not None and about.out_of_fold and about.rows == 6000
    assert about.ece_after < about.ece_before / 2


def test_a_field_is_used_where_its_values_differ() -> None:
    logits, people = logits_of(12_000)
    rng = np.random.default_rng(3)
    fields = {"colour": rng.integers(-1, 4, 12_000), "position": rng.integers(0, 3, 12_000)}
    labels = drawn(logits - 1.5 * fields["position"])
    chosen = choose(logits, labels, people, fields)
    assert chosen.calibrator.name == "per-field:position"
    assert "**per-field:position**" in chosen.table()
    assert len(chosen.table().splitlines()) == 2 + len(chosen.scores) == 2 + 6


def test_the_simplest_of_methods_within_one_standard_error_is_chosen() -> None:
    logits, people = logits_of()
    chosen = choose(logits, drawn(0.6 * logits - 2), people)
    taken = next(s for s in chosen.scores if s.method == chosen.calibrator.method)
    assert taken.above_best <= taken.standard_error
    simpler = chosen.scores[: chosen.scores.index(taken)]
    assert all(score.above_best > score.standard_error for score in simpler)
    assert min(score.above_best for score in chosen.scores) == 0


def test_a_better_method_within_one_standard_error_of_a_simpler_one_is_not_taken() -> None:
    """Not the least log loss decides: here it is that of platt, by less than chance."""
    logits, people = logits_of(1500)
    chosen = choose(logits, drawn(0.9 * logits + 0.1, 5), people, methods=("none", "platt"))
    none, platt = chosen.scores
    assert platt.above_best == 0 < none.above_best < none.standard_error
    assert chosen.calibrator.method == "none"
    assert "within a standard error of platt" in chosen.calibrator.note


def test_the_error_of_a_difference_counts_groups_and_not_rows() -> None:
    logits, _ = logits_of(600)
    labels = drawn(logits / 3)
    again = np.tile(np.arange(600), 8)
    one = choose(logits, labels, np.arange(600), methods=("none", "platt"), seed=5).scores[0]
    eight = choose(
        np.tile(logits, 8), np.tile(labels, 8), again, methods=("none", "platt"), seed=5
    ).scores[0]
    assert eight.standard_error == pytest.approx(one.standard_error, rel=0.05)


def test_rows_of_a_group_are_never_in_two_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmrec.ranking.calibration import choosing

    logits, people = logits_of(400)
    seen = []

    def spied(name, inside, labels, fields):
        seen.append(set(inside))
        return original(name, inside, labels, fields)

    original = choosing.fit_method
    monkeypatch.setattr(choosing, "fit_method", spied)
    choose(people + 0.5, drawn(logits), people, methods=("none",), folds=4)
    folds = seen[:4]
    for person in range(40):
        assert sum(person + 0.5 in part for part in folds) == 3
    assert all(0 < len(part) < 40 for part in folds)


def test_it_is_fitted_on_all_rows() -> None:
    logits, people = logits_of()
    labels = drawn(0.6 * logits - 2)
    chosen = choose(logits, labels, people, methods=("platt",))
    assert chosen.calibrator.parameters == methods.fit_platt(logits, labels)


def test_the_seed_decides() -> None:
    logits, people = logits_of(500)
    labels = drawn(logits / 2)
    first = choose(logits, labels, people, seed=1).scores
    assert choose(logits, labels, people, seed=1).scores == first
    assert choose(logits, labels, people, seed=2).scores != first


@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_kind_of_label_is_answered(only: float) -> None:
    logits, people = logits_of(98)
    chosen = choose(logits, np.full(98, only), people)
    p = chosen.calibrator.apply(logits)
    np.testing.assert_allclose(p, (98 * only + 1) / 100, rtol=5e-3)
    assert chosen.scores == () and "all 98 labels" in chosen.calibrator.note


def test_a_click_that_only_one_fold_has_is_survived() -> None:
    logits, people = logits_of(200)
    labels = np.zeros(200)
    labels[17] = 1
    chosen = choose(logits, labels, people, {"kind": people % 3})
    p = chosen.calibrator.apply(logits, {"kind": people % 3})
    assert np.isfinite(p).all()
    assert all(np.isfinite(score.log_loss) for score in chosen.scores)


def test_too_few_rows_are_the_identity_and_a_note() -> None:
    logits, people = logits_of(30)
    chosen = choose(logits, drawn(logits), people)
    assert chosen.calibrator.method == "none" and "too few" in chosen.calibrator.note
    assert chosen.table().count("\n") == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"groups": np.zeros(100)}, DataError, r"1 group\(s\) cannot be parted into 2 folds"),
        ({"groups": np.zeros(9)}, DataError, "groups have shape"),
        ({"folds": 1}, ConfigError, "folds=1: at least 2"),
        ({"methods": ()}, ConfigError, "methods: none is named"),
        ({"methods": ("per-field",)}, ConfigError, "per-field alone needs a field"),
        ({"methods": ("guess",)}, ConfigError, "no calibration method 'guess'"),
    ],
)
def test_what_cannot_be_compared_is_told(change: dict, error: type, message: str) -> None:
    logits = np.linspace(-1, 1, 100)
    given = {"logits": logits, "labels": drawn(logits), "groups": np.arange(100)}
    with pytest.raises(error, match=message):
        choose(**(given | change))
