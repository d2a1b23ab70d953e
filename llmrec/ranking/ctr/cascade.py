"""The whole cascade over many held-out clicks at once, to measure how well it ranks them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.event_store import EventStore
from llmrec.loop.bars import ProgressBar
from llmrec.metrics.metrics import ndcg
from llmrec.ranking.ctr.dataset import ClickDataset, features_at
from llmrec.ranking.ctr.fit import predict
from llmrec.ranking.ctr.impression_log import Folders
from llmrec.ranking.ctr.impressions import Impressions
from llmrec.ranking.ctr.model import combined
from llmrec.ranking.ctr.network import ClickNetwork
from llmrec.ranking.ctr.point_in_time import DatedModel, open_models, positive_histories
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.retrieval.candidates import candidates
from llmrec.ranking.retrieval.generated import Generated
from llmrec.ranking.retrieval.source import Source
from llmrec.ranking.retrieval.source_features import SourceFeatures
from llmrec.ranking.retrieval.sources import make_sources, source_names
from llmrec.types import Cases

LLM_WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
CANDIDATES = 400  # of a user, where the weight of the language model is chosen
_AT_ONCE = 64
_NOT_FOUND = 2**31 - 1


@dataclass(frozen=True, eq=False)
class HeldOutClicks:
    """Clicks to be predicted.

    Attributes:
        cases: history and target; ``histories.now`` is the time of the impression: a view that led
            to the click is not known yet.
        context_index: int32 ``[cases]``, row of the impressions' contexts.
    """

    cases: Cases
    times: np.ndarray
    context_index: np.ndarray


def held_out_clicks(
    impressions: Impressions,
    log: EventStore,
    config: CtrConfig,
    start: float,
    end: float,
    most: int,
    seed: int,
) -> HeldOutClicks:
    """The clicks of a span of time; ``most`` of them, at random."""
    inside = (impressions.time >= start) & (impressions.time < end) & (impressions.user >= 0)
    rows, columns = np.nonzero((impressions.click == 1) & inside[:, None])
    if len(rows) > most:
        some = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
        rows, columns = rows[some], columns[some]
    users, times = impressions.user[rows], impressions.time[rows]
    histories = positive_histories(log, config.history, users, times)
    cases = Cases(users, histories, impressions.items[rows, columns])
    return HeldOutClicks(cases, times, impressions.context_index[rows])


@dataclass(frozen=True, eq=False)
class RankedCandidates:
    """Candidates of each case with their predictions, padded with -1.

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
        """Rank of each target, 0 the top, int64 ``[cases]``; 2**31 - 1: it is no candidate."""
        hit = self.items == targets[:, None]
        own = np.where(hit, scores, -np.inf).max(axis=1, initial=-np.inf)
        rank = (scores > own[:, None]).sum(axis=1)
        return np.where(hit.any(axis=1), rank, _NOT_FOUND)


def choose_llm_weight(
    config: CtrConfig,
    folders: Folders,
    data: ClickDataset,
    networks: list[ClickNetwork],
    seed: int,
) -> tuple[float, dict[str, float]]:
    """The weight of the language model in what items are ranked by, and NDCG@10 of each tried."""
    models = open_models(folders.models, data.item_features.n_items)
    if config.combine.llm is not None or not models:
        return config.combine.llm or 0.0, {}
    split = data.log.split
    ranked, clicks = rank_held_out(
        config, folders, data, networks, models[-1], (split.validation, split.test),
        config.ranked, CANDIDATES, seed,
    )  # fmt: skip
    tried = {
        f"{weight:g}": float(
            ndcg(ranked.ranks(ranked.scores(weight), clicks.cases.targets), 10).mean()
        )
        for weight in LLM_WEIGHTS
    }
    best = max(LLM_WEIGHTS, key=lambda weight: tried[f"{weight:g}"])
    return best, tried


def rank_held_out(
    config: CtrConfig,
    folders: Folders,
    data: ClickDataset,
    networks: list[ClickNetwork],
    model: DatedModel | None,
    span: tuple[float, float],
    most: int,
    limit: int,
    seed: int,
) -> tuple[RankedCandidates, HeldOutClicks]:
    """Candidates and predictions for the held-out clicks of a span of time, each as of its time.

    Args:
        model: the language model that serves, or None.
        span: from and until, seconds since 1970 UTC.
        most: clicks, drawn at random; limit: candidates of each.

    Returns:
        the candidates, and the clicks.
    """
    log = data.log
    limit = min(limit, data.item_features.n_items)
    clicks = held_out_clicks(log.impressions, log.events, config, *span, most, seed)
    catalogue = log.catalogue(config, folders).with_model(None if model is None else model.model)
    names = source_names(catalogue)
    context = data.context.encode(log.impressions.contexts)[clicks.context_index]
    shape = (len(clicks.cases), limit)
    items = np.full(shape, -1, dtype=np.int64)
    click, llm = np.full(shape, -np.inf), np.full(shape, np.nan, dtype=np.float32)
    newest = data.snapshots.of(clicks.times)
    with ProgressBar(total=len(clicks.cases), desc="cascade", unit="user") as bar:
        for number in np.unique(newest):
            sources = make_sources(catalogue, data.snapshots.at(number))
            of_it = np.flatnonzero(newest == number)
            for start in range(0, len(of_it), _AT_ONCE):
                rows = of_it[start : start + _AT_ONCE]
                found, features = _candidates(clicks, rows, sources, names, limit, config)
                inputs = features_at(
                    data.builder, clicks.cases.users[rows], clicks.times[rows], context[rows],
                    found, np.full(found.shape, -1), log.events, data.counters, features,
                )  # fmt: skip
                items[rows] = found
                click[rows] = predict(networks, data.item_features, inputs)[..., 0]
                if Generated.name in names:
                    llm[rows] = features.score[:, :, names.index(Generated.name)]
                bar.update(len(rows))
    return RankedCandidates(items, click, llm), clicks


def _candidates(
    clicks: HeldOutClicks,
    rows: np.ndarray,
    sources: list[Source],
    names: tuple[str, ...],
    limit: int,
    config: CtrConfig,
) -> tuple[np.ndarray, SourceFeatures]:
    """Candidates of some cases, padded, and their source features."""
    histories = clicks.cases.histories.select(rows)
    items = np.full((len(rows), limit), -1, dtype=np.int64)
    features = SourceFeatures.empty(names, items.shape)
    for row, found in enumerate(candidates(sources, histories, config.retrieval.k, limit)):
        items[row, : len(found)] = found.items
        features.rank[row, : len(found)] = found.features.rank
        features.score[row, : len(found)] = found.features.score
    return items, features
