"""What ``llmrec bench ctr`` trains: the click model, the same without a part of it, baselines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.ctr_baselines.baseline import Baseline, ScoreAlone
from llmrec.bench.ctr_baselines.logistic import LogisticRegression
from llmrec.bench.ctr_baselines.table import flatten
from llmrec.bench.ctr_baselines.trees import Trees
from llmrec.content.fusion.modalities import read_modalities
from llmrec.errors import ConfigError
from llmrec.ranking.ctr.dataset import ClickDataset, build_features
from llmrec.ranking.ctr.features import FeatureBuilder
from llmrec.ranking.ctr.fit import predict, train_networks
from llmrec.ranking.ctr.impression_log import Folders, ImpressionRows
from llmrec.ranking.ctr.point_in_time import impression_source_features
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.retrieval.catalogue import Catalogue

FULL = "full"


@dataclass(frozen=True, eq=False)
class Trained:
    """One training.

    Attributes:
        validation: logits of the part's rows, float64 ``[rows]``; ``test`` the same.
        about: what is worth knowing of the training.
        networks: of the click model; empty for a baseline.
    """

    validation: np.ndarray
    test: np.ndarray
    about: dict[str, Any]
    networks: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Variant:
    """One model of the comparison.

    Attributes:
        train: from a seed.
        random: whether another seed gives another model.
    """

    train: Callable[[int], Trained]
    random: bool = True


@dataclass(frozen=True, eq=False)
class Bench:
    """What every variant is trained and measured on.

    Attributes:
        data: train, validation and test part.
        rows: of the validation and the test part, a row an item.
        features: folder of ``llmrec embed``, whose text vectors can be read as they are; with
            ``media``, of ``llmrec embed media``, vectors can be fused from text alone.
    """

    config: CtrConfig
    folders: Folders
    data: ClickDataset
    rows: dict[str, ImpressionRows]
    features: Path | None = None
    media: Path | None = None

    def variants(self) -> dict[str, Variant]:
        """Every model by name, the full click model first."""
        return self._networks() | self._baselines()

    def _networks(self) -> dict[str, Variant]:
        data = self.data

        def without(group: str) -> Callable[[], ClickDataset]:
            return lambda: replace(data, inputs=data.inputs.without([group]))

        def variant(made: Callable[[], ClickDataset], captions: bool = True) -> Variant:
            made = cache(made)  # once for all seeds, and not at all where all are trained
            return Variant(lambda seed: self._train(made(), seed, captions))

        found = {FULL: variant(lambda: data)}
        if data.item_features.token_size:
            found["no_captions"] = variant(without("captions"), captions=False)
        found["no_time"] = variant(without("time"))
        if data.item_features.watched is not None:
            found["no_engagement"] = variant(without("engagement"))
        if attributes := user_attribute_names(data):
            found["no_user_attributes"] = variant(
                lambda: replace(data, inputs=data.inputs.without_categories(attributes))
            )
        features, media, n_items = self.features, self.media, data.item_features.n_items
        if features is not None and media is not None:
            found["no_media"] = variant(
                lambda: self._with_vectors(text_alone(self.folders, features, media, n_items))
            )
        if features is not None:
            found["raw_text"] = variant(lambda: self._with_vectors(raw_text(features, n_items)))
        return found

    def _with_vectors(self, vectors: np.ndarray) -> ClickDataset:
        """The dataset with other vectors of items, wherever vectors are read.

        Args:
            vectors: float32 ``[items, dim]``, zero rows where an item has nothing.
        """
        config, data = self.config, self.data
        item_features = replace(data.item_features, fused=vectors)
        catalogue = Catalogue(
            vectors, config.retrieval, available_from=item_features.available_from
        )
        log, known = data.log, data.source_features
        found = impression_source_features(
            log.impressions, log.events, catalogue, data.snapshots, [], config
        )
        rank, score = known.rank.copy(), known.score.copy()
        for name in ("content", "cold_start"):
            to, of = known.names.index(name), found.names.index(name)
            rank[..., to], score[..., to] = found.rank[..., of], found.score[..., of]
        sources = replace(known, rank=rank, score=score)
        builder = FeatureBuilder(
            item_features, config.history, data.context, data.rates, config.holidays
        )
        inputs = build_features(builder, log.impressions, log.events, data.counters, sources)
        return replace(
            data,
            item_features=item_features,
            source_features=sources,
            builder=builder,
            inputs=inputs,
        )

    def _train(self, data: ClickDataset, seed: int, captions: bool) -> Trained:
        started = time.monotonic()
        networks, states = train_networks(
            *data.part("train"),
            data.part("validation"),
            data.item_features,
            self.config.network,
            self.config.fit,
            seed,
            captions=captions,
        )
        logits = {}
        for part, rows in self.rows.items():
            found = predict(networks, data.item_features, data.part(part)[0])[..., 0]
            logits[part] = rows.take(found, data.parts[part])
        about = {
            "parameters": sum(p.numel() for p in networks[0].parameters()),
            "validation_log_loss": [-state.best_score for state in states],
            "seconds": round(time.monotonic() - started, 1),
        }
        return Trained(logits["validation"], logits["test"], about, tuple(networks))

    def _baselines(self) -> dict[str, Variant]:
        """Others in the same harness, on the same features."""

        @cache
        def tables() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            flat, labels = {}, {}
            for part in self.data.parts:
                inputs, targets = self.data.part(part)
                flat[part] = flatten(inputs, self.data.item_features)
                labels[part] = targets.click[inputs.items >= 0].astype(np.float64)
            return flat, labels

        def variant(make: Callable[[], Baseline], random: bool = False) -> Variant:
            def train(seed: int) -> Trained:
                started = time.monotonic()
                model, (flat, labels) = make(), tables()
                model.fit(
                    flat["train"], labels["train"], flat["validation"], labels["validation"], seed
                )
                about = {
                    "seconds": round(time.monotonic() - started, 1),
                    "chosen": str(model.chosen or None),
                }
                return Trained(model.logits(flat["validation"]), model.logits(flat["test"]), about)

            return Variant(train, random)

        found = {
            "logistic_regression": variant(LogisticRegression),
            "boosted_trees": variant(Trees, random=True),
            "popularity": variant(lambda: ScoreAlone("popular_score")),
        }
        if any(name == "generated_score" for name, _ in self.data.inputs.names.candidate):
            found["llm_alone"] = variant(lambda: ScoreAlone("generated_score"))
        return found


def chosen(variants: dict[str, Variant], names: Sequence[str]) -> dict[str, Variant]:
    """The full model and those that are named; all of them where none is.

    Raises:
        ConfigError: for a name that is not there.
    """
    for name in names:
        if name not in variants:
            raise ConfigError(f"--variants: {name!r} is none of {', '.join(variants)}")
    return {
        name: variant for name, variant in variants.items() if not names or name in (FULL, *names)
    }


def user_attribute_names(data: ClickDataset) -> set[str]:
    """Names of the categorical features that ``ingest: {users: ...}`` gives.

    A request may say one of them itself; it is the same feature, and counts here too.
    """
    known = {name for attributes in data.log.dataset.user_attributes for name in attributes}
    return known & set(data.context.names)


def text_alone(folders: Folders, features: Path, media: Path, n_items: int) -> np.ndarray:
    """Every item's vector by the fusion encoder from its text alone, float32 ``[items, dim]``."""
    from llmrec.content.features.blocks import FUSION_ENCODER
    from llmrec.content.fusion.embedding import embed
    from llmrec.content.fusion.encoder import FusionEncoder

    if folders.fusion is None:
        raise ConfigError("--features and --media: need --fusion, whose encoder reads them")
    modalities = read_modalities(features, media, n_items)
    present = modalities.present.copy()
    present[:, [name != "text" for name in modalities.names]] = False
    return embed(FusionEncoder.load(folders.fusion / FUSION_ENCODER), modalities, present)


def raw_text(features: Path, n_items: int) -> np.ndarray:
    """Every item's text vector as ``llmrec embed`` wrote it, float32 ``[items, dim]``."""
    return read_modalities(features, None, n_items).concatenated()
