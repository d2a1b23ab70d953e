"""Evaluate a recommender on every case of a split, keeping the rank of each target.

Both protocols in use are measured. *History removed*: items the user has already met are
taken out of the ranking, so a target that is one of them is a miss. *With history*: the
whole catalogue is ranked. A :class:`~llmrec.recommender.Scorer` gives the target's exact
rank among all items, both protocols from one scoring pass; any other recommender gives
a list, and a target that is not on it is not found.

Cases of one basket are asked once and are one case of every metric. A basket is bought again, so
there the protocol with history is the primary one; elsewhere the other is.

Ties go to the smaller item index, as everywhere in llmrec.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.files import write_whole
from llmrec.loop.bars import ProgressBar
from llmrec.metrics.metrics import NOT_FOUND, list_ranks, per_case, target_ranks
from llmrec.metrics.slices import case_facts
from llmrec.recommender import ListRecommender, Scorer, history_mask, top_n
from llmrec.types import Cases, Histories

_SCORES_AT_ONCE = 1 << 26  # float32 scores held at once: 256 MiB


@dataclass(frozen=True)
class Outcome:
    """What came out under one protocol.

    Attributes:
        ranks: int64 ``[targets]``, 0 is the top; ``NOT_FOUND`` where not found.
        lists: int32 ``[cases, list_length]``, best first, -1 where short.
        invalid_reported: places the engine dropped because what it generated was no item.
        seen: places of the lists that hold an item of the user's own history.
    """

    ranks: np.ndarray
    lists: np.ndarray
    invalid_reported: int
    seen: int


@dataclass(frozen=True)
class Evaluation:
    """Every case's outcome, and what is needed to slice it.

    Attributes:
        users: int32 ``[cases]``.
        targets: int32 ``[targets]``, one a case, or the items of its basket.
        basket: int64 ``[targets]``, the case of each target, or None where each has one.
        facts: of every target, as :func:`~llmrec.metrics.slices.case_facts` finds them.
        train_counts: int64 ``[items]``, events of each item in training.
        removed: the protocol with the history removed from the ranking.
        with_history: the other protocol, or None if it was not measured.
        rank_limit: None when ranks are exact over the catalogue, else the lists' length.
        seconds: time spent in the recommender and in ranking.
    """

    users: np.ndarray
    targets: np.ndarray
    basket: np.ndarray | None
    facts: dict[str, np.ndarray]
    train_counts: np.ndarray
    ks: tuple[int, ...]
    removed: Outcome
    with_history: Outcome | None
    rank_limit: int | None
    seconds: float

    @property
    def n_items(self) -> int:
        return len(self.train_counts)

    @property
    def target_counts(self) -> np.ndarray:
        """int64 ``[targets]``: how often each target occurs in training."""
        return self.facts["target_train_count"]

    @property
    def primary(self) -> Outcome:
        """The outcome that counts: with the history removed, or of baskets, with it."""
        if self.basket is None:
            return self.removed
        assert self.with_history is not None
        return self.with_history

    def values(self, outcome: Outcome, ks: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Metric name to float64 ``[cases]``, at the cut-offs ``ks``, by default all."""
        return per_case(outcome.ranks, self.n_items, ks or self.ks, self.basket)

    def mean(self, metric: str) -> float:
        """A metric of the primary outcome."""
        return float(self.values(self.primary)[metric].mean())


def train_counts(train: Histories, n_items: int) -> np.ndarray:
    """int64 ``[items]``: events of each item in training.

    >>> train_counts(Histories.from_lists([[0, 2], [2]]), 4)
    array([1, 0, 2, 0])
    """
    return np.bincount(train.items, minlength=n_items).astype(np.int64)


