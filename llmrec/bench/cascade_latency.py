"""``llmrec bench cascade-latency``: how long the whole cascade takes for one user.

A shop of random items, log, vectors and weights is made in a scratch folder and opened as a bundle;
then users of its log request recommendations, one after the other.

    llmrec bench cascade-latency --items 100000 --out eval/results/cascade-latency.json
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.bench.checks import check_at_least, check_choice, result_file
from llmrec.bench.latency import Timings, measure_latency, torch_threads
from llmrec.llm.llama import SIZES


@dataclass(frozen=True)
class CascadeLatencyConfig:
    """Settings of ``llmrec bench cascade-latency``.

    Attributes:
        items: of the catalogue.
        users: of the log behind its statistics; 0 for a fifth of the items.
        size: of the random LLaMA, a key of :data:`llmrec.llm.llama.SIZES`.
        n: items of a list.
        runs: requests that are timed.
        warmup: requests before them.
        threads: of torch and ONNX Runtime.
        seed: of the shop and of who requests.

    Raises:
        ConfigError: if a value makes no sense, naming the flag.
    """

    items: int = 100_000
    users: int = 0
    size: str = "micro"
    n: int = 10
    runs: int = 300
    warmup: int = 20
    threads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(self, 1, "n", "runs", "threads")
        check_at_least(self, 0, "users", "warmup", "seed")
        check_at_least(self, 100, "items")
        check_choice("size", self.size, tuple(SIZES))


def run(config: CascadeLatencyConfig, out: Path) -> Path:
    """Time the whole cascade for one user at a time.

    Args:
        config: what is timed.
        out: the result file, NAME.json.
    """
    out = result_file(out, out, "--out")
    with torch_threads(config.threads), tempfile.TemporaryDirectory() as folder:
        return measure_latency(
            config,
            out,
            _requests(config, Path(folder)),
            dataset=f"random: {config.items} items, one user at a time",
            model=f"random {config.size} LLaMA, atomic IDs, {config.threads} threads",
            counts={"items": config.items},
        )


def _requests(config: CascadeLatencyConfig, folder: Path) -> Iterator[Timings]:
    """Milliseconds of each request by step."""
    from llmrec.bench.random_shop import NOW, RandomShopConfig, make_shop
    from llmrec.serving.recommender import Recommender

    users = config.users or max(100, config.items // 5)
    shop = make_shop(
        folder,
        RandomShopConfig(items=config.items, users=users, size=config.size, seed=config.seed),
    )
    recommender = Recommender.load(shop.bundle, threads=config.threads)
    rng = np.random.default_rng(config.seed)
    while True:
        history = shop.history(int(rng.integers(users)))
        yield recommender.recommend(
            history=history, n=config.n, context={"device": "mobile"}, now=NOW
        ).timings_ms
