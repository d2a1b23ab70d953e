"""Rewards of :mod:`llmrec.training.preference.rewards` on a dataset's cases and served lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.recommender import ListRecommender, Scorer, recommend_from_scores
from llmrec.training.preference.rewards import REWARDS, CatalogueFacts, RewardCase, total
from llmrec.training.preference.settings import RewardConfig
from llmrec.types import Cases

LIST_LENGTH = 10  # of the served lists that are measured


def catalogue_facts(dataset: Dataset) -> CatalogueFacts:
    """Price level and stock of a dataset's items.

    A price is compared with the median of the items whose category path ends alike: 40 is expensive
    for socks and cheap for a coat.
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
    usual = pd.Series(level[known]).groupby(np.array(kinds, dtype=object)[known])
    level[known] -= usual.transform("median").to_numpy()
    return CatalogueFacts(level, in_stock)


def check_rules(facts: CatalogueFacts, config: RewardConfig, dataset: Dataset) -> None:
    """Rewards that have a weight must be able to differ between items.

    Raises:
        ConfigError: naming the reward.
    """
    if config.stock and facts.in_stock.all():
        raise ConfigError(
            f"rewards.stock: no item of {dataset.folder} is out of stock; ingest a "
            "catalogue with in_stock, or set it to 0"
        )
    if config.price and np.isnan(facts.level).all():
        raise ConfigError(
            f"rewards.price: no item of {dataset.folder} has a price; ingest a catalogue with "
            "price, or set it to 0"
        )


def reward_case(
    target: int, history: np.ndarray, facts: CatalogueFacts, config: RewardConfig
) -> RewardCase:
    """A case from a history of item indices; any price is usual where none in it is known."""
    levels = facts.level[history]
    levels = levels[~np.isnan(levels)]
    if len(levels) == 0:
        return RewardCase(target, -np.inf, np.inf, facts)
    tail = (1 - config.price_share) / 2
    low, high = np.quantile(levels, [tail, 1 - tail])
    margin = np.log(config.price_margin)
    return RewardCase(target, float(low - margin), float(high + margin), facts)


def reward_per_case(
    recommender: ListRecommender | Scorer,
    cases: Cases,
    dataset: Dataset,
    config: RewardConfig,
    n: int = LIST_LENGTH,
) -> dict[str, np.ndarray]:
    """Mean reward of the n items served for each case, items of the history left out.

    Args:
        cases: of the dataset.
        config: weights, and what a usual price is.

    Returns:
        mean over the list, float64 ``[cases]``, of every part and of their weighted sum
        ``total``. ``hit`` times n is Recall@n, ``rank`` times n is NDCG@n.
    """
    if isinstance(recommender, ListRecommender):
        ranking = recommender.recommend(cases.histories, n)
    else:
        ranking = recommend_from_scores(recommender, cases.histories, n)
    facts = catalogue_facts(dataset)
    found = [
        reward_case(int(target), cases.histories[row], facts, config)
        for row, target in enumerate(cases.targets)
    ]
    return reward_of_lists(ranking.items, found, config)


def reward_of_lists(
    lists: np.ndarray, cases: Sequence[RewardCase], config: RewardConfig
) -> dict[str, np.ndarray]:
    """:func:`reward_per_case` of given lists: int ``[cases, n]``, -1 where they are short."""
    parts = {
        name: np.array([part(row, case).mean() for row, case in zip(lists, cases, strict=True)])
        for name, part in REWARDS.items()
    }
    return {"total": total(parts, config.weights)} | parts
