"""Source features of impressions, each as of its own time, so that no label leaks into them.

Statistics come from the newest snapshot before an impression. The language model's score comes from
the newest of several models that were trained on earlier events alone: one that was trained on the
click would look better than it is. Where there is none, its score is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.event_store import EventStore, is_positive
from llmrec.errors import ArtifactError, ConfigError
from llmrec.ranking.ctr.impressions import Impressions
from llmrec.ranking.ctr.settings import CtrConfig, HistoryConfig
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.generated import Generated
from llmrec.ranking.retrieval.interactions import Interactions
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import Snapshot, Snapshots, fit_snapshots
from llmrec.ranking.retrieval.source_features import (
    SourceFeatures,
    source_features,
    source_features_as_of,
)
from llmrec.stage import read_manifest
from llmrec.types import Histories

MOST_POSITIVES = 50  # newest positive events that sources read


@dataclass(frozen=True, eq=False)
class DatedModel:
    """A language model and the time of the newest event that it was trained on.

    Attributes:
        until: seconds since 1970 UTC.
    """

    model: Any
    until: float


def open_models(folders: Sequence[Path], n_items: int) -> list[DatedModel]:
    """Models by the time that they were trained until.

    Raises:
        ArtifactError: if one does not hold that time.
        ConfigError: if one is of another catalogue, or two were trained until the same time.
    """
    from llmrec.generation.load import load_llm

    found = []
    for folder in folders:
        until = read_manifest(folder).counts.get("learned_until")
        if until is None:
            raise ArtifactError(
                f"{folder}: does not say until when it has learned; run llmrec train again, on a "
                "dataset with times"
            )
        model = load_llm(folder)
        if model.n_items != n_items:
            raise ConfigError(f"{folder}: knows {model.n_items} items, the dataset has {n_items}")
        found.append(DatedModel(model, float(until)))
    found.sort(key=lambda one: one.until)
    for earlier, later in itertools.pairwise(found):
        if earlier.until == later.until:
            raise ConfigError("two models have learned until the same time; one is enough")
    return found


def positive_interactions(log: EventStore, history: HistoryConfig) -> Interactions:
    """The positive events of all users, in the order of time."""
    rows = np.flatnonzero(is_positive(log.kind, log.rating, history.types, history.min_rating))
    return Interactions.from_events(log.user[rows], log.item[rows], log.time[rows])


def fit_log_snapshots(
    log: EventStore, history: HistoryConfig, config: RetrievalConfig, n_items: int, count: int
) -> Snapshots:
    """Statistics as of ``count`` times, with about as many positive events between any two."""
    positives = positive_interactions(log, history)
    shares = np.arange(1, count + 1) / (count + 1)
    times = np.unique(np.quantile(positives.time, shares)).tolist() if len(positives) else []
    return fit_snapshots(positives, times, n_items, config)


def positive_histories(
    log: EventStore, history: HistoryConfig, users: np.ndarray, times: np.ndarray
) -> Histories:
    """Positive events of users before given times."""
    return log.positives(users, times, history.types, history.min_rating, MOST_POSITIVES)


def impression_source_features(
    impressions: Impressions,
    log: EventStore,
    catalogue: Catalogue,
    snapshots: Snapshots,
    models: Sequence[DatedModel],
    config: CtrConfig,
) -> SourceFeatures:
    """Rank and score of every impressed item by each source; the language model first, if any.

    Args:
        catalogue: without a language model.
    """
    histories = positive_histories(log, config.history, impressions.user, impressions.time)
    items, k = impressions.items.astype(np.int64), config.retrieval.k
    found = source_features_as_of(snapshots, catalogue, histories, items, k, progress=True)
    if not models:
        return found
    of_model = SourceFeatures.empty((Generated.name,), items.shape)
    until = np.array([one.until for one in models])
    newest = np.searchsorted(until, impressions.time, side="left") - 1  # trained before it
    for number, one in enumerate(models):
        rows = np.flatnonzero(newest == number)
        if len(rows):
            source = Generated(catalogue.with_model(one.model), Snapshot.empty())
            own = source_features([source], histories.select(rows), items[rows], k, progress=True)
            of_model.put(rows, own)
    return SourceFeatures(
        (*of_model.names, *found.names),
        np.concatenate([of_model.rank, found.rank], axis=2),
        np.concatenate([of_model.score, found.score], axis=2),
    )
