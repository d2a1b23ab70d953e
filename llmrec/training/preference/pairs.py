"""Pairs for DPO: after this history, this item rather than that one.

Prompts are those of the task ``next_item``, token for token what serving sends. Only the training
split is read: a pair's rejected item is never one that its user took anywhere in it, but may be
what they take later, which nobody could know.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import ConfigError
from llmrec.generation.constraints import Constraints
from llmrec.generation.llm import Llm
from llmrec.training.preference.negatives import ListNegatives, SessionNegatives, TrainEvents
from llmrec.training.preference.settings import DpoConfig
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.history_tasks import next_item
from llmrec.training.tasks.lazy_rows import LazyRows, shuffled_epochs
from llmrec.types import Histories

POPULARITY = 0.75  # exponent, as for negatives since word2vec (Mikolov et al., 2013)


@dataclass(frozen=True)
class PreferencePairs:
    """Pairs of items, each after the history of a training event.

    Attributes:
        events: int64 ``[pairs]``, training events, whose items are the chosen ones.
        rejected: int64 ``[pairs]``, item indices.
    """

    corpus: TaskCorpus
    events: np.ndarray
    rejected: np.ndarray
    seed: int

    def __len__(self) -> int:
        return len(self.events)

    def dataset(self, examples: int) -> Any:
        """So many pairs as TRL's preference collator reads them, in a new order each epoch.

        Rows have ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, rendered when they are read.
        """
        from datasets import Dataset

        order = shuffled_epochs(np.arange(len(self)), examples, self.seed, 5)
        columns = {"pair": order, "number": np.arange(examples)}
        name = f"{self.corpus.dataset.folder} {len(self)} {self.seed}"
        return Dataset.from_dict(columns).with_transform(LazyRows(self._render, name))

    def _render(self, batch: Mapping[str, list[int]]) -> dict[str, list[list[int]]]:
        rows = [self.row(*n) for n in zip(batch["pair"], batch["number"], strict=True)]
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        return {name: [row[i].tolist() for row in rows] for i, name in enumerate(names)}

    def row(self, pair: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of the prompt, the chosen and the rejected item, int64 ``[tokens]`` each."""
        rng = np.random.default_rng([self.seed, number, 3])
        example = next_item(self.corpus, int(self.events[pair]), rng)
        rejected = self.corpus.writer.items([self.rejected[pair]])
        return example.prompt_ids, example.completion_ids, rejected


def make_pairs(
    corpus: TaskCorpus,
    config: DpoConfig,
    impressions: Path | None,
    llm: Llm,
    examples: int,
    seed: int,
) -> PreferencePairs:
    """Pairs of the training events.

    Args:
        impressions: lists that were shown; None for views of the same session.
        llm: the initial model, which ranks for ``negatives: model``.
        examples: pairs wanted; 0 for all there are. No more events are ranked than that needs.

    Raises:
        ConfigError: if there is no pair, with the reason.
        DataError: if the impressions cannot be read.
    """
    log = TrainEvents.read(corpus.dataset)
    chosen = log.chosen(config.chosen)
    events = corpus.events_with_history[chosen[corpus.events_with_history]]
    if len(events) == 0:
        raise ConfigError(
            f"dpo: no training event of {corpus.dataset.folder} with a history before it is a "
            f"{', '.join(config.chosen)}; change dpo.chosen, or ingest longer histories"
        )
    events = np.random.default_rng([seed, 6]).permutation(events)
    own = _ChosenItems(log, chosen)
    if config.negatives == "shown":
        rejected = _from_log(corpus, config, impressions, log, own, events)
    else:
        if examples:
            events = events[: -(-examples // config.rejected)]
        if config.negatives == "popular":
            rejected = _by_popularity(corpus, config, own, events, seed)
        else:
            rejected = _by_model(corpus, config, own, events, llm)
    counts = [len(row) for row in rejected]
    if sum(counts) == 0:
        raise ConfigError(
            f"dpo: the log gives no pair with negatives: {config.negatives}; everything else was "
            "chosen by the same user"
        )
    return PreferencePairs(corpus, np.repeat(events, counts), np.concatenate(rejected), seed)


class _ChosenItems:
    """Items that each user chose in the training split."""

    def __init__(self, log: TrainEvents, chosen: np.ndarray) -> None:
        self.users = log.user
        rows = np.flatnonzero(chosen)
        self._items, self._owners = log.item[rows], log.user[rows]  # sorted by user

    def by_user_of(self, event: int) -> np.ndarray:
        user = self.users[event]
        start, end = np.searchsorted(self._owners, [user, user + 1])
        return np.unique(self._items[start:end])


def _from_log(
    corpus: TaskCorpus,
    config: DpoConfig,
    path: Path | None,
    log: TrainEvents,
    own: _ChosenItems,
    events: np.ndarray,
) -> list[np.ndarray]:
    source: SessionNegatives | ListNegatives
    if path is None:
        source = SessionNegatives(log)
    else:
        source = ListNegatives(path, corpus.dataset, log)
        for note in source.notes:
            print(f"prefer: warning: {note}", file=sys.stderr)
    rejected = []
    for event in events.tolist():
        found = source.negatives(event, corpus.event(event)[3])
        found = found[~np.isin(found, own.by_user_of(event))]
        _, first = np.unique(found, return_index=True)
        rejected.append(found[np.sort(first)][: config.rejected])
    if any(map(len, rejected)):
        return rejected
    if path is None:
        raise ConfigError(
            f"dpo.negatives: {corpus.dataset.folder} has no record of what was shown (it has "
            f"{len(source)} views in sessions); give a log of lists with --impressions, ingest "
            "events of type view, or set negatives: popular or model"
        )
    raise ConfigError(
        f"--impressions: none of the {len(source)} clicks in {path} is a training event of "
        f"{corpus.dataset.folder}; give the log of the same shop"
    )


def _by_popularity(
    corpus: TaskCorpus, config: DpoConfig, own: _ChosenItems, events: np.ndarray, seed: int
) -> list[np.ndarray]:
    weight = corpus.popularity.astype(np.float64) ** POPULARITY
    rejected = []
    for event in events.tolist():
        left = weight.copy()
        left[own.by_user_of(event)] = 0.0
        count = min(config.rejected, int(np.count_nonzero(left)))
        if count == 0:
            rejected.append(np.empty(0, np.int64))
            continue
        rng = np.random.default_rng([seed, event, 7])
        rejected.append(rng.choice(len(left), count, replace=False, p=left / left.sum()))
    return rejected


def _by_model(
    corpus: TaskCorpus, config: DpoConfig, own: _ChosenItems, events: np.ndarray, llm: Llm
) -> list[np.ndarray]:
    parts = [corpus.event(event) for event in events.tolist()]
    timed = corpus.histories.timestamps is not None
    histories = Histories.from_lists(
        [items.tolist() for items, *_ in parts],
        [times.tolist() for _, times, _, _ in parts if times is not None] if timed else None,
        [np.nan if now is None else now for *_, now in parts] if timed else None,
    )
    limits = [Constraints(exclude=own.by_user_of(event)) for event in events.tolist()]
    found = llm.recommend(histories, config.rejected, constraints=limits)
    return [row[row >= 0] for row in found.items]
