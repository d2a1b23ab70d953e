"""``llmrec bench ctr-latency``: how long a click model takes to answer, on one core.

Features, networks and calibration of one user and so many candidates, drawn at random from the
items of the click model; without a folder the model is one of random weights.

    llmrec bench ctr-latency --ctr runs/ctr-demo/ctr --out eval/results/ctr-latency.json
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmrec.bench.checks import check_at_least, result_file
from llmrec.bench.latency import Timings, measure_latency, torch_threads

if TYPE_CHECKING:
    from llmrec.ranking.ctr.model import ClickModel
    from llmrec.ranking.ctr.request_context import RequestContext
    from llmrec.ranking.retrieval.source_features import SourceFeatures


@dataclass(frozen=True)
class CtrLatencyConfig:
    """Settings of ``llmrec bench ctr-latency``.

    Attributes:
        ctr: folder of ``llmrec ctr``; None for random weights.
        candidates: of a request, at most the items that there are.
        runs: requests that are timed.
        warmup: requests before them.
        engine: what runs the networks.
        items: of the random click model.
        seed: of the requests.

    Raises:
        ConfigError: if a value makes no sense, naming the flag.
    """

    ctr: Path | None = None
    candidates: int = 1000
    runs: int = 300
    warmup: int = 30
    engine: Literal["onnx", "torch"] = "onnx"
    items: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(self, 1, "candidates", "runs", "items")
        check_at_least(self, 0, "warmup", "seed")


def run(config: CtrLatencyConfig, out: Path) -> Path:
    """Time a click model on one core, one request at a time.

    Args:
        config: what is timed.
        out: the result file, NAME.json.
    """
    out = result_file(out, out, "--out")
    with torch_threads(1), _opened(config) as model:
        items = model.item_features.n_items
        count = min(config.candidates, items)
        name = "random weights" if config.ctr is None else str(config.ctr)
        return measure_latency(
            config,
            out,
            _requests(model, count, config.seed),
            dataset=f"{count} candidates drawn at random from {items} items",
            model=f"{name}, {config.engine}, {model.card.copies} networks, one core",
            counts={"candidates": count},
        )


@contextmanager
def _opened(config: CtrLatencyConfig) -> Iterator[ClickModel]:
    """The click model that the settings name; a random one is gone afterwards."""
    from llmrec.bench.random_shop import RandomShopConfig, make_shop
    from llmrec.ranking.ctr.model import ClickModel

    if config.ctr is not None:
        yield ClickModel.load(config.ctr, engine=config.engine)
        return
    users = max(100, config.items // 5)
    with tempfile.TemporaryDirectory() as folder:
        shop = make_shop(
            Path(folder), RandomShopConfig(items=config.items, users=users, size="nano")
        )
        yield ClickModel.load(shop.ctr, engine=config.engine)


def _requests(model: ClickModel, count: int, seed: int) -> Iterator[Timings]:
    """Milliseconds of each request by step."""
    from llmrec.bench.random_shop import draw_request

    rng = np.random.default_rng(seed)
    while True:
        yield _answer(model, *draw_request(model.builder, count, rng))


def _answer(
    model: ClickModel,
    requests: RequestContext,
    items: np.ndarray,
    sources: SourceFeatures,
    counters: np.ndarray,
) -> Timings:
    """Milliseconds of one request by part."""
    place = np.full(items.shape, -1)
    marks = [time.perf_counter()]
    inputs = model.builder(requests, items, place, sources, counters)
    marks.append(time.perf_counter())
    logits, _ = model.networks.run(inputs)
    marks.append(time.perf_counter())
    fields = {
        "category": model.item_features.category[items[0]].astype(np.int64),
        "position": place[0],
    }
    model.probabilities(logits[0, :, 0], fields)
    marks.append(time.perf_counter())
    parts = np.diff(marks) * 1000
    names = ("features", "head", "calibration")
    return dict(zip(names, parts.tolist(), strict=True)) | {"total": float(parts.sum())}
