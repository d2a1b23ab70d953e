"""``llmrec bench decode``: our decoder against other ways to generate, on the same weights.

Each engine (see :mod:`llmrec.bench.engines`) loads in a process of its own, reads a few users to
warm up, and answers the same batch again and again; the engines take turns, so that what
else the machine does hits all alike. What counts is the median.

    llmrec bench decode --results eval/results/decode.json
    llmrec bench decode --engines llmrec,prefill --normalise level --batch 1
    llmrec bench decode --model RUN/models/semantic/model --dataset DIR --exact-users 100

Per engine: users a second, milliseconds a batch, the memory that answering adds above the
loaded model, and whether its lists are those of transformers, item by item.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.agreement import largest_difference, overlap, same_as
from llmrec.bench.exactness import check_exactness
from llmrec.bench.report import write_decode_report
from llmrec.bench.returning import measure_returning, returning_metrics
from llmrec.bench.settings import DTYPES, ENGINES, REFERENCE, VLLM, Settings
from llmrec.bench.worker import Timed, Worker, in_fresh_process
from llmrec.bench.workload import Workload, make_workload
from llmrec.config import as_dict
from llmrec.errors import ConfigError
from llmrec.metrics.results import read_result, write_result
from llmrec.types import Ranking

OUT = Path("runs/bench/decode")
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """``llmrec bench decode``."""
    parser = argparse.ArgumentParser(
        prog="llmrec bench decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = parser.add_argument, Settings()
    add("--items", type=int, default=default.items, help="of the random catalogue")
    add("--levels", type=int, default=default.levels, help="tokens of an item ID")
    add("--codes", type=int, default=default.codes, help="codes a level")
    add("--size", default=default.size, help="of the random model: nano, micro, ... medium")
    add("--length", type=int, default=default.length, help="tokens of a history")
    add("--batch", type=int, default=default.batch, help="users answered at once")
    add("--beams", type=int, default=default.beams)
    add("--n", type=int, help="items a user (default: --beams)")
    add("--repeats", type=int, default=default.repeats, help="batches timed an engine")
    add("--slow-repeats", type=int, default=default.slow_repeats, help="of transformers and vllm")
    add("--engines", default=",".join(ENGINES), help=f"some of {','.join(ENGINES)} (default: all)")
    add("--normalise", default=default.normalise, help="children or level")
    add("--device", default=default.device, help="cpu or cuda")
    add("--dtype", default=default.dtype, help=" or ".join(DTYPES))
    add("--threads", type=int, default=0, help="of every engine (default: torch's own choice)")
    add("--exact-users", type=int, default=0, help="compare so many users with scoring every item")
    add("--returning", action=argparse.BooleanOptionalAction, default=True)
    add("--model", type=Path, help="a trained model in place of a random one")
    add("--dataset", type=Path, help="its dataset; histories are those of the test split")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=OUT, help=f"folder of the page and plot (default: {OUT})")
    add("--results", type=Path, help="the result file (default: decode.json in --out)")
    values = vars(parser.parse_args(argv))
    out, results = values.pop("out"), values.pop("results")
    values["n"] = values["beams"] if values["n"] is None else values["n"]
    values["engines"] = tuple(dict.fromkeys(values["engines"].split(",")))
    path = result_path(results, out, "decode")
    run(Settings(**values), path)
    print(write_decode_report(read_result(path), out).read_text(encoding="utf-8"))


def result_path(results: Path | None, out: Path, name: str) -> Path:
    """Where the result file goes.

    Raises:
        ConfigError: if it is no ``.json``.
    """
    path: Path = out / f"{name}.json" if results is None else results
    if path.suffix != ".json":
        raise ConfigError(f"--results {path}: give the name of a .json file")
    return path


def run(settings: Settings, results: Path) -> Path:
    """Measure everything and write the result file."""
    started = time.monotonic()
    engines = available(settings)
    with tempfile.TemporaryDirectory() as folder:
        workload = make_workload(settings, Path(folder))
        _check_lengths(workload, engines)
        runs, peaks = time_engines(settings, engines, workload)
        metrics: dict[str, float] = {}
        exactness: dict[str, float] = {}
        returning: list[Row] = []
        if settings.exact_users:
            exactness = in_fresh_process(check_exactness, settings, workload)
        if settings.returning and settings.model is None:
            returning = in_fresh_process(measure_returning, settings)
    rows = [
        make_row(settings, name, runs[name], peaks[name], _answer(runs, REFERENCE))
        for name in engines
    ]
    metrics |= ratios(rows) | exactness
    if returning:
        metrics |= returning_metrics(returning)
    if "vllm" in runs:
        metrics["invalid_items_vllm"] = _invalid(_answer(runs, "vllm"))
    return write_result(
        results,
        name=results.stem,
        dataset=workload.dataset,
        model=workload.name,
        metrics=metrics,
        seed=settings.seed,
        seconds=time.monotonic() - started,
        rows=rows,
        returning=returning,
        settings=as_dict(settings) | {"engines": list(engines)},
        load_1min=round(os.getloadavg()[0], 2),
    )


def available(settings: Settings) -> tuple[str, ...]:
    """The engines asked for that can run here.

    Raises:
        ConfigError: if none can, or the device is missing.
    """
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: cuda is not available here; use --device cpu")
    engines = settings.engines
    if set(VLLM) & set(engines) and importlib.util.find_spec("vllm") is None:
        print("vllm: left out, it is not installed (pip install 'llmrec[vllm]')", flush=True)
        engines = tuple(name for name in engines if name not in VLLM)
    if not engines:
        raise ConfigError("--engines: none of those asked for is installed; add llmrec")
    return engines


def time_engines(
    settings: Settings, engines: tuple[str, ...], workload: Workload
) -> tuple[dict[str, list[Timed]], dict[str, float | None]]:
    """Every engine's batches, in turns, and the memory that they added."""
    workers: dict[str, Worker] = {}
    runs: dict[str, list[Timed]] = {name: [] for name in engines}
    try:
        for name in engines:
            workers[name] = Worker(name, settings, workload)
        for name, worker in workers.items():
            worker.wait()
            print(f"{name}: loaded and warmed up", flush=True)
        for turn in range(settings.repeats):
            for name in engines:
                if turn >= settings.repeats_of(name):
                    continue
                timed = workers[name].run()
                runs[name].append(timed)
                speed = len(workload.prompts) / timed.seconds
                print(
                    f"{name}: {turn + 1} of {settings.repeats_of(name)}: {speed:.1f} users/s",
                    flush=True,
                )
        return runs, {name: worker.peak_mib() for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()


def make_row(
    settings: Settings,
    engine: str,
    runs: list[Timed],
    peak: float | None,
    reference: Ranking | None,
) -> Row:
    """A row of the result file."""
    seconds = [timed.seconds for timed in runs]
    median = float(np.median(seconds))
    row: Row = {
        "engine": engine,
        "users_per_s": round(settings.batch / median, 2),
        "p50_ms": round(1000 * median, 3),
        "peak_mib": None if peak is None else round(peak, 1),
        "identical_to_reference": None,
        "max_score_difference": None,
        "overlap_with_reference": None,
        "batch": settings.batch,
        "seconds": [round(value, 6) for value in seconds],
    }
    found = runs[0].ranking
    if found is None or reference is None:
        return row
    row["identical_to_reference"] = bool(same_as(found, reference, settings.tolerance).all())
    row["overlap_with_reference"] = round(overlap(found.items, reference.items), 4)
    if engine not in VLLM:  # it normalises over the whole vocabulary
        row["max_score_difference"] = largest_difference(found.scores, reference.scores)
    return row


def ratios(rows: list[Row]) -> dict[str, float]:
    """How our engine compares with each other one."""
    by_name = {row["engine"]: row for row in rows}
    metrics: dict[str, float] = {}
    for name, row in by_name.items():
        metrics[f"users_per_s@{name}"] = row["users_per_s"]
        if row["peak_mib"] is not None:
            metrics[f"peak_mib@{name}"] = row["peak_mib"]
    ours = by_name.get("llmrec")
    if ours is None:
        return metrics
    for name in ("transformers", *VLLM, "prefill"):
        if name in by_name:
            metrics[f"llmrec_over_{name}"] = round(by_name[name]["p50_ms"] / ours["p50_ms"], 3)
    other = by_name.get(REFERENCE)
    if other is not None and other["peak_mib"]:
        metrics["peak_over_transformers"] = round(ours["peak_mib"] / other["peak_mib"], 4)
        metrics["identical_to_transformers"] = float(ours["identical_to_reference"])
    return metrics


def _answer(runs: dict[str, list[Timed]], engine: str) -> Ranking | None:
    return runs[engine][0].ranking if engine in runs else None


def _invalid(found: Ranking | None) -> float:
    """Share of what was returned that is no item."""
    return 0.0 if found is None else round(float((found.items < 0).mean()), 4)


def _check_lengths(workload: Workload, engines: tuple[str, ...]) -> None:
    """Check that every ID has all levels, where an engine must say so many tokens.

    Raises:
        ConfigError: if one is shorter.
    """
    others = [name for name in ("transformers", *VLLM) if name in engines]
    if others and (workload.ids.codes < 0).any():
        raise ConfigError(
            f"--engines: {others[0]} cannot say item IDs of different lengths; "
            "use --engines llmrec,prefill with this model"
        )
