"""The check of the sample ratio finds a mismatch, and seldom one that is not there."""

import math

import numpy as np
import pytest

from llmrec.experiments.sample_ratio import sample_ratio


def test_two_persons_by_hand() -> None:
    # a beta-binomial of 50 and 50 gives (50/100)(51/101) to two of one kind, the shares a quarter
    found = sample_ratio([2, 0], [0.5, 0.5])
    assert sample_ratio([2, 0], [0.5, 0.5]).p_value == pytest.approx(0.25 / (0.5 * 51 / 101))
    assert found.expected == (1.0, 1.0)


def test_mismatches() -> None:
    assert sample_ratio([5300, 4700], [0.5, 0.5]).is_mismatch
    assert not sample_ratio([5080, 4920], [0.5, 0.5]).is_mismatch
    assert sample_ratio([860, 9140], [0.1, 0.9]).is_mismatch
    assert not sample_ratio([1010, 8990], [0.1, 0.9]).is_mismatch
    assert sample_ratio([1, 100], [0.0, 1.0]).is_mismatch
    assert sample_ratio([0, 0], [0.5, 0.5]).p_value == 1.0
    assert math.isfinite(sample_ratio([10**7, 0], [0.5, 0.5]).p_value)


def test_looking_after_every_person() -> None:
    rng = np.random.default_rng(0)
    alarms, found_late = 0, 0
    for _ in range(300):
        fair = (rng.random(2000) < 0.3).cumsum()
        counts = range(20, 2001, 20)
        alarms += any(
            sample_ratio([fair[n - 1], n - fair[n - 1]], [0.3, 0.7]).p_value < 0.05 for n in counts
        )
        lost = int((rng.random(5000) < 0.25).sum())
        found_late += sample_ratio([lost, 5000 - lost], [0.3, 0.7]).is_mismatch
    assert alarms / 300 <= 0.05
    assert found_late / 300 > 0.99
