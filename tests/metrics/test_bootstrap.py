import itertools

import numpy as np
import pytest

from llmrec.metrics import bootstrap


def test_interval_is_near_the_normal_one():
    rng = np.random.default_rng(1)
    hits = (rng.random(4000) < 0.1).astype(float)
    low, high = bootstrap.intervals({"recall@10": hits}, seed=3)["recall@10"]
    error = hits.std() / np.sqrt(len(hits))
    assert low == pytest.approx(hits.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(hits.mean() + 1.96 * error, abs=0.15 * error)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        hits = (rng.random(300) < 0.3).astype(float)
        low, high = bootstrap.intervals({"m": hits}, resamples=300, seed=seed)["m"]
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_seed_decides():
    values = np.random.default_rng(0).random((50, 2))
    first = bootstrap.bootstrap_means(values, seed=5)
    np.testing.assert_array_equal(first, bootstrap.bootstrap_means(values, seed=5))
    assert not np.array_equal(first, bootstrap.bootstrap_means(values, seed=6))


def test_blocks_keep_the_distribution(monkeypatch):
    values = np.random.default_rng(0).random((40, 1))
    whole = bootstrap.bootstrap_means(values, resamples=2000)
    monkeypatch.setattr(bootstrap, "_BLOCK", 100)
    parts = bootstrap.bootstrap_means(values, resamples=2000)
    assert parts.shape == whole.shape == (2000, 1)
    assert parts.std() == pytest.approx(whole.std(), rel=0.1)


def test_users_are_resampled_whole():
    # One hundred equal cases of each of 20 users are worth 20 independent ones, not 2000.
    by_user = (np.arange(20) % 2).astype(float)
    values = {"m": np.repeat(by_user, 100)}
    alone = bootstrap.intervals({"m": by_user}, seed=1)["m"]
    together = bootstrap.intervals(values, users=np.repeat(np.arange(20), 100), seed=1)["m"]
    assert together == pytest.approx(alone)
    naive = bootstrap.intervals(values, seed=1)["m"]
    assert naive[1] - naive[0] < (together[1] - together[0]) / 5


def test_p_value_matches_all_sign_flips():
    d = np.array([0.5, -0.2, 0.9, 0.4, 0.0, 0.7, -0.1, 0.3, 0.0])
    moved = d[d != 0]
    flips = np.array(list(itertools.product([-1, 1], repeat=len(moved))))
    exact = np.mean(np.abs(flips @ moved) >= abs(moved.sum()) - 1e-12)
    assert bootstrap.sign_flip_p_value(d, permutations=40_000) == pytest.approx(exact, abs=0.01)


def test_p_value_is_never_zero_and_one_for_equal_runs():
    assert bootstrap.sign_flip_p_value(np.ones(200), permutations=999) == pytest.approx(1 / 1000)
    assert bootstrap.sign_flip_p_value(np.zeros(5)) == 1.0


def test_compare_sees_a_small_consistent_gain_that_unpaired_intervals_miss():
    rng = np.random.default_rng(4)
    base = rng.random(500)
    better = base + 0.01 + 0.01 * rng.standard_normal(500)
    row = bootstrap.compare({"m": base}, {"m": better, "other": better}, permutations=2000)[0]
    assert row.metric == "m"
    assert row.difference == pytest.approx(row.b - row.a)
    assert row.interval[0] > 0
    assert row.p_value < 0.01
    spans = bootstrap.intervals({"a": base, "b": better})
    assert spans["a"][1] > spans["b"][0]


def test_compare_finds_nothing_between_equals():
    rng = np.random.default_rng(5)
    base = rng.random(500)
    other = base + 0.1 * rng.standard_normal(500)
    other -= other.mean() - base.mean()
    row = bootstrap.compare({"m": base}, {"m": other}, permutations=500)[0]
    assert row.interval[0] < 0 < row.interval[1]
    assert row.p_value > 0.5


def test_no_cases():
    with pytest.raises(ValueError, match="no cases"):
        bootstrap.bootstrap_means(np.zeros((0, 1)))
