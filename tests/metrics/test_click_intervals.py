"""Intervals of click metrics: users are resampled whole, models on the same resamples."""

import time

import numpy as np
import pytest

from llmrec.errors import DataError
from llmrec.metrics import bootstrap as resampling
from llmrec.metrics import click_metrics as metrics
from llmrec.metrics.click_intervals import Interval, bootstrap

Intervals = dict[str, dict[str, Interval]]


def intervals(
    labels: np.ndarray, predictions: dict[str, np.ndarray], *where: np.ndarray, **given: int
) -> Intervals:
    found = bootstrap(labels, predictions, *where, **given)
    return {name: found.intervals(name) for name in predictions}


def differences(
    labels: np.ndarray,
    predictions: dict[str, np.ndarray],
    base: str,
    *where: np.ndarray,
    **given: int,
) -> Intervals:
    found = bootstrap(labels, predictions, *where, **given)
    return {name: found.differences(name, base) for name in predictions if name != base}


def a_log(
    users: int = 60, rows: int = 20, seed: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Labels, two models (one knows more) and whose row it is."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(users), rows)
    truth = rng.normal(size=users * rows) - 1.5
    labels = (rng.random(users * rows) < 1 / (1 + np.exp(-truth))).astype(float)
    noisy = truth + rng.normal(size=users * rows)
    models = {"good": 1 / (1 + np.exp(-truth)), "noisy": 1 / (1 + np.exp(-noisy))}
    return labels, models, owner


def gauc(labels: np.ndarray, p: np.ndarray, groups: np.ndarray) -> float:
    aucs, sizes, _ = metrics.group_aucs(labels, p, groups)
    return float(aucs @ sizes / sizes.sum())


def measured(labels: np.ndarray, p: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    return {
        "auc": metrics.auc(labels, p),
        "gauc": gauc(labels, p, owner),
        "log_loss": metrics.log_loss(labels, p),
        "ne": metrics.log_loss(labels, p) / metrics.entropy(labels.mean()),
    }


def test_values_are_those_of_the_metrics() -> None:
    labels, models, owner = a_log()
    found = intervals(labels, models, owner, owner, resamples=20)
    for name, p in models.items():
        for metric, value in measured(labels, p, owner).items():
            assert found[name][metric].value == pytest.approx(value, abs=1e-12)
        assert found[name]["ece"].value == pytest.approx(metrics.ece(labels, p))
        for value, low, high in found[name].values():
            assert low < value < high


def test_a_resample_is_what_copying_the_rows_of_drawn_users_gives() -> None:
    labels, models, owner = a_log(users=12)
    rng = np.random.default_rng(7)  # as the module draws
    copies: dict[str, list[float]] = {"auc": [], "gauc": [], "log_loss": [], "ne": []}
    for drawn in rng.integers(0, 12, size=(30, 12)):
        rows = np.concatenate([np.flatnonzero(owner == user) for user in drawn])
        again = np.repeat(np.arange(12), 20)  # a user drawn twice is two groups
        for metric, value in measured(labels[rows], models["noisy"][rows], again).items():
            copies[metric].append(value)
    found = intervals(labels, models, owner, owner, resamples=30, seed=7)["noisy"]
    for metric, values in copies.items():
        expected = np.quantile(values, [0.025, 0.975])
        assert found[metric][1:] == pytest.approx(expected, abs=1e-12)


def test_differences_are_paired_and_have_the_sign_of_model_minus_base() -> None:
    labels, models, owner = a_log(users=150)
    found = differences(labels, models, "good", owner, owner, resamples=200, seed=1)
    assert list(found) == ["noisy"]
    one = intervals(labels, models, owner, owner, resamples=200, seed=1)
    for metric in ("auc", "gauc", "log_loss"):
        value, low, high = found["noisy"][metric]
        assert value == pytest.approx(one["noisy"][metric].value - one["good"][metric].value)
        unpaired = one["noisy"][metric].high - one["noisy"][metric].low
        assert high - low < unpaired
    assert found["noisy"]["auc"].high < 0 < found["noisy"]["log_loss"].low


def test_the_gain_is_relative_and_in_percent() -> None:
    labels, models, owner = a_log()
    gain = differences(labels, models, "noisy", owner, owner, resamples=50)["good"]
    good, noisy = (metrics.auc(labels, models[name]) for name in ("good", "noisy"))
    assert gain["auc_gain_percent"].value == pytest.approx(100 * (good / noisy - 1))
    assert gain["auc_gain_percent"].low > 0


def test_a_model_does_not_differ_from_itself() -> None:
    labels, models, owner = a_log(users=10)
    twins = {"a": models["good"], "b": models["good"].copy()}
    for figure in differences(labels, twins, "a", owner, owner, resamples=20)["b"].values():
        assert figure == (0, 0, 0)


def test_users_are_resampled_whole() -> None:
    # ten times the same rows of each user tell nothing new
    labels, models, owner = a_log(users=40)
    once = intervals(labels, models, owner, owner, resamples=300)["good"]
    copies = {name: np.tile(p, 10) for name, p in models.items()}
    ten = intervals(
        np.tile(labels, 10), copies, np.tile(owner, 10), np.tile(owner, 10), resamples=300
    )["good"]
    for metric in ("auc", "log_loss", "ne"):
        assert ten[metric] == pytest.approx(once[metric])


def test_the_seed_decides_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, models, owner = a_log(users=10)
    first = intervals(labels, models, owner, owner, resamples=40, seed=3)
    assert intervals(labels, models, owner, owner, resamples=40, seed=3) == first
    assert intervals(labels, models, owner, owner, resamples=40, seed=4) != first
    monkeypatch.setattr(resampling, "_BLOCK", 70)  # seven resamples at once
    blocks = intervals(labels, models, owner, owner, resamples=40, seed=3)
    assert blocks["good"]["auc"] == pytest.approx(first["good"]["auc"])


def test_groups_may_be_lists_of_a_user_but_not_of_several_users() -> None:
    labels, models, owner = a_log()
    lists = np.arange(len(labels)) // 10
    found = intervals(labels, models, owner, lists, resamples=10)["good"]["gauc"]
    assert found.value == pytest.approx(gauc(labels, models["good"], lists))
    with pytest.raises(DataError, match="row 20: group 0 holds rows of several users"):
        intervals(labels, models, owner, owner // 2, resamples=10)


def test_too_few_users_still_have_an_interval_where_there_is_one() -> None:
    labels, p = np.array([0, 1, 0, 1.0]), np.array([0.1, 0.4, 0.3, 0.2])
    found = intervals(
        labels, {"m": p}, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), resamples=20
    )["m"]
    assert found["gauc"] == (0.5, 0.0, 1.0)
    apart = np.array([0, 1, 1, 1])  # most resamples of two users lack a label
    found = intervals(np.array([0, 0, 1, 1.0]), {"m": p}, apart, apart, resamples=50)["m"]
    assert np.isfinite([edge for figure in found.values() for edge in figure]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.ones(4)}, "auc of m is undefined: it needs clicked and unclicked rows"),
        ({"users": np.zeros(3, int)}, r"users has shape \(3,\), labels have \(4,\)"),
        ({"predictions": {}}, "there is no model to measure"),
        ({"predictions": {"m": np.array([0.1, 0.2, 3.0, 0.1])}}, "row 2: p 3 is outside"),
        ({"groups": np.arange(4)}, "gauc of m is undefined: .* in one group"),
    ],
)
def test_what_cannot_be_measured_is_told(change: dict, message: str) -> None:
    given = {
        "labels": np.array([0, 1, 0, 1.0]),
        "predictions": {"m": np.array([0.1, 0.4, 0.3, 0.2])},
        "users": np.array([0, 0, 1, 1]),
        "groups": np.array([0, 0, 1, 1]),
    }
    with pytest.raises(DataError, match=message):
        intervals(**(given | change), resamples=5)


def test_a_resample_of_many_rows_costs_milliseconds() -> None:
    labels, models, owner = a_log(users=8000)  # 160,000 rows
    before = time.process_time()
    intervals(labels, models, owner, owner, resamples=20)
    # 1,000 resamples of 5 models within 40 s are 8 ms each; one sort a model comes on top
    assert time.process_time() - before < 20 * 2 * 0.008 + 1.0
