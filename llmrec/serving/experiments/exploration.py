"""Exploration: now and then another item stands first, with a probability that is known exactly.

In a share ``e`` of the lists the first place is drawn evenly from the first ``k`` of the ranking;
the item that is drawn and the one that ranks first change places. So the item that ranks first
stands first with probability ``1 - e + e / k`` and each of the next ``k - 1`` with ``e / k``
(epsilon-greedy over the first place). What any other ranking of these k would have earned can then
be estimated (:mod:`llmrec.experiments.off_policy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from llmrec.serving.experiments.settings import ExplorationConfig
from llmrec.serving.store.exposures import Explored
from llmrec.types import Recommendation


def propensity(config: ExplorationConfig, places: int, chosen: int) -> float:
    """Probability that an item of the first places stands first.

    >>> [round(propensity(ExplorationConfig(0.1, 5), 5, rank), 3) for rank in (1, 2, 5)]
    [0.92, 0.02, 0.02]
    """
    drawn = config.share / places
    return 1 - config.share + drawn if chosen == 1 else drawn


def explore(
    config: ExplorationConfig, items: Sequence[Recommendation], random: Random
) -> tuple[list[Recommendation], Explored | None]:
    """A list as it is shown, and how its first place came about; None without a choice.

    Args:
        items: best first.
    """
    places, shown = min(config.places, len(items)), list(items)
    if not config.share or places < 2:
        return shown, None
    chosen = random.randrange(places) + 1 if random.random() < config.share else 1
    if chosen > 1:
        first, drawn = shown[0], shown[chosen - 1]
        shown[0], shown[chosen - 1] = replace(drawn, rank=1), replace(first, rank=chosen)
    return shown, Explored(places, chosen, propensity(config, places, chosen))