def evaluate(
    recommender: Scorer | ListRecommender,
    cases: Cases,
    counts: np.ndarray,
    *,
    ks: Sequence[int] = (5, 10, 20),
    list_length: int = 50,
    batch_size: int = 512,
    with_history: bool = True,
    progress: bool = False,
    checkpoint: Path | None = None,
    name_ranks: np.ndarray | None = None,
) -> Evaluation:
    """Measure a recommender on every case.

    Args:
        recommender: anything that ranks; a Scorer is preferred for its exact ranks. An engine
            that drops what it generated because it was no item may count such places in an
            integer attribute ``invalid_generated`` that only grows.
        cases: what to ask.
        counts: int ``[items]``, from :func:`train_counts`; its length is the catalogue's size.
        ks: cut-offs of the metrics.
        list_length: items of a list.
        batch_size: users of a batch; lowered by itself for a huge catalogue.
        with_history: measure the second protocol too; for a recommender without scores this
            doubles the work. Of baskets both are always measured.
        progress: show progress on stderr.
        checkpoint: a folder that keeps finished batches, so a killed run goes on from there.
            It must only be used again with the same recommender, cases and settings.
        name_ranks: int ``[items]``, place of each item in the order of names, for the slice
            ``name_order``; None for none.

    Raises:
        ConfigError: if the cut-offs do not fit the list length.
        DataError: if there are no cases.
        ArtifactError: if the recommender was made for another catalogue or returns NaN.
    """
    n_items = len(counts)
    if not ks or min(ks) < 1 or max(ks) > list_length:
        raise ConfigError(f"ks {tuple(ks)}: each must lie in 1..list_length ({list_length})")
    if not len(cases):
        raise DataError("no cases to evaluate: the split is empty; choose another split")
    if recommender.n_items != n_items:
        raise ArtifactError(
            f"the model ranks {recommender.n_items} items but the dataset has {n_items}; "
            "evaluate it on the dataset it was made from"
        )
    exact = isinstance(recommender, Scorer)
    if exact:
        batch_size = max(1, min(batch_size, _SCORES_AT_ONCE // n_items))
    with_history |= cases.basket is not None
    firsts = cases.starts  # of each basket
    ends = np.append(firsts, len(cases))
    batches = []
    starts = range(0, len(firsts), batch_size)
    for start in ProgressBar(starts, desc="evaluate", unit="batch", disable=not progress):
        rows = np.arange(ends[start], ends[min(start + batch_size, len(firsts))])
        batch = cases.select(rows)
        batches.append(_resumed(recommender, batch, list_length, with_history, checkpoint, start))
    return Evaluation(
        users=cases.users[firsts],
        targets=cases.targets,
        basket=cases.basket,
        facts=case_facts(cases, np.asarray(counts), name_ranks),
        train_counts=np.asarray(counts, dtype=np.int64),
        ks=tuple(ks),
        removed=_join(batches, "removed"),
        with_history=_join(batches, "with_history") if with_history else None,
        rank_limit=None if exact else list_length,
        seconds=float(sum(batch["seconds"] for batch in batches)),
    )


def _resumed(
    recommender: Scorer | ListRecommender,
    batch: Cases,
    n: int,
    with_history: bool,
    checkpoint: Path | None,
    start: int,
) -> dict[str, np.ndarray]:
    """One batch's arrays, from the checkpoint if they are there."""
    if checkpoint is None:
        return _batch(recommender, batch, n, with_history)
    path = checkpoint / f"cases-{start:09d}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as saved:
            return dict(saved)
    arrays = _batch(recommender, batch, n, with_history)
    checkpoint.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_whole(path, content.getvalue())
    return arrays


def _batch(
    recommender: Scorer | ListRecommender, batch: Cases, n: int, with_history: bool
) -> dict[str, np.ndarray]:
    """Ask one batch; arrays named ``PROTOCOL.FIELD``, and ``seconds``."""
    started = time.perf_counter()
    if isinstance(recommender, Scorer):
        arrays = _from_scores(recommender, batch, n, with_history)
    else:
        arrays = _from_lists(recommender, batch, n, exclude_history=True)
        if with_history:
            arrays |= _from_lists(recommender, batch, n, exclude_history=False)
    arrays["seconds"] = np.asarray(time.perf_counter() - started)
    return arrays


def _from_scores(scorer: Scorer, batch: Cases, n: int, with_history: bool) -> dict[str, np.ndarray]:
    asked = batch.select(batch.starts)
    scores = np.array(scorer.score(asked.histories), dtype=np.float32)
    if scores.shape != (len(asked), scorer.n_items):
        raise ArtifactError(
            f"the model returned scores {scores.shape}, not {(len(asked), scorer.n_items)}"
        )
    if not np.isfinite(scores).all():  # nothing is greater than NaN: it would rank first
        row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise ArtifactError(f"the model's scores for user {asked.users[row]} are not all finite")
    arrays: dict[str, np.ndarray] = {}
    if with_history:
        ranks = _ranks(target_ranks, scores, batch)
        arrays |= _fields("with_history", asked, ranks, top_n(scores, n).items)
    scores[history_mask(asked.histories)] = -np.inf
    ranks = _ranks(target_ranks, scores, batch)
    return arrays | _fields("removed", asked, ranks, top_n(scores, n).items)


def _from_lists(
    recommender: ListRecommender, batch: Cases, n: int, *, exclude_history: bool
) -> dict[str, np.ndarray]:
    asked = batch.select(batch.starts)
    before = getattr(recommender, "invalid_generated", 0)
    lists = recommender.recommend(asked.histories, n, exclude_history=exclude_history).items
    if lists.shape != (len(asked), n):
        raise ArtifactError(f"the model returned lists {lists.shape}, not {(len(asked), n)}")
    reported = getattr(recommender, "invalid_generated", 0) - before
    ranks = _ranks(list_ranks, lists, batch)
    if exclude_history:  # also for an engine that fails to leave the history out
        ranks[_in_history(batch.targets[:, None], batch.histories)[:, 0]] = NOT_FOUND
    protocol = "removed" if exclude_history else "with_history"
    return _fields(protocol, asked, ranks, lists, reported)


def _ranks(
    rank: Callable[[np.ndarray, np.ndarray], np.ndarray], answers: np.ndarray, batch: Cases
) -> np.ndarray:
    """int64 ``[targets]``, the rank of each in the answer of its case.

    Args:
        answers: scores or lists, ``[cases, ...]``.
    """
    if batch.basket is None:
        return rank(answers, batch.targets)
    ranks = np.empty(len(batch), dtype=np.int64)
    place = np.arange(len(batch)) - batch.starts[batch.basket]
    for at in range(int(place.max()) + 1):  # so that no more answers are held than cases
        rows = np.flatnonzero(place == at)
        ranks[rows] = rank(answers[batch.basket[rows]], batch.targets[rows])
    return ranks


def _fields(
    protocol: str, asked: Cases, ranks: np.ndarray, lists: np.ndarray, reported: int = 0
) -> dict[str, np.ndarray]:
    return {
        f"{protocol}.ranks": ranks,
        f"{protocol}.lists": lists.astype(np.int32),
        f"{protocol}.invalid": np.asarray(reported),
        f"{protocol}.seen": np.asarray(_in_history(lists, asked.histories).sum()),
    }


def _in_history(lists: np.ndarray, histories: Histories) -> np.ndarray:
    """bool ``[cases, n]``, where lists hold an item of the user's own history."""
    rows, items = history_mask(histories)
    width = int(max(lists.max(initial=0), items.max(initial=0))) + 1
    recommended = np.arange(len(lists))[:, None] * width + lists
    return (lists >= 0) & np.isin(recommended, rows * width + items)


def _join(batches: list[dict[str, np.ndarray]], protocol: str) -> Outcome:
    return Outcome(
        ranks=np.concatenate([batch[f"{protocol}.ranks"] for batch in batches]),
        lists=np.concatenate([batch[f"{protocol}.lists"] for batch in batches]),
        invalid_reported=int(sum(batch[f"{protocol}.invalid"] for batch in batches)),
        seen=int(sum(batch[f"{protocol}.seen"] for batch in batches)),
    )
