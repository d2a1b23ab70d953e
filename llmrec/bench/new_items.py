"""``llmrec bench new-items``: who is recommended an item that came a moment ago?

    llmrec bench new-items runs/demo/models/atomic/bundle --dataset runs/demo/dataset \\
        --out eval/results/new-items-demo.json

For each of some people the first item of their list is copied: its words, price, category and
attributes come into the catalogue as those of a new item, as a service takes one in, and the very
next list is looked at. Nobody has done anything with the copy, so whoever finds it finds it by
content. It should reach the person whom its original fits, and few others: people whose first 50
items do not hold the original are asked as well. The copy is removed again before the next.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from llmrec.bench.checks import result_file
from llmrec.config import check_ranges
from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.metrics.results import write_result
from llmrec.serving.bundle import Bundle
from llmrec.serving.catalogue.live import ItemChange, LiveCatalogue
from llmrec.serving.history import dataset_attributes, dataset_histories
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.store.database import Store

COPY = "llmrec-bench-copy"  # identifier of the new item
LISTED, CLEAR_OF, OTHERS, ASKED = 100, 50, 3, 12
_COPIED = ("title", "description", "brand", "categories", "price", "attributes", "domain")


@dataclass(frozen=True)
class NewItemsConfig:
    """Settings of ``llmrec bench new-items``.

    Attributes:
        people: whose lists are looked at.
        freshness: bonus of new items in the logit of a click model; None as the bundle has it.
        seed: of who is asked.
    """

    people: int = 100
    freshness: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "people")
        check_ranges(self, "[0, inf)", "seed")


@dataclass
class _Found:
    """Rank of the copy, :data:`LISTED` + 1 where it is not listed; milliseconds of its coming."""

    fitting: list[int] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    change_ms: list[float] = field(default_factory=list)


def run(bundle: Path, /, config: NewItemsConfig, *, dataset: Path, out: Path) -> Path:
    """Add items to a catalogue while it is served, and look who is recommended them.

    Args:
        bundle: folder of llmrec bundle.
        config: settings.
        dataset: folder of llmrec ingest, with the people.
        out: the result file, NAME.json.

    Raises:
        DataError: if nobody of the dataset is recommended anything.
    """
    result_file(out)
    began, data, opened = time.monotonic(), Dataset(dataset), Bundle(bundle)
    opened.open_text_encoder()
    more: dict[str, Any] = {}
    if config.freshness is not None:
        more = {"rerank": {"freshness": config.freshness}}
    with TemporaryDirectory() as folder, Store(f"sqlite:///{folder}/store.sqlite") as store:
        live = LiveHistories(store, opened, dataset_histories(data))
        recommender = Recommender.load(
            opened, histories=live.history, attributes=dataset_attributes(data)
        )
        catalogue = LiveCatalogue(store, live, recommender)
        found = _look(config, data, recommender, catalogue, more)
    return write_result(
        out,
        metrics=_metrics(found),
        dataset=str(dataset),
        split="everybody's whole history",
        model=str(bundle),
        seed=config.seed,
        seconds=time.monotonic() - began,
        counts={"people": len(found.fitting), "others": len(found.others)},
    )


def _look(
    config: NewItemsConfig,
    data: Dataset,
    recommender: Recommender,
    catalogue: LiveCatalogue,
    more: Mapping[str, Any],
) -> _Found:
    rng, found, seen = np.random.default_rng(config.seed), _Found(), set[str]()
    people = [data.user_ids[user] for user in rng.permutation(len(data.user_ids))]
    bar = tqdm(total=config.people, unit="item", desc="new items", disable=None)
    for person in people:
        original = next((i for i in _listed(recommender, person, 10, more) if i not in seen), None)
        if original is None:
            continue
        seen.add(original)
        others = [
            other
            for other in rng.choice(people, ASKED).tolist()
            if other != person and original not in _listed(recommender, other, CLEAR_OF, more)
        ]
        row = catalogue.row(original)
        assert row is not None
        started = time.perf_counter()
        catalogue.change([ItemChange(COPY, {name: row[name] for name in _COPIED})])
        found.change_ms.append(1000 * (time.perf_counter() - started))
        found.fitting.append(_rank(recommender, person, more))
        found.others += [_rank(recommender, other, more) for other in others[:OTHERS]]
        catalogue.change([ItemChange(COPY, None)])
        bar.update()
        if len(found.fitting) == config.people:
            break
    bar.close()
    if not found.fitting:
        raise DataError(f"{data.folder}: nobody is recommended anything; is the bundle of it?")
    return found


def _listed(recommender: Recommender, user: str, n: int, more: Mapping[str, Any]) -> list[str]:
    answer = recommender.recommend(n=n, user=user, **more)
    return [one.item_id for one in answer.recommendations]


def _rank(recommender: Recommender, user: str, more: Mapping[str, Any]) -> int:
    listed = _listed(recommender, user, LISTED, more)
    return listed.index(COPY) + 1 if COPY in listed else LISTED + 1


def _metrics(found: _Found) -> dict[str, float]:
    metrics = {
        f"{name}@{n}": float(np.mean(np.array(ranks) <= n))
        for name, ranks in (("fitting", found.fitting), ("others", found.others))
        for n in (10, 20, LISTED)
        if ranks
    }
    return metrics | {
        "fitting_median_rank": float(np.median(found.fitting)),
        "first_change_ms": found.change_ms[0],
        "change_p50_ms": float(np.median(found.change_ms)),
        "change_p95_ms": float(np.quantile(found.change_ms, 0.95)),
    }
