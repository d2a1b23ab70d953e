"""What the latency benchmarks share: requests one after the other, percentiles, a result file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from llmrec.metrics.results import write_result

Timings = dict[str, float]  # milliseconds of one request by step, and their `total`


class LatencyConfig(Protocol):
    """Settings that a latency benchmark has."""

    @property
    def runs(self) -> int: ...
    @property
    def warmup(self) -> int: ...
    @property
    def seed(self) -> int: ...


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


def measure_latency(
    config: LatencyConfig,
    out: Path,
    requests: Iterator[Timings],
    *,
    dataset: str,
    model: str,
    counts: dict[str, int],
) -> Path:
    """Time requests, leave the first ones out, and write the result file ``out``.

    Args:
        requests: every step answers one request.
        dataset: what the result calls the requests; ``model`` what answers them.
        counts: further figures of the result.
    """
    started = time.monotonic()
    timed = list(islice(requests, config.warmup, config.warmup + config.runs))
    metrics = percentiles(timed) | {name: float(count) for name, count in counts.items()}
    write_result(
        out,
        name=out.stem,
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
