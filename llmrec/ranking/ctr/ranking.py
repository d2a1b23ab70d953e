"""The whole cascade over many people at once, to measure how well it ranks what they chose next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from llmrec.ranking.ctr.features import Assembler, Inputs, Signals
from llmrec.ranking.ctr.fit import predict
from llmrec.ranking.ctr.lists import Lists
from llmrec.ranking.ctr.log import Log
from llmrec.ranking.ctr.model import combined
from llmrec.ranking.ctr.moments import moments_of
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.ctr.shelf import Happenings, Shelf
from llmrec.ranking.ctr.signals import histories_of
from llmrec.ranking.retrieval.candidates import candidates
from llmrec.ranking.retrieval.snapshot import Snapshot, Snapshots
from llmrec.ranking.retrieval.standard import StandardSources
from llmrec.types import Cases

_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Choices:
    """What people chose, to be found by whoever ranks.

    Attributes:
        cases: history and target; ``histories.now`` is when the list was shown that it was chosen
            from: a view that led to the click is not known yet.
        times: float64 ``[cases]``, the same times.
        context_of: int32 ``[cases]``, row of the lists' contexts.
    """

    cases: Cases
    times: np.ndarray
    context_of: np.ndarray


def choices(
    shown: Lists, log: Log, config: CtrConfig, start: float, end: float, most: int, seed: int
) -> Choices:
    """What was clicked of the lists of a span of time; so many at most, at random."""
    inside = (shown.time >= start) & (shown.time < end) & (shown.user >= 0)
    rows, places = np.nonzero((shown.click == 1) & inside[:, None])
    if len(rows) > most:
        some = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
        rows, places = rows[some], places[some]
    users, times = shown.user[rows], shown.time[rows]
    histories = histories_of(log, config.past, users, times)
    cases = Cases(users, histories, shown.items[rows, places])
    return Choices(cases, times, shown.context_of[rows])


@dataclass(frozen=True, eq=False)
class RankedLists:
    """Candidates of each case and what is said of them, padded with -1.

    Attributes:
        items: int64 ``[cases, c]``.
        click: float64 ``[cases, c]``, logit; llm: float32 ``[cases, c]``, NaN unknown.
    """

    items: np.ndarray
    click: np.ndarray
    llm: np.ndarray

    def scores(self, weight: float) -> np.ndarray:
        """What items are ranked by with a weight of the language model; -inf where padded.

        The logarithm of the probability, as in :meth:`~llmrec.ranking.ctr.model.ClickModel.value`.
        """
        found = combined(-np.logaddexp(0, -self.click), self.llm, weight)
        return np.where(self.items >= 0, found, -np.inf)

    def ranks(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Place of each target, 0 the top, int64 ``[cases]``; 2**31 - 1: it is no candidate."""
        hit = self.items == targets[:, None]
        own = np.where(hit, scores, -np.inf).max(axis=1, initial=-np.inf)
        place = (scores > own[:, None]).sum(axis=1)
        return np.where(hit.any(axis=1), place, 2**31 - 1)


def rank_choices(
    asked: Choices,
    log: Log,
    sources: StandardSources,
    snapshots: Snapshots,
    assembler: Assembler,
    shelf: Shelf,
    happened: Happenings,
    heads: list[Any],
    config: CtrConfig,
    contexts: np.ndarray,
    limit: int,
) -> RankedLists:
    """Candidates of every case, each as of its time, and what the head says of them.

    Args:
        sources: with the language model that serves.
        contexts: int32 ``[cases, names]``.
        limit: candidates of a case at most.
    """
    n = len(asked.cases)
    items = np.full((n, limit), -1, dtype=np.int64)
    click, llm = np.full((n, limit), -np.inf), np.full((n, limit), np.nan, dtype=np.float32)
    newest = snapshots.of(asked.times)
    with tqdm(total=n, desc="cascade", unit="person", mininterval=2) as bar:
        for number in np.unique(newest):
            known = Snapshot.empty() if number < 0 else snapshots.snapshots[number]
            made = sources(known)
            of_it = np.flatnonzero(newest == number)
            for start in range(0, len(of_it), _AT_ONCE):
                rows = of_it[start : start + _AT_ONCE]
                found, signals = _candidates(asked, rows, made, sources.names, limit, config)
                inputs = _inputs(
                    asked, rows, found, signals, log, assembler, happened, config, contexts
                )
                items[rows] = found
                click[rows] = predict(heads, shelf, inputs)[..., 0]
                if sources.names[0] == "generated":
                    llm[rows] = signals.score[:, :, 0]
                bar.update(len(rows))
    return RankedLists(items, click, llm)


def _candidates(
    asked: Choices,
    rows: np.ndarray,
    made: Any,
    names: tuple[str, ...],
    limit: int,
    config: CtrConfig,
) -> tuple[np.ndarray, Signals]:
    histories = asked.cases.histories.select(rows)
    found = candidates(made, histories, config.retrieval.k, limit)
    shape = (len(rows), limit)
    items = np.full(shape, -1, dtype=np.int64)
    rank = np.full((*shape, len(names)), -1, dtype=np.int32)
    score = np.full((*shape, len(names)), np.nan, dtype=np.float32)
    for row, of_one in enumerate(found):
        count = len(of_one)
        items[row, :count] = of_one.items
        rank[row, :count], score[row, :count] = of_one.described.rank, of_one.described.score
    return items, Signals(names, rank, score, np.zeros((*shape, 0)))


def _inputs(
    asked: Choices,
    rows: np.ndarray,
    items: np.ndarray,
    signals: Signals,
    log: Log,
    assembler: Assembler,
    happened: Happenings,
    config: CtrConfig,
    contexts: np.ndarray,
) -> Inputs:
    times = asked.times[rows]
    moments = moments_of(log, asked.cases.users[rows], times, contexts[rows], config.past.events)
    counts = happened.before(np.maximum(items, 0).ravel(), np.repeat(times, items.shape[1]))
    known = Signals(
        signals.names, signals.rank, signals.score, counts.reshape(*items.shape, counts.shape[1])
    )
    return assembler(moments, items, np.full(items.shape, -1), known)
