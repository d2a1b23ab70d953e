"""``llmrec bench cascade-latency``: how long the whole cascade takes for one person.

A shop of random items, log, vectors and weights is made in a scratch folder and opened as a bundle;
then people of its log ask, one after the other.

    llmrec bench cascade-latency --items 100000 --out eval/results/cascade-latency.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.bench.ctr_latency import Split, check_out, percentiles
from llmrec.bench.settings import check_at_least, check_choice
from llmrec.llm.llama import SIZES
from llmrec.metrics.results import write_result


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        items: of the catalogue; users: of the log behind its statistics, 0 for a fifth of items.
        size: of the random LLaMA, a key of :data:`llmrec.llm.llama.SIZES`.
        n: items of a list.
        runs, warmup: requests that are timed, and before them.
        threads: of torch and ONNX Runtime.

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
        for name in ("n", "runs", "threads"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("users", "warmup", "seed"):
            check_at_least(name, getattr(self, name), 0)
        check_at_least("items", self.items, 100)
        check_choice("size", self.size, tuple(SIZES))


def main(argv: list[str]) -> None:
    """``llmrec bench cascade-latency``."""
    parser = argparse.ArgumentParser(
        prog="llmrec bench cascade-latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = parser.add_argument, Settings()
    add("--items", type=int, default=default.items, help="of the catalogue")
    add("--users", type=int, default=0, help="of the log (default: a fifth of the items)")
    add("--size", default=default.size, help="of the random model: nano, micro, ... medium")
    add("-n", type=int, default=default.n, help="items of a list")
    add("--runs", type=int, default=default.runs, help="requests timed")
    add("--warmup", type=int, default=default.warmup, help="requests before them")
    add("--threads", type=int, default=default.threads, help="of torch and ONNX Runtime")
    add("--seed", type=int, default=0)
    add("--out", type=Path, required=True, help="result file (.json)")
    values = vars(parser.parse_args(argv))
    out = check_out(values.pop("out"))
    metrics = run(Settings(**values), out)
    print("  ".join(f"{name} {value:.2f}" for name, value in metrics.items()))


def run(settings: Settings, out: Path) -> dict[str, float]:
    """Measure and write the result file; the metrics."""
    import torch

    started = time.monotonic()
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            split = measure(settings, Path(folder))
    finally:
        torch.set_num_threads(threads)
    metrics = percentiles(split) | {"items": float(settings.items)}
    write_result(
        out,
        name=out.stem,
        dataset=f"random: {settings.items} items, one person at a time",
        model=f"random {settings.size} LLaMA, atomic IDs, {settings.threads} threads",
        metrics=metrics,
        seed=settings.seed,
        seconds=time.monotonic() - started,
        runs=settings.runs,
        warmup=settings.warmup,
    )
    return metrics


def measure(settings: Settings, folder: Path) -> Split:
    """Milliseconds of each request by step."""
    from llmrec.bench.random_shop import NOW, ShopSettings, make_shop
    from llmrec.serving.recommender import Recommender

    users = settings.users or max(100, settings.items // 5)
    sizes = ShopSettings(items=settings.items, users=users, size=settings.size, seed=settings.seed)
    shop = make_shop(folder, sizes)
    recommender = Recommender.load(shop.bundle, threads=settings.threads)
    rng = np.random.default_rng(settings.seed)
    split: Split = {}
    for number in range(settings.warmup + settings.runs):
        history = shop.history(int(rng.integers(users)))
        answer = recommender.recommend(
            history=history, n=settings.n, context={"device": "mobile"}, now=NOW
        )
        if number >= settings.warmup:
            for name, value in answer.timings.items():
                split.setdefault(name, []).append(value)
    return split
