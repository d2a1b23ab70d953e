"""The first place is drawn as often as its logged probability says."""

import math
from random import Random

import numpy as np

from llmrec.serving.experiments.exploration import explore, propensity
from llmrec.serving.experiments.settings import ExplorationConfig
from llmrec.types import Recommendation

ITEMS = [Recommendation(f"i{rank}", f"title {rank}", rank, -rank) for rank in range(1, 7)]


def test_it_is_off_where_it_is_not_asked_for() -> None:
    assert explore(ExplorationConfig(), ITEMS, Random(0)) == (ITEMS, None)
    config = ExplorationConfig(share=1.0)
    assert explore(config, ITEMS[:1], Random(0)) == (ITEMS[:1], None)
    assert explore(config, [], Random(0)) == ([], None)


def test_propensities_are_exact() -> None:
    config, random, counts = ExplorationConfig(0.3, 4), Random(0), np.zeros(4)
    for _ in range(20_000):
        shown, found = explore(config, ITEMS, random)
        assert found is not None
        assert shown[0].item_id == f"i{found.chosen}"
        assert found.propensity == propensity(config, 4, found.chosen)
        counts[found.chosen - 1] += 1
    expected = [propensity(config, 4, rank) for rank in (1, 2, 3, 4)]
    assert math.isclose(sum(expected), 1)
    assert np.abs(counts / 20_000 - expected).max() < 0.01


def test_two_items_change_places() -> None:
    config = ExplorationConfig(1.0, 5)
    for seed in range(20):
        shown, found = explore(config, ITEMS, Random(seed))
        assert found is not None
        assert [one.rank for one in shown] == [1, 2, 3, 4, 5, 6]
        order = [one.item_id for one in shown]
        place = found.chosen - 1
        order[0], order[place] = order[place], order[0]
        assert order == [one.item_id for one in ITEMS]
    shown, found = explore(config, ITEMS[:2], Random(1))
    assert found is not None
    assert (found.places, found.propensity) == (2, 0.5)
