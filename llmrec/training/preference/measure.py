"""What the rewards of ``rewards.py`` are for a dataset's cases and for what is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.recommender import ListRecommender, Scorer, recommend_from_scores
from llmrec.training.preference.rewards import REWARDS, Case, Facts, total
from llmrec.training.preference.settings import RewardConfig
from llmrec.types import Cases

SERVED = 10  # items of a list that is measured


def facts_of(dataset: Dataset) -> Facts:
    """What the catalogue says of its items.

    A price is compared with the median of the items whose category path ends alike: 40 is dear for
    socks and cheap for a coat.
    """
    items, n_items = dataset.items, dataset.n_items
    price = np.full(n_items, np.nan)
    in_stock = np.ones(n_items, dtype=bool)
    if "price" in items.column_names:
        price = items["price"].to_numpy().astype(np.float64)
    if "in_stock" in items.column_names:
        in_stock = np.array([value is not False for value in items["in_stock"].to_pylist()])
    kinds = [""] * n_items
    if "categories" in items.column_names:
        kinds = [path[-1] if path else "" for path in items["categories"].to_pylist()]
    level = np.full(n_items, np.nan)
    known = np.flatnonzero(price > 0)
    level[known] = np.log(price[known])
    level[known] -= medians(level[known], np.unique(kinds, return_inverse=True)[1][known])
    return Facts(level, in_stock)


def medians(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The median of each value's group.

    >>> medians(np.array([1.0, 7.0, 2.0, 9.0]), np.array([0, 1, 0, 1])).tolist()
    [1.5, 8.0, 1.5, 8.0]
    """
    order = np.lexsort((values, groups))
    _, first, place, size = np.unique(
        groups[order], return_index=True, return_inverse=True, return_counts=True
    )
    ascending = values[order]
    middle = (ascending[first + (size - 1) // 2] + ascending[first + size // 2]) / 2
    found = np.empty_like(values)
    found[order] = middle[place]
    return found


def check_rules(facts: Facts, config: RewardConfig, dataset: Dataset) -> None:
    """Rules that have a weight must be ones that an item can keep or break.

    Raises:
        ConfigError: naming the rule.
    """
    if config.stock and facts.in_stock.all():
        raise ConfigError(
            f"rewards.stock: no item of {dataset.folder} is said to be out of stock; ingest a "
            "catalogue with in_stock, or set it to 0"
        )
    if config.price and np.isnan(facts.level).all():
        raise ConfigError(
            f"rewards.price: no item of {dataset.folder} has a price; ingest a catalogue with "
            "price, or set it to 0"
        )


def case_of(target: int, history: np.ndarray, facts: Facts, config: RewardConfig) -> Case:
    """A case from a history of item indices; without a known price in it, any price is usual."""
    levels = facts.level[history]
    levels = levels[~np.isnan(levels)]
    if len(levels) == 0:
        return Case(target, -np.inf, np.inf, facts)
    tail = (1 - config.price_share) / 2
    low, high = np.quantile(levels, [tail, 1 - tail])
    margin = np.log(config.price_margin)
    return Case(target, float(low - margin), float(high + margin), facts)


def cases_of(cases: Cases, facts: Facts, config: RewardConfig) -> list[Case]:
    """The same cases as rewards see them."""
    histories = cases.histories
    return [
        case_of(int(target), histories[row], facts, config)
        for row, target in enumerate(cases.targets)
    ]


def reward_per_case(
    recommender: ListRecommender | Scorer,
    cases: Cases,
    dataset: Dataset,
    config: RewardConfig,
    n: int = SERVED,
) -> dict[str, np.ndarray]:
    """What the n items served for each case are worth, items of the history left out.

    Args:
        cases: of the dataset.
        config: the weights, and what a usual price is.

    Returns:
        mean over the list, float64 ``[cases]``, of every part and of their weighted sum
        ``total``. ``hit`` times n is Recall@n, ``rank`` times n is NDCG@n.
    """
    if isinstance(recommender, ListRecommender):
        ranking = recommender.recommend(cases.histories, n)
    else:
        ranking = recommend_from_scores(recommender, cases.histories, n)
    return reward_of_lists(ranking.items, cases_of(cases, facts_of(dataset), config), config)


def reward_of_lists(
    lists: np.ndarray, cases: Sequence[Case], config: RewardConfig
) -> dict[str, np.ndarray]:
    """:func:`reward_per_case` of given lists: int ``[cases, n]``, -1 where they are short."""
    parts = {
        name: np.array([part(row, case).mean() for row, case in zip(lists, cases, strict=True)])
        for name, part in REWARDS.items()
    }
    return {"total": total(parts, config.weights)} | parts
