"""Pairs for DPO: after this history, this item rather than that one.

Prompts are those of the task ``next_item``, token for token what serving sends. Only the training
split is read: a pair's rejected item is never one that its user took anywhere in it, but may be
what they take later, which nobody could know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import ConfigError
from llmrec.generation.constraints import Constraints
from llmrec.generation.llm import Llm
from llmrec.training.preference.settings import DpoConfig
from llmrec.training.preference.shown import Impressions, TrainEvents, ViewedInSession
from llmrec.training.tasks.corpus import Corpus
from llmrec.training.tasks.history_tasks import next_item
from llmrec.types import Histories

POPULARITY = 0.75  # exponent, as for negatives since word2vec (Mikolov et al., 2013)


@dataclass(frozen=True)
class Pairs:
    """Pairs of items, each after the history of a training event.

    Attributes:
        places: int64 ``[pairs]``, the events, whose items are the chosen ones.
        rejected: int64 ``[pairs]``, item indices.
    """

    corpus: Corpus
    places: np.ndarray
    rejected: np.ndarray
    seed: int

    def __len__(self) -> int:
        return len(self.places)

    def dataset(self, examples: int) -> Any:
        """So many pairs as TRL's preference collator reads them, in a new order each epoch.

        Rows are read as ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, written when they are
        read.
        """
        from datasets import Dataset

        epochs = range(-(-examples // len(self)))
        orders = [np.random.default_rng([self.seed, e, 5]).permutation(len(self)) for e in epochs]
        columns = {"pair": np.concatenate(orders)[:examples], "draw": np.arange(examples)}
        return Dataset.from_dict(columns).with_transform(_Render(self))

    def row(self, pair: int, draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of the prompt, the chosen and the rejected item, int64 ``[tokens]`` each."""
        rng = np.random.default_rng([self.seed, draw, 3])
        example = next_item(self.corpus, int(self.places[pair]), rng)
        rejected = self.corpus.writer.items([self.rejected[pair]])
        return example.prompt_ids, example.completion_ids, rejected


class _Render:
    """Writes the pairs of a batch of numbers."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __call__(self, batch: Mapping[str, list[int]]) -> dict[str, list[list[int]]]:
        rows = [self.pairs.row(*n) for n in zip(batch["pair"], batch["draw"], strict=True)]
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        return {name: [row[i].tolist() for row in rows] for i, name in enumerate(names)}

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # a name for `datasets`, which would pickle the catalogue to find one
        return str, (f"{self.pairs.corpus.dataset.folder} {len(self.pairs)} {self.pairs.seed}",)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Render:
        return self


def make_pairs(
    corpus: Corpus, config: DpoConfig, impressions: Path | None, llm: Llm, examples: int, seed: int
) -> Pairs:
    """Pairs of the training events.

    Args:
        impressions: lists that were shown; None for views of the same session.
        llm: the starting model, which ranks for ``negatives: model``.
        examples: pairs that are asked for; 0 for all there are. Fewer events are worked on where
            fewer do.

    Raises:
        ConfigError: if there is no pair, saying why.
        DataError: if the impressions cannot be read.
    """
    events = TrainEvents.read(corpus.dataset)
    taken = events.taken(config.chosen)
    places = corpus.steps[taken[corpus.steps]]
    if len(places) == 0:
        raise ConfigError(
            f"dpo: no training event of {corpus.dataset.folder} with a history before it is a "
            f"{', '.join(config.chosen)}; change dpo.chosen, or ingest longer histories"
        )
    places = np.random.default_rng([seed, 6]).permutation(places)
    own = _Taken(events, taken)
    if config.negatives == "shown":
        rejected = _shown(corpus, config, impressions, events, own, places)
    else:
        if examples:
            places = places[: -(-examples // config.rejected)]
        if config.negatives == "popular":
            rejected = _popular(corpus, config, own, places, seed)
        else:
            rejected = _ranked(corpus, config, own, places, llm)
    counts = [len(row) for row in rejected]
    if sum(counts) == 0:
        raise ConfigError(
            f"dpo: the log gives no pair with negatives: {config.negatives}; everything else was "
            "taken by the same user"
        )
    return Pairs(corpus, np.repeat(places, counts), np.concatenate(rejected), seed)


class _Taken:
    """What each user took in the training split."""

    def __init__(self, events: TrainEvents, taken: np.ndarray) -> None:
        self.users = events.user
        rows = np.flatnonzero(taken)
        self._items, self._owners = events.item[rows], events.user[rows]  # sorted by user

    def by_user_of(self, place: int) -> np.ndarray:
        user = self.users[place]
        start, end = np.searchsorted(self._owners, [user, user + 1])
        return np.unique(self._items[start:end])


def _shown(
    corpus: Corpus,
    config: DpoConfig,
    path: Path | None,
    events: TrainEvents,
    own: _Taken,
    places: np.ndarray,
) -> list[np.ndarray]:
    log = ViewedInSession(events) if path is None else Impressions(path, corpus.dataset, events)
    rejected = []
    for place in places.tolist():
        passed = log.beside(place, corpus.step(place)[3])
        passed = passed[~np.isin(passed, own.by_user_of(place))]
        _, first = np.unique(passed, return_index=True)
        rejected.append(passed[np.sort(first)][: config.rejected])
    if any(map(len, rejected)):
        return rejected
    if path is None:
        raise ConfigError(
            f"dpo.negatives: {corpus.dataset.folder} does not say what was shown (it has "
            f"{len(log)} views in sessions); give a log of lists with --impressions, ingest "
            "events of type view, or set negatives: popular or model"
        )
    raise ConfigError(
        f"--impressions: none of the {len(log)} clicks in {path} is a training event of "
        f"{corpus.dataset.folder}; give the log of the same shop"
    )


def _popular(
    corpus: Corpus, config: DpoConfig, own: _Taken, places: np.ndarray, seed: int
) -> list[np.ndarray]:
    weight = corpus.popularity.astype(np.float64) ** POPULARITY
    rejected = []
    for place in places.tolist():
        left = weight.copy()
        left[own.by_user_of(place)] = 0.0
        count = min(config.rejected, int(np.count_nonzero(left)))
        if count == 0:
            rejected.append(np.empty(0, np.int64))
            continue
        rng = np.random.default_rng([seed, place, 7])
        rejected.append(rng.choice(len(left), count, replace=False, p=left / left.sum()))
    return rejected


def _ranked(
    corpus: Corpus, config: DpoConfig, own: _Taken, places: np.ndarray, llm: Llm
) -> list[np.ndarray]:
    steps = [corpus.step(place) for place in places.tolist()]
    timed = corpus.histories.timestamps is not None
    histories = Histories.from_lists(
        [items.tolist() for items, *_ in steps],
        [times.tolist() for _, times, _, _ in steps if times is not None] if timed else None,
        [np.nan if now is None else now for *_, now in steps] if timed else None,
    )
    limits = [Constraints(exclude=own.by_user_of(place)) for place in places.tolist()]
    found = llm.recommend(histories, config.rejected, constraints=limits)
    return [row[row >= 0] for row in found.items]
