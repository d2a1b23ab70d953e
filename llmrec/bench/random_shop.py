"""A shop out of a random generator, with all that the cascade serves: to be timed.

Items, captions, vectors, a log, a LLaMA with one token an item and a click model, all
of the shapes that training gives them, written as the stages write them and put into one bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from llmrec.bench.workload import BASE_TOKENS, random_llama
from llmrec.config import as_dict
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import save_layout
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import load_template
from llmrec.ranking.calibration import fit
from llmrec.ranking.ctr.bins import quantile_edges
from llmrec.ranking.ctr.export import export
from llmrec.ranking.ctr.features import FeatureBuilder
from llmrec.ranking.ctr.item_features import ItemFeatures, prior_rates
from llmrec.ranking.ctr.model import CALIBRATOR, SNAPSHOT, ModelCard, network_file
from llmrec.ranking.ctr.network import ClickNetwork, NetworkShape
from llmrec.ranking.ctr.request_context import (
    DAY,
    ContextVocabulary,
    RequestContext,
    request_context,
)
from llmrec.ranking.ctr.settings import CtrConfig, LabelConfig, NetworkConfig, ScoreConfig
from llmrec.ranking.retrieval.interactions import Interactions
from llmrec.ranking.retrieval.snapshot import fit_snapshot
from llmrec.ranking.retrieval.source_features import SourceFeatures
from llmrec.ranking.retrieval.sources import SOURCES
from llmrec.serving import build
from llmrec.stage import Manifest, folder_hash, writing
from llmrec.types import EVENT_TYPES

NOW = 1_700_000_000.0  # seconds since 1970 UTC
TASKS = ("click", "purchase", "rating")
CONTEXT = {
    "device": ("mobile", "desktop", "tablet"),
    "membership": ("none", "plus"),
    "place": ("Oslo", "Lima"),
}
_FIELDS, _VALUES, _WORDS, _TOPICS, _CATEGORIES = 9, 12, 400, 40, 30
_YEAR = 365 * DAY


@dataclass(frozen=True)
class RandomShopConfig:
    """Size of everything.

    Attributes:
        items, users: of the shop; events: of each user.
        dim: of fused vectors.
        spare: item tokens without an item.
        size: of the LLaMA, a key of :data:`llmrec.llm.llama.SIZES`.
        max_items: events of a history that it reads.
        network: of the click model.
        seed: of everything.
    """

    items: int = 100_000
    users: int = 20_000
    events: int = 25
    dim: int = 64
    spare: int = 0
    size: str = "micro"
    max_items: int = 50
    network: NetworkConfig = field(default_factory=NetworkConfig)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class RandomShop:
    """A finished shop.

    Attributes:
        bundle: folder of ``llmrec bundle``; ctr: of the click model in it.
        user, item, time: the log, sorted by user, then time.
    """

    bundle: Path
    ctr: Path
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray

    def history(self, user: int) -> list[dict[str, Any]]:
        """What a user did, as a request has it."""
        rows = np.flatnonzero(self.user == user)
        types = ("view", "click", "purchase")
        return [
            {"item_id": item_id(self.item[row]), "type": types[(row + 1) % 3],
             "timestamp": float(self.time[row])}
            for row in rows
        ]  # fmt: skip


def item_id(item: int) -> str:
    """The shop's own identifier."""
    return f"item-{item}"


def make_shop(folder: Path, settings: RandomShopConfig) -> RandomShop:
    """Write a shop into a folder."""
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    topic, dataset, model = make_model(folder, settings, rng)
    user, item, time = _draw_log(settings, topic, rng)
    item_features = _draw_item_features(settings, topic, rng)
    ctr = _write_ctr(
        folder / "ctr", settings, dataset, item_features, Interactions.from_events(user, item, time)
    )
    bundle = build.run(dataset, model, folder / "bundle", ctr=ctr)
    return RandomShop(bundle, bundle / "ctr", user, item, time)


def make_model(
    folder: Path, settings: RandomShopConfig, rng: np.random.Generator
) -> tuple[np.ndarray, Path, Path]:
    """Write a dataset and a language model; the topic of each item, and the two folders."""
    topic = rng.integers(_TOPICS, size=settings.items)
    dataset = _write_dataset(folder / "dataset", settings, topic, rng)
    return topic, dataset, _write_model(folder / "model", settings, dataset)


