"""The sequential test: its boundary is that of the mixture, its variance that of persons."""

import math

import numpy as np
import pytest

from llmrec.experiments.sequential import (
    MIN_PERSONS,
    always_valid_p,
    compare,
    critical_z,
    list_mean,
    mean_interval,
    mixture_rho,
)


def some_lists(
    rng: np.random.Generator, persons: int, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clicks of lists of people who come often or seldom and differ in how much they click."""
    person = np.repeat(np.arange(persons), rng.integers(1, 30, persons))
    likes = rng.beta(2, 2 / rate - 2, persons)
    return (rng.random(len(person)) < likes[person]).astype(float), person


def test_the_variance_is_that_of_persons() -> None:
    rng = np.random.default_rng(0)
    means = [list_mean(*some_lists(rng, 300, 0.2)) for _ in range(2000)]
    observed = np.var([mean.value for mean in means])
    said = np.mean([mean.variance for mean in means])
    assert said == pytest.approx(observed, rel=0.1)
    alone = np.mean([mean.list_variance / mean.lists for mean in means])
    assert alone < 0.5 * observed  # as if each list were somebody else's


def test_the_boundary_is_the_published_one() -> None:
    # normal mixture of Howard et al. (2021), eq. 14, of a sum with intrinsic time v
    rho, v, alpha = mixture_rho(100.0, 0.05), 250.0, 0.05
    bound = math.sqrt((v + rho) * math.log((v + rho) / (rho * alpha**2)))
    assert critical_z(v, alpha, 100.0) == pytest.approx(bound / math.sqrt(v))


def test_rho_makes_it_tightest_where_it_is_wanted() -> None:
    rho = mixture_rho(100.0, 0.05)

    def z_of(other: float) -> float:
        return math.sqrt((1 + other / 100) * (math.log((100 + other) / other) - 2 * math.log(0.05)))

    assert z_of(rho) == pytest.approx(critical_z(100.0, 0.05, 100.0))
    assert z_of(rho) < min(z_of(rho * 1.2), z_of(rho / 1.2))


@pytest.mark.parametrize("information", [1.0, 50.0, 5000.0])
def test_p_and_interval_say_the_same(information: float) -> None:
    z = critical_z(information, 0.05, 100.0)
    assert always_valid_p(z**2, information, 0.05, 100.0) == pytest.approx(0.05)
    assert always_valid_p(0.0, information, 0.05, 100.0) == 1.0
    assert always_valid_p(1e6, information, 0.05, 100.0) < 1e-9


def test_brownian_motion_stays_inside() -> None:
    rng = np.random.default_rng(0)
    steps = 2000
    paths = rng.standard_normal((4000, steps)).cumsum(axis=1)
    v = np.arange(1, steps + 1)
    bound = np.array([critical_z(one, 0.05, 200.0) * math.sqrt(one) for one in v])
    left = (np.abs(paths) > bound).any(axis=1).mean()
    assert 0.01 < left <= 0.05
    assert (np.abs(paths) > 1.96 * np.sqrt(v)).any(axis=1).mean() > 0.5  # what it is for


def test_a_comparison() -> None:
    rng = np.random.default_rng(1)
    low, high = list_mean(*some_lists(rng, 4000, 0.1)), list_mean(*some_lists(rng, 4000, 0.13))
    found = compare(low, high)
    assert found is not None
    assert found.interval[0] > 0
    assert found.p_value < 0.05
    assert found.interval[0] < 0.03 < found.interval[1]
    back = compare(high, low)
    assert back is not None
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    same = compare(low, list_mean(*some_lists(rng, 4000, 0.1)))
    assert same is not None
    assert same.interval[0] < 0 < same.interval[1]
    own = mean_interval(low)
    assert own is not None
    assert own[0] < 0.1 < own[1]


def test_nothing_is_said_of_too_few() -> None:
    rng = np.random.default_rng(2)
    few = list_mean(*some_lists(rng, MIN_PERSONS - 1, 0.2))
    many = list_mean(*some_lists(rng, 500, 0.2))
    never = list_mean(np.zeros(1000), np.arange(1000))
    empty = list_mean(np.zeros(0), np.zeros(0, dtype=int))
    for one in (few, never, empty):
        assert mean_interval(one) is None
        assert compare(one, many) is None
        assert compare(many, one) is None
    assert (empty.value, empty.lists, empty.persons) == (0.0, 0, 0)
