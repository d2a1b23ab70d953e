"""A shop out of a random generator, with all that the cascade serves: to be timed.

Items, what is said of them, vectors, a log, a LLaMA with one token an item and a click model, all
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

import llmrec.serving.bundle
from llmrec.bench.workload import BASE_TOKENS, random_llama
from llmrec.config import as_dict
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import save_layout
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import load_template
from llmrec.ranking.calibration import fit
from llmrec.ranking.ctr.bins import quantile_limits
from llmrec.ranking.ctr.export import export
from llmrec.ranking.ctr.features import Assembler, Signals, shrunk_rates
from llmrec.ranking.ctr.model import CALIBRATOR, SNAPSHOT, Card, head_file
from llmrec.ranking.ctr.moments import DAY, ContextIds, Moments, moment_of_events
from llmrec.ranking.ctr.network import Head, Shape
from llmrec.ranking.ctr.settings import Combine, CtrConfig, Labels, Network
from llmrec.ranking.ctr.shelf import Shelf
from llmrec.ranking.retrieval.log import Log
from llmrec.ranking.retrieval.snapshot import fit_snapshot
from llmrec.stage import Manifest, folder_hash, writing
from llmrec.types import EVENT_TYPES

NOW = 1_700_000_000.0  # seconds since 1970 UTC
SOURCES = ("generated", "nearest", "together", "popular", "cold")
TASKS = ("click", "purchase", "rating")
CONTEXT = {"device": ("mobile", "desktop", "tablet"), "membership": ("none", "plus")}
_FIELDS, _VALUES, _WORDS, _TOPICS, _CATEGORIES = 9, 12, 400, 40, 30
_YEAR = 365 * DAY


@dataclass(frozen=True)
class ShopSettings:
    """Size of everything.

    Attributes:
        items, users: of the shop; events: of each user.
        dim: of fused vectors.
        size: of the LLaMA, a key of :data:`llmrec.llm.llama.SIZES`.
        max_items: events of a history that it reads.
        network: of the click model.
        seed: of everything.
    """

    items: int = 100_000
    users: int = 20_000
    events: int = 25
    dim: int = 64
    size: str = "micro"
    max_items: int = 50
    network: Network = field(default_factory=Network)
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


def make_shop(folder: Path, settings: ShopSettings) -> RandomShop:
    """Write a shop into a folder."""
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    topic = rng.integers(_TOPICS, size=settings.items)
    dataset = _write_dataset(folder / "dataset", settings, topic, rng)
    model = _write_model(folder / "model", settings, dataset)
    user, item, time = _draw_log(settings, topic, rng)
    shelf = _draw_shelf(settings, topic, rng)
    ctr = _write_ctr(folder / "ctr", settings, dataset, shelf, Log.from_events(user, item, time))
    bundle = llmrec.serving.build.run(dataset, None, model, folder / "bundle", ctr=ctr)
    return RandomShop(bundle, bundle / "ctr", user, item, time)


def _write_dataset(
    out: Path, settings: ShopSettings, topic: np.ndarray, rng: np.random.Generator
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


def _write_model(out: Path, settings: ShopSettings, dataset: Path) -> Path:
    ids = ItemIds.atomic(settings.items)
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
    settings: ShopSettings, topic: np.ndarray, rng: np.random.Generator
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


def _draw_shelf(settings: ShopSettings, topic: np.ndarray, rng: np.random.Generator) -> Shelf:
    n = settings.items
    fused = rng.standard_normal((_TOPICS, settings.dim))[topic]
    fused = fused + rng.standard_normal((n, settings.dim))
    words = rng.integers(4, 12, n)
    shown = rng.poisson(40, n)
    clicked = rng.binomial(shown, 0.1)
    bought = rng.binomial(clicked, 0.2)
    returned, rated = rng.binomial(bought, 0.1), rng.binomial(bought, 0.5)
    totals = np.stack([shown, clicked, bought, returned, rated, 4.0 * rated], axis=1)
    return Shelf(
        fused=(fused / np.linalg.norm(fused, axis=1, keepdims=True)).astype(np.float32),
        fields=rng.integers(1, _VALUES, (n, _FIELDS)).astype(np.int32),
        field_names=tuple(f"field{number}" for number in range(_FIELDS)),
        field_sizes=(_VALUES,) * _FIELDS,
        token_ids=rng.integers(1, _WORDS, words.sum()).astype(np.int32),
        token_offsets=np.concatenate([[0], np.cumsum(words)]).astype(np.int64),
        token_size=_WORDS,
        price=rng.lognormal(3, 0.7, n).astype(np.float32),
        arrived=NOW - _YEAR * (1 + rng.random(n)),
        category=rng.integers(_CATEGORIES, size=n).astype(np.int32),
        categories=tuple(f"Category {code}" for code in range(_CATEGORIES)),
        totals=totals.astype(np.float64),
    )


def _write_ctr(out: Path, settings: ShopSettings, dataset: Path, shelf: Shelf, log: Log) -> Path:
    config = CtrConfig(labels=Labels("sampled"), network=settings.network, combine=Combine(llm=0.2))
    context = ContextIds.of(CONTEXT)
    rates = shrunk_rates(shelf.totals)
    assembler = Assembler(shelf, config.past, context, rates, config.holidays)
    rng = np.random.default_rng(settings.seed)
    heads = [_random_head(settings, assembler, rng) for _ in range(settings.network.copies)]
    card = Card(as_dict(config), context.as_dict(), rates, SOURCES, TASKS, len(heads))
    logits = rng.standard_normal(2000)
    clicked = (rng.random(2000) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    manifest = Manifest("ctr", {}, {"dataset": folder_hash(dataset)}, seed=settings.seed)
    with writing(out, manifest) as stage:
        for number, head in enumerate(heads):
            head.save(stage.folder / head_file(number))
        shelf.save(stage.folder)
        fit_snapshot(log, np.inf, shelf.n_items, config.retrieval).save(stage.folder / SNAPSHOT)
        card.write(stage.folder)
        fit("platt", logits, clicked).save(stage.folder / CALIBRATOR)
        export(heads, shelf, stage.folder)
        stage.counts["items"] = shelf.n_items
    return out


def _random_head(settings: ShopSettings, assembler: Assembler, rng: np.random.Generator) -> Head:
    """A head for the inputs that the assembler makes, its bins where their values are."""
    shelf = assembler.shelf
    some = min(500, settings.items)
    drawn = [draw_moment(assembler, SOURCES, some, rng) for _ in range(20)]
    made = [assembler(moments, items, np.full(items.shape, -1), said)
            for moments, items, said in drawn]  # fmt: skip
    first = made[0]
    head = Head(
        Shape(
            n_items=shelf.n_items,
            field_sizes=shelf.field_sizes,
            token_size=shelf.token_size,
            fused_dim=shelf.fused.shape[1],
            pair=first.pair.shape[2],
            whole=first.whole.shape[1],
            category_sizes=tuple(size for _, _, size in first.names.categories),
            places=20,
            tasks=TASKS,
            network=settings.network,
        )
    )
    pair = np.concatenate([one.pair[0] for one in made])
    head.pair.set_bins(torch.from_numpy(quantile_limits(pair, settings.network.bins)))
    whole = np.concatenate([one.whole for one in made])
    head.whole.set_bins(torch.from_numpy(quantile_limits(whole, settings.network.bins)))
    with torch.no_grad():
        head.places.copy_(-0.1 * torch.arange(20))
    return head.eval()


def draw_moment(
    assembler: Assembler, sources: tuple[str, ...], count: int, rng: np.random.Generator
) -> tuple[Moments, np.ndarray, Signals]:
    """A person's moment with a full past and so many different items ``[1, count]``, and what
    sources say of them."""
    shelf, past = assembler.shelf, assembler.past
    known = past.events
    times = np.sort(NOW - 60 * DAY * rng.random(known))
    moments = moment_of_events(
        rng.integers(shelf.n_items, size=known).tolist(),
        rng.integers(len(EVENT_TYPES), size=known).tolist(),
        times.tolist(),
        np.where(rng.random(known) < 0.3, rng.integers(1, 6, known), np.nan).tolist(),
        NOW,
        np.array([rng.integers(1, size) for size in assembler.context.sizes], dtype=np.int32),
        past.events,
    )
    items = rng.permutation(shelf.n_items)[:count][None]
    shape = (1, count, len(sources))
    rank = np.where(rng.random(shape) < 0.3, rng.integers(200, size=shape), -1)
    score = np.where(rng.random(shape) < 0.8, rng.standard_normal(shape), np.nan)
    said = Signals(sources, rank.astype(np.int32), score.astype(np.float32), shelf.totals[items])
    return moments, items, said
