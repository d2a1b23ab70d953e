"""Everything a click model is trained and measured on, built once from the stages' folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec.captions.categorical import load_categorical
from llmrec.config import as_dict
from llmrec.data.event_store import EventStore
from llmrec.loop.bars import ProgressBar
from llmrec.ranking.ctr.engagement import load_engagement
from llmrec.ranking.ctr.features import ClickFeatures, FeatureBuilder
from llmrec.ranking.ctr.impression_log import Folders, ImpressionLog
from llmrec.ranking.ctr.impressions import Impressions
from llmrec.ranking.ctr.item_features import (
    ItemCounters,
    ItemFeatures,
    count_events,
    make_item_features,
    prior_rates,
)
from llmrec.ranking.ctr.loss import Targets
from llmrec.ranking.ctr.point_in_time import (
    fit_log_snapshots,
    impression_source_features,
    open_models,
)
from llmrec.ranking.ctr.request_context import ContextVocabulary, request_contexts
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.retrieval.snapshot import Snapshots
from llmrec.ranking.retrieval.source_features import SourceFeatures
from llmrec.stage import Manifest, StageRun, read_manifest, reading, run_stage

SOURCES_STAGE = "ctr-sources"
_FEATURES, _SNAPSHOTS = "source_features.safetensors", "snapshots"
_CHUNK = 4096  # impressions whose features are made at once


@dataclass(frozen=True, eq=False)
class ClickDataset:
    """What click networks are trained and measured on.

    Attributes:
        log: events and impressions.
        parts: rows of the impressions by ``train``, ``validation`` and ``test``.
        item_features, counters: of the items.
        context: ids of the context's values in the training part.
        rates: priors, see :class:`~llmrec.ranking.ctr.features.FeatureBuilder`.
        builder: makes the features.
        source_features: of all impressions.
        snapshots: that they are of.
        inputs, targets: of all impressions.
    """

    log: ImpressionLog
    parts: dict[str, np.ndarray]
    item_features: ItemFeatures
    counters: ItemCounters
    context: ContextVocabulary
    rates: tuple[float, float, float, float]
    builder: FeatureBuilder
    source_features: SourceFeatures
    snapshots: Snapshots
    inputs: ClickFeatures
    targets: Targets

    def part(self, name: str) -> tuple[ClickFeatures, Targets]:
        """Inputs and targets of one part."""
        rows = self.parts[name]
        return self.inputs.select(rows), self.targets.select(rows)


def run_source_features(config: CtrConfig, folders: Folders, out: Path, seed: int = 0) -> Path:
    """Write every source's features of all impressions, or find it done."""
    settings = {name: as_dict(getattr(config, name)) for name in ("labels", "history", "retrieval")}
    settings["snapshots"] = {"count": config.snapshots}
    inputs = {
        k: v for k, v in folders.inputs(config).items() if k not in ("captions", "engagement")
    }

    def work(stage: StageRun) -> None:
        log = ImpressionLog.open(config, folders, seed)
        n_items = log.dataset.n_items
        models = open_models(folders.models, n_items)
        snapshots = fit_log_snapshots(
            log.events, config.history, config.retrieval, n_items, config.snapshots
        )
        found = impression_source_features(
            log.impressions, log.events, log.catalogue(config, folders), snapshots, models, config
        )
        save_file({"rank": found.rank, "score": found.score}, stage.folder / _FEATURES)
        snapshots.save(stage.folder / _SNAPSHOTS)
        stage.counts.update(impressions=len(log.impressions), sources=list(found.names))

    manifest = Manifest(SOURCES_STAGE, settings, inputs, seed=seed, command="ctr")
    return run_stage(out, manifest, work)


def read_source_features(folder: Path) -> tuple[SourceFeatures, Snapshots]:
    """Read what :func:`run_source_features` wrote.

    Raises:
        ArtifactError: if it is missing or damaged.
    """
    names = tuple(read_manifest(folder, SOURCES_STAGE).counts["sources"])
    with reading(folder / _FEATURES, "llmrec ctr"):
        found = SourceFeatures(names, **load_file(folder / _FEATURES))
    return found, Snapshots.load(folder / _SNAPSHOTS)


def build_dataset(
    config: CtrConfig, folders: Folders, sources: Path, seed: int = 0
) -> ClickDataset:
    """Build what click networks are trained and measured on.

    Args:
        sources: folder of :func:`run_source_features`.

    Raises:
        ConfigError, DataError, ArtifactError: where folders and settings do not fit together.
    """
    log = ImpressionLog.open(config, folders, seed)
    found, snapshots = read_source_features(sources)
    impressions, n_items = log.impressions, log.dataset.n_items
    parts = log.split.parts(impressions.time)
    counters = count_events(impressions, log.events)
    captions = None if folders.captions is None else load_categorical(folders.captions)
    watched = None if folders.engagement is None else load_engagement(folders.engagement)
    item_features = make_item_features(
        log.dataset, folders.fused(n_items), captions, counters.totals(n_items), watched
    )
    train = impressions.select(parts["train"])
    context = ContextVocabulary.learn([train.contexts[row] for row in train.context_index])
    known = counters.before(np.arange(n_items), np.full(n_items, log.split.validation))
    rates = prior_rates(known)
    builder = FeatureBuilder(item_features, config.history, context, rates, config.holidays)
    inputs = build_features(builder, impressions, log.events, counters, found)
    return ClickDataset(
        log, parts, item_features, counters, context, rates, builder, found, snapshots, inputs,
        Targets.of(impressions),
    )  # fmt: skip


def build_features(
    builder: FeatureBuilder,
    impressions: Impressions,
    log: EventStore,
    counters: ItemCounters,
    source_features: SourceFeatures,
) -> ClickFeatures:
    """The features of impressions, each as of its own time.

    Args:
        source_features: of the impressions, in their order.
    """
    context = builder.context.encode(impressions.contexts)[impressions.context_index]
    starts = range(0, len(impressions), _CHUNK)
    chunks = [slice(start, start + _CHUNK) for start in starts]
    return ClickFeatures.concatenate([
        features_at(
            builder, impressions.user[rows], impressions.time[rows], context[rows],
            impressions.items[rows], impressions.position[rows], log, counters,
            source_features[rows],
        )
        for rows in ProgressBar(chunks, desc="features", unit="chunk")
    ])  # fmt: skip


def features_at(
    builder: FeatureBuilder,
    users: np.ndarray,
    times: np.ndarray,
    context: np.ndarray,
    items: np.ndarray,
    position: np.ndarray,
    log: EventStore,
    counters: ItemCounters,
    source_features: SourceFeatures,
) -> ClickFeatures:
    """The features of requests, each as of its own time.

    Args:
        users: int ``[requests]``; times: float64 ``[requests]``; context: int32
            ``[requests, names]``.
        items, position: int ``[requests, candidates]``, -1 pads and unknown.
        source_features: of the candidates.
    """
    requests = request_contexts(log, users, times, context, builder.history.events)
    counts = counters.before(np.maximum(items, 0).ravel(), np.repeat(times, items.shape[1]))
    counts = counts.reshape(*items.shape, counts.shape[1])
    return builder(requests, items, position, source_features, counts)
