"""``llmrec bench ctr-latency``: how long a click model takes to answer, on one core.

Features, head and calibration of one person and so many candidates, drawn at random from the items
of the click model; without a folder the model is one of random weights.

    llmrec bench ctr-latency --ctr runs/ctr-demo/ctr --out eval/results/ctr-latency.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmrec.bench.settings import check_at_least, check_choice
from llmrec.errors import ConfigError
from llmrec.metrics.results import write_result

if TYPE_CHECKING:
    from llmrec.ranking.ctr.features import Signals
    from llmrec.ranking.ctr.model import ClickModel
    from llmrec.ranking.ctr.moments import Moments

Split = dict[str, list[float]]
Engine = Literal["onnx", "torch"]


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        ctr: folder of ``llmrec ctr``; None for a random one.
        candidates: of a request, at most the items that there are.
        runs, warmup: requests that are timed, and before them.
        engine: what runs the head.
        items: of the random one.

    Raises:
        ConfigError: if a value makes no sense, naming the flag.
    """

    ctr: Path | None = None
    candidates: int = 1000
    runs: int = 300
    warmup: int = 30
    engine: Engine = "onnx"
    items: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("candidates", "runs", "items"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("warmup", "seed"):
            check_at_least(name, getattr(self, name), 0)
        check_choice("engine", self.engine, ("onnx", "torch"))


def main(argv: list[str]) -> None:
    """``llmrec bench ctr-latency``."""
    parser = argparse.ArgumentParser(
        prog="llmrec bench ctr-latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = parser.add_argument, Settings()
    add("--ctr", type=Path, help="folder of llmrec ctr (default: random weights)")
    add("--candidates", type=int, default=default.candidates, help="items of a request")
    add("--runs", type=int, default=default.runs, help="requests timed")
    add("--warmup", type=int, default=default.warmup, help="requests before them")
    add("--engine", default=default.engine, help="onnx or torch")
    add("--items", type=int, default=default.items, help="of the random shop")
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
    torch.set_num_threads(1)
    try:
        with _opened(settings) as model:
            split = measure(model, settings)
            name = "random weights" if settings.ctr is None else str(settings.ctr)
            count = min(settings.candidates, model.shelf.n_items)
    finally:
        torch.set_num_threads(threads)
    metrics = percentiles(split) | {"candidates": float(count)}
    write_result(
        out,
        name=out.stem,
        dataset=f"{count} candidates drawn at random from {model.shelf.n_items} items",
        model=f"{name}, {settings.engine}, {model.card.copies} networks, one core",
        metrics=metrics,
        seed=settings.seed,
        seconds=time.monotonic() - started,
        runs=settings.runs,
        warmup=settings.warmup,
    )
    return metrics


@contextmanager
def _opened(settings: Settings) -> Iterator[ClickModel]:
    """The click model that the settings name; a random one is gone afterwards."""
    from llmrec.bench.random_shop import ShopSettings, make_shop
    from llmrec.ranking.ctr.model import ClickModel

    if settings.ctr is not None:
        yield ClickModel.load(settings.ctr, engine=settings.engine)
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = ShopSettings(items=settings.items, users=max(100, settings.items // 5), size="nano")
        shop = make_shop(Path(folder), sizes)
        yield ClickModel.load(shop.ctr, engine=settings.engine)


def measure(model: ClickModel, settings: Settings) -> Split:
    """Milliseconds of each request by part."""
    from llmrec.bench.random_shop import draw_moment

    rng = np.random.default_rng(settings.seed)
    count = min(settings.candidates, model.shelf.n_items)
    split: Split = {"features": [], "head": [], "calibration": [], "total": []}
    for number in range(settings.warmup + settings.runs):
        drawn = draw_moment(model.assembler, model.card.sources, count, rng)
        spent = _answer(model, *drawn)
        if number >= settings.warmup:
            for name, value in spent.items():
                split[name].append(value)
    return split


def _answer(
    model: ClickModel, moments: Moments, items: np.ndarray, said: Signals
) -> dict[str, float]:
    """Milliseconds of one request by part."""
    place = np.full(items.shape, -1)
    marks = [time.perf_counter()]
    inputs = model.inputs(moments, items, place, said)
    marks.append(time.perf_counter())
    logits, _ = model.heads.run(inputs)
    marks.append(time.perf_counter())
    fields = {"category": model.shelf.category[items[0]].astype(np.int64), "position": place[0]}
    model.probabilities(logits[0, :, 0], fields)
    marks.append(time.perf_counter())
    parts = np.diff(marks) * 1000
    names = ("features", "head", "calibration")
    return dict(zip(names, parts.tolist(), strict=True)) | {"total": float(parts.sum())}


def percentiles(split: Split, whole: str = "total") -> dict[str, float]:
    """``p50_ms`` and ``p99_ms`` of the whole, and of each part with its name in front.

    >>> percentiles({"head": [1.0, 3.0], "total": [2.0, 4.0]})["p50_ms"]
    3.0
    """
    found: dict[str, float] = {}
    for name in (whole, *(name for name in split if name != whole)):
        front = "" if name == whole else f"{name}_"
        for share in (50, 99):
            found[f"{front}p{share}_ms"] = round(float(np.percentile(split[name], share)), 3)
    return found


def check_out(out: Path) -> Path:
    """Where the result file goes.

    Raises:
        ConfigError: if it is no ``.json``.
    """
    if out.suffix != ".json":
        raise ConfigError(f"--out {out}: give the name of a .json file")
    return out
