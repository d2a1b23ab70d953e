"""Rankings that need no training, each tuned on validation by the same small budget.

A baseline that nobody tuned flatters whatever stands beside it. :func:`tune` tries the defaults and
``trials - 1`` draws of a baseline's grid and keeps the best by NDCG@10 on a sample of validation
users; the test part is not touched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from llmrec.data.item_graph import ItemGraph, ItemGraphConfig
from llmrec.errors import ConfigError
from llmrec.loop.bars import ProgressBar
from llmrec.metrics.measure import evaluate
from llmrec.ranking.retrieval.ease import MAX_ITEMS, Ease
from llmrec.ranking.retrieval.graph_scorer import (
    GraphScorer,
    GraphScorerConfig,
    content_neighbours,
)
from llmrec.ranking.retrieval.item_knn import ItemKNN
from llmrec.ranking.retrieval.personal_frequency import PersonalFrequency
from llmrec.ranking.retrieval.popularity import Popularity
from llmrec.ranking.retrieval.star import Star
from llmrec.recommender import Scorer
from llmrec.types import Cases, Histories

Settings = dict[str, Any]
STRONG = "strong"  # all of them, tuned


@dataclass(frozen=True, eq=False)
class Content:
    """Content of the items.

    Attributes:
        vectors: float ``[n_items, dim]``.
    """

    vectors: np.ndarray

    @cached_property
    def neighbours(self) -> Any:
        """As :func:`~llmrec.ranking.retrieval.graph_scorer.content_neighbours` finds them."""
        return content_neighbours(self.vectors)


Fit = Callable[[Histories, int, Content | None, Settings], Scorer]


@dataclass(frozen=True)
class Baseline:
    """A ranking without training.

    Attributes:
        fit: from training histories, the number of items, content and settings.
        grid: values to try of each setting; empty for one without settings.
        scoring: those of the settings that what is fitted does not depend on.
        content: whether it reads content.
        max_items: of a catalogue that it can be fitted on; 0 is any.
        repeats: it ranks what a user took before, which says nothing where that is removed.
    """

    fit: Fit
    grid: dict[str, list[Any]]
    scoring: tuple[str, ...] = ()
    content: Literal["no", "optional", "needed"] = "no"
    max_items: int = 0
    repeats: bool = False


def _popularity(train: Histories, n_items: int, _: Content | None, settings: Settings) -> Scorer:
    return Popularity(**settings).fit(train, n_items)


def _personal(train: Histories, n_items: int, _: Content | None, settings: Settings) -> Scorer:
    return PersonalFrequency(**settings).fit(train, n_items)


def _item_knn(train: Histories, n_items: int, _: Content | None, settings: Settings) -> Scorer:
    return ItemKNN(**settings).fit(train, n_items)


def _item_graph(
    train: Histories, n_items: int, content: Content | None, settings: Settings
) -> Scorer:
    own = {name: settings[name] for name in ItemGraphConfig.__annotations__ if name in settings}
    rest = {name: value for name, value in settings.items() if name not in own}
    graph = ItemGraph.fit(train, n_items, ItemGraphConfig(**own))
    neighbours = None if content is None else content.neighbours
    return GraphScorer(graph, neighbours, GraphScorerConfig(**rest))


def _star(train: Histories, n_items: int, content: Content | None, settings: Settings) -> Scorer:
    assert content is not None
    return Star(content.vectors, **settings).fit(train, n_items)


def _ease(train: Histories, n_items: int, _: Content | None, settings: Settings) -> Scorer:
    return Ease(**settings).fit(train, n_items)


BASELINES: dict[str, Baseline] = {
    "popularity": Baseline(_popularity, {}),
    "personal-frequency": Baseline(
        _personal, {"decay": [0.8, 0.9, 0.95, 0.98, 0.99]}, scoring=("decay",), repeats=True
    ),
    "item-knn": Baseline(
        _item_knn,
        {
            "weighting": ["cosine", "tfidf"],
            "shrink": [0.0, 10.0, 20.0, 40.0, 80.0],
            "decay": [0.4, 0.5, 0.6, 0.7, 0.85],
        },
        scoring=("decay",),
    ),
    "item-graph": Baseline(
        _item_graph,
        {
            "window": [3, 5, 8, 12],
            "step_decay": [0.7, 0.8, 0.9],
            "backward": [0.1, 0.2, 0.3, 0.5],
            "decay": [0.4, 0.5, 0.6],
            "content_weight": [0.1, 0.2, 0.3, 0.45],
            "smoothing": [0.003, 0.01, 0.03],
        },
        scoring=("decay", "content_weight", "smoothing"),
        content="optional",
    ),
    "star": Baseline(
        _star,
        {
            "share": [0.3, 0.5, 0.7],
            "decay": [0.5, 0.6, 0.7, 0.8],
            "events": [3, 5, 10, 20],
        },
        scoring=("share", "decay", "events"),
        content="needed",
    ),
    "ease": Baseline(
        _ease,
        {"regularization": [50.0, 100.0, 200.0, 400.0, 800.0], "decay": [0.5, 0.7, 0.85, 1.0]},
        scoring=("decay",),
        max_items=MAX_ITEMS,
    ),
}


def fit_baseline(
    name: str,
    train: Histories,
    n_items: int,
    content: Content | None = None,
    settings: Settings | None = None,
) -> Scorer:
    """A baseline on training histories.

    Args:
        content: of the items, or None.
        settings: those that differ from the defaults.

    Raises:
        ConfigError: if it needs content and there is none, or the catalogue is too large for it.
    """
    baseline = BASELINES[name]
    if baseline.content == "needed" and content is None:
        raise ConfigError(f"{name}: needs content; give --features, a folder of llmrec embed")
    return baseline.fit(train, n_items, content, settings or {})


def result_name(dataset: str, ranking: str) -> str:
    """Of the result file of a baseline or model on a dataset."""
    return f"{dataset}-{ranking.replace('item-knn', 'itemknn')}"


def strong_baselines(n_items: int, content: Content | None, baskets: bool) -> list[str]:
    """Names of those that a catalogue can have, popularity first.

    Args:
        baskets: what comes next is a basket, which may hold what the user took before.
    """
    return [
        name
        for name, baseline in BASELINES.items()
        if not (baseline.content == "needed" and content is None)
        and not (baseline.max_items and n_items > baseline.max_items)
        and (baskets or not baseline.repeats)
    ]


def tune(
    name: str,
    train: Histories,
    n_items: int,
    content: Content | None,
    validation: Cases,
    *,
    trials: int,
    seed: int = 0,
) -> tuple[Settings, float]:
    """The best settings of a baseline by NDCG@10 on validation, and that figure.

    Args:
        train: what it is fitted on; nothing of the validation events.
        trials: settings tried, the defaults among them.
        seed: of the draws from the grid.

    Raises:
        ConfigError: as for :func:`fit_baseline`.
    """
    baseline = BASELINES[name]
    rng = np.random.default_rng(seed)
    drawn: list[Settings] = [
        {key: values[rng.integers(len(values))] for key, values in baseline.grid.items()}
        for _ in range(trials - 1 if baseline.grid else 0)
    ]
    # those that are fitted alike stand together, behind the defaults
    drawn = [{}, *sorted(drawn, key=lambda one: repr(_fitted_with(baseline, one)))]
    best: tuple[Settings, float] = ({}, -1.0)
    counts = np.zeros(n_items, dtype=np.int64)  # popularity plays no part here
    scorer: Scorer | None = None
    fitted: Settings = {}  # what the scorer was fitted with
    for settings in ProgressBar(drawn, f"tune {name}", unit="trial", disable=len(drawn) == 1):
        needed = _fitted_with(baseline, settings)
        if scorer is not None and needed == fitted:
            scorer = _scoring_with(scorer, {key: settings[key] for key in baseline.scoring})
        else:
            scorer = fit_baseline(name, train, n_items, content, settings)
        fitted = needed
        found = evaluate(scorer, validation, counts, ks=(10,), list_length=10, with_history=False)
        value = found.mean("ndcg@10")
        if value > best[1]:
            best = settings, value
    return best


def _fitted_with(baseline: Baseline, settings: Settings) -> Settings:
    """The settings that what is fitted depends on."""
    return {key: value for key, value in settings.items() if key not in baseline.scoring}


def _scoring_with(scorer: Scorer, settings: Settings) -> Scorer:
    """A fitted baseline that scores with other settings."""
    changed = copy.copy(scorer)
    if isinstance(changed, GraphScorer):
        changed.config = replace(changed.config, **settings)
    else:
        vars(changed).update(settings)
    return changed
