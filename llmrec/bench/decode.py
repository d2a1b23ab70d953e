"""``llmrec bench decode``: our decoder against other ways to generate, on the same weights.

Each engine (:mod:`llmrec.bench.decode_engines`) loads in a process of its own, answers a batch to
warm up, and then the same batch again and again; the engines take turns, so that what else the
machine does slows all alike. What counts is the median.

    llmrec bench decode --results eval/results/decode.json
    llmrec bench decode --titles $LLMREC_DATA/amazon2014-beauty/items.jsonl --exact-users 20
    llmrec bench decode --engines llmrec prefill --normalise level --batch 1
    llmrec bench decode --model RUN/models/semantic/model --dataset DIR --exact-users 100

Per engine: users a second, milliseconds a batch, the memory that answering adds above the
loaded model, and whether its lists are those of transformers, item by item.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.agreement import largest_difference, overlap, same_as
from llmrec.bench.checks import result_file
from llmrec.bench.decode_config import REFERENCE, DecodeBenchConfig
from llmrec.bench.exactness import check_exactness
from llmrec.bench.report import write_decode_report
from llmrec.bench.returning_users import measure_returning, returning_metrics
from llmrec.bench.worker import Timed, Worker, in_fresh_process
from llmrec.bench.workload import Workload, make_workload, unique_after
from llmrec.config import as_dict
from llmrec.errors import ConfigError
from llmrec.metrics.results import read_result, write_result
from llmrec.types import Ranking

OUT = Path("runs/bench/decode")
Row = dict[str, Any]


def run(config: DecodeBenchConfig, out: Path = OUT, results: Path | None = None) -> Path:
    """Time our decoder against other engines on the same weights; write result file and page.

    Args:
        config: what is measured.
        out: folder of the page and the plot.
        results: the result file; by default decode.json in ``out``.
    """
    path = result_file(results or out / "decode.json", "--results")
    started = time.monotonic()
    engines = available(config)
    with tempfile.TemporaryDirectory() as folder:
        workload = make_workload(config, Path(folder))
        _check_lengths(workload, engines)
        timed = time_engines(config, engines, workload)
        metrics: dict[str, float] = {}
        returning: list[Row] = []
        if config.exact_users:
            metrics |= in_fresh_process(check_exactness, config, workload)
        if config.returning and config.model is None:
            returning = in_fresh_process(measure_returning, config, workload.ids)
            metrics |= returning_metrics(returning)
    answers = {name: engine.runs[0].ranking for name, engine in timed.items()}
    rows = [make_row(config, name, timed[name], answers.get(REFERENCE)) for name in engines]
    metrics = ratios(rows) | metrics
    if (unconstrained := answers.get("vllm")) is not None:
        metrics["invalid_items_vllm"] = round(float((unconstrained.items < 0).mean()), 4)
    shares = unique_after(workload.ids)
    metrics |= {f"unique_after_{n}_tokens": share for n, share in enumerate(shares, 1)}
    write_result(
        path,
        dataset=workload.dataset,
        model=workload.name,
        metrics=metrics,
        seed=config.seed,
        seconds=time.monotonic() - started,
        rows=rows,
        returning=returning,
        settings=as_dict(config) | {"engines": list(engines)},
        load_1min=round(os.getloadavg()[0], 2),
    )
    write_decode_report(read_result(path), out)
    return path


def available(config: DecodeBenchConfig) -> tuple[str, ...]:
    """The engines of the settings that can run here.

    Raises:
        ConfigError: if none can, or the device is missing.
    """
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: cuda is not available here; use --device cpu")
    engines = tuple(dict.fromkeys(config.engines))
    if "vllm" in engines and importlib.util.find_spec("vllm") is None:
        print("vllm: left out, it is not installed (pip install 'llmrec[vllm]')", flush=True)
        engines = tuple(name for name in engines if name != "vllm")
    if not engines:
        raise ConfigError("--engines: none of them is installed; add llmrec")
    return engines


@dataclass(frozen=True)
class TimedEngine:
    """One engine's batches, the memory that they added, and what it ran with."""

    runs: list[Timed]
    peak_mib: float | None
    options: dict[str, Any]


def time_engines(
    config: DecodeBenchConfig, engines: tuple[str, ...], workload: Workload
) -> dict[str, TimedEngine]:
    """Every engine, in turns."""
    workers: dict[str, Worker] = {}
    runs: dict[str, list[Timed]] = {name: [] for name in engines}
    try:
        for name in engines:
            workers[name] = Worker(name, config, workload)
        options = {}
        for name, worker in workers.items():
            options[name] = worker.wait()
            print(f"{name}: loaded and warmed up", flush=True)
        for turn in range(config.repeats):
            for name in engines:
                runs[name].append(workers[name].run())
                speed = len(workload.prompts) / runs[name][-1].seconds
                print(f"{name}: {turn + 1} of {config.repeats}: {speed:.1f} users/s", flush=True)
        return {
            name: TimedEngine(runs[name], worker.peak_mib(), options[name])
            for name, worker in workers.items()
        }
    finally:
        for worker in workers.values():
            worker.close()


def make_row(
    config: DecodeBenchConfig, engine: str, timed: TimedEngine, reference: Ranking | None
) -> Row:
    """A row of the result file."""
    seconds = [run.seconds for run in timed.runs]
    median = float(np.median(seconds))
    row: Row = {
        "engine": engine,
        "users_per_s": round(config.batch / median, 2),
        "p50_ms": round(1000 * median, 3),
        "peak_mib": None if timed.peak_mib is None else round(timed.peak_mib, 1),
        "identical_to_reference": None,
        "max_score_difference": None,
        "overlap_with_reference": None,
        "batch": config.batch,
        "seconds": [round(value, 6) for value in seconds],
        "options": timed.options,
    }
    found = timed.runs[0].ranking
    if found is None or reference is None:
        return row
    row["identical_to_reference"] = bool(same_as(found, reference, config.tolerance).all())
    row["overlap_with_reference"] = round(overlap(found.items, reference.items), 4)
    if engine != "vllm":  # it normalises over the whole vocabulary
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
    for name in ("transformers", "vllm", "prefill"):
        if name in by_name:
            metrics[f"llmrec_over_{name}"] = round(by_name[name]["p50_ms"] / ours["p50_ms"], 3)
    other = by_name.get(REFERENCE)
    if other is not None and other["peak_mib"]:
        metrics["peak_over_transformers"] = round(ours["peak_mib"] / other["peak_mib"], 4)
        metrics["identical_to_transformers"] = float(ours["identical_to_reference"])
    return metrics


def _check_lengths(workload: Workload, engines: tuple[str, ...]) -> None:
    """Check that every ID has all levels, as some engines need.

    Raises:
        ConfigError: if one is shorter.
    """
    others = [name for name in ("transformers", "vllm") if name in engines]
    if others and (workload.ids.codes < 0).any():
        raise ConfigError(
            f"--engines: {others[0]} cannot generate item IDs of different lengths; "
            "use --engines llmrec prefill with this model"
        )
