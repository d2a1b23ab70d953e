"""Assignment is stable, keeps its shares, and experiments do not know of each other."""

import math

import numpy as np
import pytest

from llmrec.errors import ConfigError
from llmrec.experiments.assignment import assign, check_shares, place

PEOPLE = [f"person-{number}" for number in range(20_000)]


def variants(salt: str, shares: list[float]) -> np.ndarray:
    return np.array([assign(salt, person, shares) for person in PEOPLE])


def test_it_stays_as_it_is() -> None:  # a change would move people between variants
    assert [assign("summer", name, [0.2, 0.3, 0.5]) for name in ("anna", "ben", "eve", "ü")] == [
        2,
        1,
        2,
        1,
    ]


def test_places_are_uniform() -> None:
    places = np.sort([place("summer", person) for person in PEOPLE])
    assert places[0] >= 0
    assert places[-1] < 1
    ideal = (np.arange(len(PEOPLE)) + 0.5) / len(PEOPLE)
    assert np.abs(places - ideal).max() < 1.95 / math.sqrt(len(PEOPLE))  # Kolmogorov, p = 0.001


def test_shares_are_kept() -> None:
    counts = np.bincount(variants("summer", [0.1, 0.0, 0.6, 0.3]), minlength=4) / len(PEOPLE)
    assert counts[1] == 0
    assert np.abs(counts - [0.1, 0.0, 0.6, 0.3]).max() < 0.015


def test_experiments_are_independent() -> None:
    summer, winter = variants("summer", [0.5, 0.5]), variants("winter", [0.5, 0.5])
    assert abs(np.corrcoef(summer, winter)[0, 1]) < 0.03
    assert not np.array_equal(summer, winter)


def test_a_rounding_error_is_the_last_variants() -> None:
    third = 0.3333333
    check_shares([third, third, third], "summer")
    assert set(variants("summer", [third, third, third, 0.0])) == {0, 1, 2}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0.5, 0.6], "0.5 \\+ 0.6 = 1.1; they must make 1"),
        ([0.5], "they must make 1"),
        ([], "they must make 1"),
        ([1.5, -0.5], "not 1.5"),
        ([math.nan, 1.0], "not nan"),
    ],
)
def test_broken_shares(shares: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^summer: .*{message}"):
        check_shares(shares, "summer")