def _write_dataset(
    out: Path, settings: RandomShopConfig, topic: np.ndarray, rng: np.random.Generator
) -> Path:
    n = settings.items
    category = rng.integers(_CATEGORIES, size=n)
    table = pa.table(
        {
            "item_id": [item_id(row) for row in range(n)],
            "title": [f"Thing {row} of kind {topic[row]}" for row in range(n)],
            "brand": [f"Brand {row % 17}" for row in range(n)],
            "categories": [[f"Category {code}"] for code in category],
            "price": rng.lognormal(3, 0.7, n),
            "in_stock": rng.random(n) < 0.9,
        }
    )
    with writing(out, Manifest("ingest", {"random": vars(settings) | {"network": ""}})) as stage:
        pq.write_table(table, stage.folder / "items.parquet")
        stage.counts["items"] = n
    return out


def _write_model(out: Path, settings: RandomShopConfig, dataset: Path) -> Path:
    ids = ItemIds.atomic(settings.items, settings.spare)
    vocabulary = Vocabulary.of(BASE_TOKENS, (), ids)
    template, prefix = load_template("recommend"), [1]
    longest = HistoryEncoder(vocabulary, ids, prefix, settings.max_items).max_tokens()
    model = random_llama(settings.size, vocabulary.size, longest, settings.seed)
    inputs = {"dataset": folder_hash(dataset)}
    with writing(out, Manifest("train", {"kind": "llm"}, inputs, seed=settings.seed)) as stage:
        model.save_pretrained(stage.folder)
        ids.save(stage.folder / "item_ids")
        save_layout(stage.folder, vocabulary, template, prefix, settings.max_items)
    return out


