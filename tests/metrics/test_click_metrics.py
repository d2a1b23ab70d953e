"""Click metrics against figures derived by hand, by brute force and by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from llmrec.errors import DataError
from llmrec.metrics import click_metrics as metrics

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 3), st.integers(0, 3)),
    min_size=2,
    max_size=40,
)


def brute_auc(labels: np.ndarray, p: np.ndarray, weights: np.ndarray) -> float:
    positive, negative = labels == 1, labels == 0
    ahead = p[positive][:, None] - p[negative][None]
    mass = weights[positive][:, None] * weights[negative][None]
    return float((mass * ((ahead > 0) + 0.5 * (ahead == 0))).sum() / mass.sum())


def gauc(labels: np.ndarray, p: np.ndarray, groups: np.ndarray) -> float:
    aucs, sizes, _ = metrics.group_aucs(labels, p, groups)
    return float(aucs @ sizes / sizes.sum())


def columns(rows: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, ...]:
    labels, p, groups, weights = np.array(rows).T
    return labels.astype(float), p / 7 + 0.05, groups, weights.astype(float)


def a_log(rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that were drawn from p: a model that is perfectly calibrated."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 9, rows)
    return (rng.random(rows) < p).astype(float), p


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_auc_counts_every_pair_and_ties_half(rows: list[tuple[int, int, int, int]]) -> None:
    labels, p, _, weights = columns(rows)
    if (weights @ labels) * (weights @ (1 - labels)) == 0:
        with pytest.raises(DataError, match=r"AUC needs|every weight is 0"):
            metrics.auc(labels, p, weights)
    else:
        assert metrics.auc(labels, p, weights) == pytest.approx(brute_auc(labels, p, weights))


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_a_weight_is_so_many_rows(rows: list[tuple[int, int, int, int]]) -> None:
    labels, p, _, weights = columns(rows)
    times = weights.astype(int)
    many = [np.repeat(column, times) for column in (labels, p)]
    if len(np.unique(many[0])) < 2:
        return
    assert metrics.auc(labels, p, weights) == pytest.approx(metrics.auc(many[0], many[1]))
    assert metrics.ece(labels, p, 3, weights) == pytest.approx(metrics.ece(many[0], many[1], 3))


def test_auc_and_log_loss_are_those_of_scikit_learn() -> None:
    labels, p = a_log()
    assert metrics.auc(labels, p) == pytest.approx(roc_auc_score(labels, p), abs=1e-12)
    assert metrics.auc(labels, p.round(2)) == pytest.approx(roc_auc_score(labels, p.round(2)))
    assert metrics.log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p), abs=1e-9)


def test_auc_takes_logits() -> None:
    labels, p = a_log()
    assert metrics.auc(labels, np.log(p / (1 - p))) == pytest.approx(metrics.auc(labels, p))


def test_gauc_weights_groups_by_rows_and_leaves_out_those_of_one_label() -> None:
    labels = np.array([1, 0, 0, 1, 0, 0, 1, 1.0])
    p = np.array([0.9, 0.1, 0.5, 0.2, 0.3, 0.99, 0.8, 0.1])
    groups = np.array([7, 7, 7, -1, -1, 4, 5, 5])
    # group 7: 3 rows, AUC 1; group -1: 2 rows, AUC 0; groups 4 and 5 have one label only
    aucs, sizes, rows = metrics.group_aucs(labels, p, groups)
    assert dict(zip(groups[rows].tolist(), zip(aucs, sizes, strict=True), strict=True)) == {
        7: (1, 3),
        -1: (0, 2),
    }
    assert gauc(labels, p, groups) == pytest.approx((3 * 1 + 2 * 0) / 5)


def test_a_score_that_only_knows_the_group_has_an_auc_but_no_gauc() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(200), 10)
    rate = rng.random(200)[groups]
    labels = (rng.random(2000) < rate).astype(float)
    assert metrics.auc(labels, rate) > 0.75
    assert gauc(labels, rate, groups) == 0.5


def test_gauc_is_the_mean_of_aucs_of_scikit_learn() -> None:
    labels, p = a_log(600)
    groups = np.random.default_rng(5).integers(0, 40, 600)
    total = rows = 0.0
    for group in range(40):
        own = groups == group
        if 0 < labels[own].sum() < own.sum():
            total += own.sum() * roc_auc_score(labels[own], p[own])
            rows += own.sum()
    assert gauc(labels, p, groups) == pytest.approx(total / rows)


def test_log_loss_of_a_certain_and_wrong_row_is_finite() -> None:
    assert metrics.log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-np.log(1e-7))
    assert metrics.log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(-np.log(1e-7))


def test_entropy_is_the_log_loss_of_the_mean() -> None:
    labels, p = a_log()
    entropy = metrics.entropy(labels.mean())
    assert metrics.log_loss(labels, np.full(4000, labels.mean())) == pytest.approx(entropy)
    assert metrics.log_loss(labels, p) < 0.97 * entropy


def test_bins_have_equal_masses_and_keep_ties_together() -> None:
    p = np.random.default_rng(0).random(1000)
    assert np.bincount(metrics.equal_mass_bins(p, 20)).tolist() == [50] * 20
    rounded = p.round(1)
    bins = metrics.equal_mass_bins(rounded, 20)
    for value in np.unique(rounded):
        assert len(np.unique(bins[rounded == value])) == 1
    assert (np.diff(bins[np.argsort(rounded)]) >= 0).all()
    assert np.unique(bins).tolist() == list(range(bins.max() + 1))


def test_bins_do_not_depend_on_the_order_of_rows() -> None:
    p = np.random.default_rng(0).random(300).round(2)
    order = np.random.default_rng(1).permutation(300)
    bins = metrics.equal_mass_bins(p, 7)
    np.testing.assert_array_equal(metrics.equal_mass_bins(p[order], 7), bins[order])


def test_ece_of_a_constant_is_its_distance_to_the_click_rate() -> None:
    labels = np.array([1, 0, 0, 0, 0.0])
    assert metrics.ece(labels, np.full(5, 0.5)) == pytest.approx(0.3)


def test_ece_of_calibrated_predictions_is_what_chance_alone_makes_it() -> None:
    labels, p = a_log(200_000)
    rate = labels.mean()
    by_chance = 0.8 * np.sqrt(20 * rate * (1 - rate) / 200_000)
    assert metrics.ece(labels, p) == pytest.approx(by_chance, rel=0.5)
    assert metrics.ece(labels, np.clip(2 * p, 0, 1)) > 20 * by_chance


def test_the_reliability_table_is_what_ece_sums() -> None:
    labels, p = a_log()
    table = metrics.reliability(labels, p, 20)
    assert table.count.sum() == 4000
    assert (np.diff(table.mean_p) > 0).all()
    assert ((table.low < table.mean_label) & (table.mean_label < table.high)).all()
    gaps = np.abs(table.mean_p - table.mean_label)
    assert metrics.ece(labels, p, 20) == pytest.approx(gaps @ table.count / 4000)


def test_wilson_intervals_are_the_published_ones() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    low, high = metrics.wilson(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    assert low.round(4).tolist() == [0.2553, 0.0624, 0.0, 0.0061]
    assert high.round(4).tolist() == [0.3662, 0.1605, 0.1611, 0.1718]


def test_wilson_intervals_cover_the_rate_about_as_often_as_they_say() -> None:
    clicks = np.random.default_rng(0).binomial(300, 0.04, 20_000)
    low, high = metrics.wilson(clicks, np.full(20_000, 300))
    assert 0.93 < ((low <= 0.04) & (high >= 0.04)).mean() < 0.975


def test_field_calibration_error_sees_what_the_mean_hides() -> None:
    labels = np.array([1, 1, 0, 0, 0, 1.0])
    p = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.9])
    field = np.array([0, 0, -1, -1, -1, 3])
    # 0: predicted .5, observed 1, two rows; -1: .5 and 0, three rows; 3 is too rare
    error = metrics.field_calibration_error(labels, p, field, min_count=2)
    assert error == pytest.approx((2 * 0.5 + 3 * 0.5) / 5)
    with pytest.raises(DataError, match=r"no value of the field has 4 rows \(the most is 3\)"):
        metrics.field_calibration_error(labels, p, field, min_count=4)


@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_class_is_an_error_that_names_it(only: float) -> None:
    with pytest.raises(DataError, match=f"all 3 labels are {only:g}$"):
        metrics.auc(np.full(3, only), np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        ([0, 2], [0.1, 0.2], "row 1: label 2 is neither 0 nor 1"),
        ([0, np.nan], [0.1, 0.2], "row 1: label nan is neither"),
        ([0, 1], [np.nan, 0.2], "row 0: p nan is not a finite number"),
        ([0, 1], [0.1, 1.5], r"row 1: p 1.5 is outside \[0, 1\]; give probabilities, not logits"),
        ([0, 1], [0.1], "must be equally long"),
        ([], [], "there are no rows"),
    ],
)
def test_wrong_rows_are_named(labels: list[float], p: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        metrics.log_loss(np.array(labels), np.array(p))


def test_wrong_weights_and_bins_are_named() -> None:
    labels, p = np.array([0, 1.0]), np.array([0.1, 0.2])
    with pytest.raises(DataError, match="row 1: weight -1 is not a number from 0 up"):
        metrics.auc(labels, p, np.array([1.0, -1.0]))
    with pytest.raises(DataError, match="bins=0: at least one"):
        metrics.ece(labels, p, bins=0)
