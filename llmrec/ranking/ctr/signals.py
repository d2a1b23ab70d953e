"""What the sources of candidates say of items that were shown, each list as of its own time.

Statistics come from the newest snapshot before a list. The language model's score comes from the
newest of several models that had not learned from the time of the list: one that has learned what
was clicked next would look better than it is. Where there is none, its score is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import ArtifactError, ConfigError
from llmrec.ranking.ctr.features import Signals
from llmrec.ranking.ctr.lists import Lists
from llmrec.ranking.ctr.log import Log, is_positive
from llmrec.ranking.ctr.settings import CtrConfig, Past
from llmrec.ranking.retrieval.describe import describe, describe_as_of
from llmrec.ranking.retrieval.generated import Generated
from llmrec.ranking.retrieval.log import Log as Choices
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import Snapshots, fit_snapshots
from llmrec.ranking.retrieval.standard import StandardSources
from llmrec.stage import read_manifest
from llmrec.types import Histories

MOST = 50  # newest choices that a source reads


@dataclass(frozen=True, eq=False)
class Ranked:
    """A language model and until when it has learned.

    Attributes:
        until: time of the newest event it learned from, seconds since 1970 UTC.
    """

    model: Any
    until: float


def open_models(folders: Sequence[Path], n_items: int) -> list[Ranked]:
    """Models by until when they have learned.

    Raises:
        ArtifactError: if one does not say until when it has learned.
        ConfigError: if one is of another catalogue, or two have learned until the same time.
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
        found.append(Ranked(model, float(until)))
    found.sort(key=lambda one: one.until)
    for earlier, later in itertools.pairwise(found):
        if earlier.until == later.until:
            raise ConfigError("two models have learned until the same time; one is enough")
    return found


def choices_of(log: Log, past: Past) -> Choices:
    """What people chose, in the order of time."""
    rows = np.flatnonzero(is_positive(log.kind, log.rating, past.types, past.min_rating))
    return Choices.from_events(log.user[rows], log.item[rows], log.time[rows])


def snapshots_of(
    log: Log, past: Past, config: RetrievalConfig, n_items: int, count: int
) -> Snapshots:
    """Statistics as of several times, with about as many choices between any two.

    Args:
        count: how many.
    """
    choices = choices_of(log, past)
    shares = np.arange(1, count + 1) / (count + 1)
    times = np.unique(np.quantile(choices.time, shares)).tolist() if len(choices) else []
    return fit_snapshots(choices, times, n_items, config)


def histories_of(log: Log, past: Past, users: np.ndarray, times: np.ndarray) -> Histories:
    """What people chose before given times."""
    return log.positives(users, times, past.types, past.min_rating, MOST)


def describe_lists(
    lists: Lists,
    log: Log,
    sources: StandardSources,
    snapshots: Snapshots,
    models: Sequence[Ranked],
    config: CtrConfig,
) -> Signals:
    """What each source says of what was shown; the language model first, if there is one.

    The counts of how items had fared are not filled in.
    """
    histories = histories_of(log, config.past, lists.user, lists.time)
    items, k = lists.items.astype(np.int64), config.retrieval.k
    found = describe_as_of(snapshots, sources, histories, items, k, progress=True)
    names, rank, score = sources.names, found.rank, found.score
    if models:
        shape = (*items.shape, 1)
        own_rank, own_score = np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32)
        until = np.array([one.until for one in models])
        newest = np.searchsorted(until, lists.time, side="left") - 1  # had learned before it
        for number, one in enumerate(models):
            rows = np.flatnonzero(newest == number)
            if len(rows):
                generated = [Generated(one.model, len(sources.nearest.vectors))]
                said = describe(generated, histories.select(rows), items[rows], k, progress=True)
                own_rank[rows], own_score[rows] = said.rank, said.score
        names = ("generated", *names)
        rank, score = np.concatenate([own_rank, rank], 2), np.concatenate([own_score, score], 2)
    return Signals(names, rank, score, np.zeros((*items.shape, 0)))