def _draw_log(
    settings: RandomShopConfig, topic: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Everybody keeps to a topic, in which some items are liked more than others."""
    total = settings.users * settings.events
    user = np.repeat(np.arange(settings.users), settings.events)
    by_topic = np.argsort(topic, kind="stable")
    starts = np.searchsorted(topic[by_topic], np.arange(_TOPICS + 1))
    liked = rng.integers(_TOPICS, size=settings.users)[user]
    size = starts[liked + 1] - starts[liked]
    place = starts[liked] + (size * rng.random(total) ** 2).astype(np.int64)
    time = np.sort(NOW - _YEAR * rng.random((settings.users, settings.events)), axis=1).ravel()
    return user, by_topic[np.minimum(place, len(topic) - 1)], time


def _draw_item_features(
    settings: RandomShopConfig, topic: np.ndarray, rng: np.random.Generator
) -> ItemFeatures:
    n = settings.items
    fused = rng.standard_normal((_TOPICS, settings.dim))[topic]
    fused = fused + rng.standard_normal((n, settings.dim))
    words = rng.integers(4, 12, n)
    shown = rng.poisson(40, n)
    clicked = rng.binomial(shown, 0.1)
    bought = rng.binomial(clicked, 0.2)
    returned, rated = rng.binomial(bought, 0.1), rng.binomial(bought, 0.5)
    totals = np.stack([shown, clicked, bought, returned, rated, 4.0 * rated], axis=1)
    return ItemFeatures(
        fused=(fused / np.linalg.norm(fused, axis=1, keepdims=True)).astype(np.float32),
        fields=rng.integers(1, _VALUES, (n, _FIELDS)).astype(np.int32),
        field_names=tuple(f"field{number}" for number in range(_FIELDS)),
        field_sizes=(_VALUES,) * _FIELDS,
        token_ids=rng.integers(1, _WORDS, words.sum()).astype(np.int32),
        token_offsets=np.concatenate([[0], np.cumsum(words)]).astype(np.int64),
        token_size=_WORDS,
        price=rng.lognormal(3, 0.7, n).astype(np.float32),
        available_from=NOW - _YEAR * (1 + rng.random(n)),
        category=rng.integers(_CATEGORIES, size=n).astype(np.int32),
        categories=tuple(f"Category {code}" for code in range(_CATEGORIES)),
        totals=totals.astype(np.float64),
    )


def _write_ctr(
    out: Path,
    settings: RandomShopConfig,
    dataset: Path,
    item_features: ItemFeatures,
    log: Interactions,
) -> Path:
    config = CtrConfig(
        labels=LabelConfig("sampled"), network=settings.network, combine=ScoreConfig(llm=0.2)
    )
    context = ContextVocabulary.of(CONTEXT)
    rates = prior_rates(item_features.totals)
    builder = FeatureBuilder(item_features, config.history, context, rates, config.holidays)
    rng = np.random.default_rng(settings.seed)
    networks = [_random_network(settings, builder, rng) for _ in range(settings.network.copies)]
    card = ModelCard(
        as_dict(config), context.as_dict(), rates, tuple(SOURCES), TASKS, len(networks)
    )
    logits = rng.standard_normal(2000)
    clicked = (rng.random(2000) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    manifest = Manifest("ctr", {}, {"dataset": folder_hash(dataset)}, seed=settings.seed)
    with writing(out, manifest) as stage:
        for number, network in enumerate(networks):
            network.save(stage.folder / network_file(number))
        item_features.save(stage.folder)
        fit_snapshot(log, np.inf, item_features.n_items, config.retrieval).save(
            stage.folder / SNAPSHOT
        )
        card.write(stage.folder)
        fit("platt", logits, clicked).save(stage.folder / CALIBRATOR)
        export(networks, item_features, stage.folder)
        stage.counts["items"] = item_features.n_items
    return out


def _random_network(
    settings: RandomShopConfig, builder: FeatureBuilder, rng: np.random.Generator
) -> ClickNetwork:
    """A click network for the features that the builder makes, its bins where their values are."""
    item_features = builder.item_features
    some = min(500, settings.items)
    drawn = [draw_request(builder, some, rng) for _ in range(20)]
    made = [builder(requests, items, np.full(items.shape, -1), sources, counters)
            for requests, items, sources, counters in drawn]  # fmt: skip
    first = made[0]
    network = ClickNetwork(
        NetworkShape(
            n_items=item_features.n_items,
            field_sizes=item_features.field_sizes,
            token_size=item_features.token_size,
            fused_dim=item_features.fused.shape[1],
            candidate=first.candidate.shape[2],
            request=first.request.shape[1],
            category_sizes=tuple(size for _, _, size in first.names.categories),
            positions=20,
            tasks=TASKS,
            network=settings.network,
        )
    )
    candidate = np.concatenate([one.candidate[0] for one in made])
    network.candidate.set_bins(torch.from_numpy(quantile_edges(candidate, settings.network.bins)))
    request = np.concatenate([one.request for one in made])
    network.request.set_bins(torch.from_numpy(quantile_edges(request, settings.network.bins)))
    with torch.no_grad():
        network.position_bias.copy_(-0.1 * torch.arange(20))
    return network.eval()


def draw_request(
    builder: FeatureBuilder, count: int, rng: np.random.Generator
) -> tuple[RequestContext, np.ndarray, SourceFeatures, np.ndarray]:
    """A request with a full history, so many different items ``[1, count]``, their source features
    and counters."""
    item_features, known = builder.item_features, builder.history.events
    times = np.sort(NOW - 60 * DAY * rng.random(known))
    requests = request_context(
        rng.integers(item_features.n_items, size=known).tolist(),
        rng.integers(len(EVENT_TYPES), size=known).tolist(),
        times.tolist(),
        np.where(rng.random(known) < 0.3, rng.integers(1, 6, known), np.nan).tolist(),
        NOW,
        np.array([rng.integers(1, size) for size in builder.context.sizes], dtype=np.int32),
        known,
    )
    items = rng.permutation(item_features.n_items)[:count][None]
    shape = (1, count, len(SOURCES))
    rank = np.where(rng.random(shape) < 0.3, rng.integers(200, size=shape), -1)
    score = np.where(rng.random(shape) < 0.8, rng.standard_normal(shape), np.nan)
    sources = SourceFeatures(tuple(SOURCES), rank.astype(np.int32), score.astype(np.float32))
    return requests, items, sources, item_features.totals[items]
