"""``llmrec bench ctr-latency`` and ``bench cascade-latency``: how long one answer takes.

    llmrec bench ctr-latency --ctr runs/ctr-demo/ctr --out eval/results/ctr-latency.json
    llmrec bench cascade-latency --items 100000 --out eval/results/cascade-latency.json

The first times features, networks and calibration of a click model on one core: one user and so
many candidates, drawn at random from its items; without a folder the model is one of random
weights. The second makes a shop of random items, log, vectors and weights in a scratch folder and
opens it as a bundle; then users of its log request recommendations, one after the other.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmrec.bench.checks import check_choice, result_file
from llmrec.config import check_ranges
from llmrec.llm.llama import SIZES
from llmrec.metrics.results import write_result
from llmrec.serving.timing import Stopwatch

if TYPE_CHECKING:
    from llmrec.bench.random_shop import RandomShop
    from llmrec.ranking.ctr.model import ClickModel

Timings = dict[str, float]  # milliseconds of one request by step, and their `total`


@dataclass(frozen=True)
class LatencyConfig:
    """Settings of both benchmarks.

    Attributes:
        items: of the random shop.
        runs: requests that are timed.
        warmup: requests before them.
        seed: of the shop and of the requests.

    Raises:
        ConfigError: if a value makes no sense, naming it.
    """

    items: int = 10_000
    runs: int = 300
    warmup: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "items", "runs")
        check_ranges(self, "[0, inf)", "warmup", "seed")


@dataclass(frozen=True)
class CtrLatencyConfig(LatencyConfig):
    """Settings of ``llmrec bench ctr-latency``.

    Attributes:
        ctr: folder of ``llmrec ctr``; None for random weights.
        candidates: of a request, at most the items that there are.
        engine: what runs the networks.
    """

    ctr: Path | None = None
    candidates: int = 1000
    engine: Literal["onnx", "torch"] = "onnx"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "[1, inf)", "candidates")


@dataclass(frozen=True)
class CascadeLatencyConfig(LatencyConfig):
    """Settings of ``llmrec bench cascade-latency``.

    Attributes:
        users: of the log behind the shop's statistics; 0 for a fifth of the items.
        size: of the random LLaMA, a key of :data:`llmrec.llm.llama.SIZES`.
        n: items of a list.
        threads: of torch and ONNX Runtime.
    """

    items: int = 100_000
    warmup: int = 20
    users: int = 0
    size: str = "micro"
    n: int = 10
    threads: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "[1, inf)", "n", "threads")
        check_ranges(self, "[0, inf)", "users")
        check_ranges(self, "[100, inf)", "items")
        check_choice("size", self.size, tuple(SIZES))


def time_click_model(config: CtrLatencyConfig, out: Path) -> Path:
    """Time a click model on one core, one request at a time.

    Args:
        config: what is timed.
        out: the result file, NAME.json.
    """
    from llmrec.ranking.ctr.model import ClickModel

    result_file(out)
    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        ctr = config.ctr or _make_shop(config, Path(folder), "nano").ctr
        model = ClickModel.load(ctr, engine=config.engine)
        items = model.item_features.n_items
        count = min(config.candidates, items)
        name = "random weights" if config.ctr is None else str(config.ctr)
        return _measure(
            config,
            out,
            _click_requests(model, count, config.seed),
            dataset=f"{count} candidates drawn at random from {items} items",
            model=f"{name}, {config.engine}, {model.card.copies} networks, one core",
            counts={"candidates": count},
        )


def time_cascade(config: CascadeLatencyConfig, out: Path) -> Path:
    """Time the whole cascade for one user at a time.

    Args:
        config: what is timed.
        out: the result file, NAME.json.
    """
    result_file(out)
    with torch_threads(config.threads), tempfile.TemporaryDirectory() as folder:
        return _measure(
            config,
            out,
            _cascade_requests(config, Path(folder)),
            dataset=f"random: {config.items} items, one user at a time",
            model=f"random {config.size} LLaMA, atomic IDs, {config.threads} threads",
            counts={"items": config.items},
        )


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(
    config: LatencyConfig,
    out: Path,
    requests: Iterator[Timings],
    *,
    dataset: str,
    model: str,
    counts: dict[str, int],
) -> Path:
    """Time requests, leave the first ones out, and write the result file."""
    started = time.monotonic()
    timed = list(islice(requests, config.warmup, config.warmup + config.runs))
    metrics = percentiles(timed) | {name: float(count) for name, count in counts.items()}
    write_result(
        out,
        dataset=dataset,
        model=model,
        metrics=metrics,
        seed=config.seed,
        seconds=time.monotonic() - started,
        runs=config.runs,
        warmup=config.warmup,
    )
    print("  ".join(f"{name} {value:.2f}" for name, value in metrics.items()), flush=True)
    return out


def percentiles(timed: list[Timings]) -> dict[str, float]:
    """``p50_ms`` and ``p99_ms`` of the total, and of each step with its name in front.

    >>> percentiles([{"network": 1.0, "total": 2.0}, {"network": 3.0, "total": 4.0}])["p50_ms"]
    3.0
    """
    found: dict[str, float] = {}
    for name in sorted(timed[0], key=lambda name: name != "total"):
        front = "" if name == "total" else f"{name}_"
        for share in (50, 99):
            value = np.percentile([one[name] for one in timed], share)
            found[f"{front}p{share}_ms"] = round(float(value), 3)
    return found


def _make_shop(
    config: LatencyConfig, folder: Path, size: str, users: int = 0, seed: int = 0
) -> RandomShop:
    from llmrec.bench.random_shop import RandomShopConfig, make_shop

    users = users or max(100, config.items // 5)
    return make_shop(
        folder, RandomShopConfig(items=config.items, users=users, size=size, seed=seed)
    )


def _click_requests(model: ClickModel, count: int, seed: int) -> Iterator[Timings]:
    """Milliseconds of each request to a click model by step."""
    from llmrec.bench.random_shop import draw_request

    rng = np.random.default_rng(seed)
    while True:
        requests, items, sources, counters = draw_request(model.builder, count, rng)
        place = np.full(items.shape, -1)
        fields = {
            "category": model.item_features.category[items[0]].astype(np.int64),
            "position": place[0],
        }
        watch = Stopwatch()
        with watch.step("features"):
            inputs = model.builder(requests, items, place, sources, counters)
        with watch.step("head"):
            logits, _ = model.networks.run(inputs)
        with watch.step("calibration"):
            model.probabilities(logits[0, :, 0], fields)
        yield watch.timings_ms()


def _cascade_requests(config: CascadeLatencyConfig, folder: Path) -> Iterator[Timings]:
    """Milliseconds of each request to the cascade by step."""
    from llmrec.bench.random_shop import NOW
    from llmrec.serving.recommender import Recommender

    shop = _make_shop(config, folder, config.size, config.users, config.seed)
    recommender = Recommender.load(shop.bundle, threads=config.threads)
    rng = np.random.default_rng(config.seed)
    users = int(shop.user.max()) + 1
    while True:
        yield recommender.recommend(
            history=shop.history(int(rng.integers(users))),
            n=config.n,
            context={"device": "mobile"},
            now=NOW,
        ).timings_ms
