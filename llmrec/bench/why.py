"""``llmrec bench why``: for whom does each model help, and does the language model pay?

    llmrec bench why GRAPH.cases.parquet LLM.cases.parquet HYBRID.cases.parquet

Takes evaluations of the same cases (``llmrec evaluate``), the simplest first, and parts the cases:
by popularity of the target (0: cold), length of the history, days since the last event where events
have times, and the order of names. In each part it shows NDCG@10 of every model and the paired
difference of every two, a later one minus an earlier one, with a 95% bootstrap interval; history
removed (of baskets, by size in place of popularity, not). Beside them stands who finds what the
other misses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.checks import result_file
from llmrec.bench.why_report import ALL, write_why_report
from llmrec.errors import ConfigError
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.results import (
    CaseRanks,
    check_same_cases,
    read_cases,
    read_result,
    write_result,
)
from llmrec.metrics.slices import slice_rows

METRIC = "ndcg@10"
OUT = Path("eval/results/why-llm.json")


def run(
    cases: Sequence[Path],
    /,
    *,
    out: Path = OUT,
    names: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Path:
    """Compare evaluated models part by part; writes a result file, a page and plots beside it.

    Args:
        cases: NAME.cases.parquet of llmrec evaluate, the simplest model first.
        out: the result file; NAME.md and NAME-SLICE.png stand beside it.
        names: what the page calls the models, in their order; by default as their results.
        resamples: bootstrap resamples behind the 95% intervals.
        seed: of the bootstrap.

    Raises:
        ConfigError: for fewer than two models, or two of one name.
        ArtifactError, DataError: for a file that cannot be read, or other cases.
    """
    result_file(out)
    started = time.monotonic()
    runs = [read_cases(path) for path in cases]
    names = tuple(names) or tuple(one.name for one in runs)
    if len(runs) < 2:
        raise ConfigError("give the cases of two models or more")
    if len(names) != len(runs) or len(set(names)) < len(runs):
        raise ConfigError(f"--names: {', '.join(names)}: give {len(runs)} different ones")
    for other in runs[1:]:
        check_same_cases(runs[0], other)
    values = {name: one.values((10,)) for name, one in zip(names, runs, strict=True)}
    rows = compare_slices(
        {name: value[METRIC] for name, value in values.items()}, runs, resamples, seed
    )
    hits = {name: value["recall@10"] > 0 for name, value in values.items()}
    path = write_result(
        out,
        dataset=runs[0].dataset,
        split=runs[0].split,
        model=", ".join(names),
        metrics={f"{METRIC}.{name}": rows[0]["figures"][name] for name in names},
        intervals={f"{METRIC}.{name}": rows[0]["intervals"][name] for name in names},
        seed=seed,
        seconds=time.monotonic() - started,
        cases=len(runs[0].case_users),
        rows=rows,
        found=[overlap(one, other, hits) for one, other in combinations(names, 2)],
        settings={
            "metric": METRIC,
            "protocol": "history removed" if runs[0].basket is None else "history not removed",
            "models": list(names),
            "resamples": resamples,
        },
    )
    return write_why_report(read_result(path), out.parent)


def compare_slices(
    values: dict[str, np.ndarray], runs: Sequence[CaseRanks], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Figures of every part of the cases, all of them first.

    Args:
        values: model to float ``[cases]``.
        runs: of the models; what is known of the cases of any of them counts.

    Returns:
        a row a part: ``slice``, ``bucket``, ``cases``; ``figures`` and ``intervals`` by model; and
        ``differences``, of each pair ``from``, ``to``, ``difference`` and ``interval``.
    """
    users = runs[0].case_users
    facts: dict[str, np.ndarray] = {}
    for one in runs:
        facts |= one.facts
    parts = {ALL: [(ALL, np.arange(len(users)))]} | slice_rows(facts, runs[0].basket)
    rows = []
    for slicing, buckets in parts.items():
        for bucket, chosen in buckets:
            inside = {name: value[chosen] for name, value in values.items()}
            pairs = {f"{a} {b}": inside[b] - inside[a] for a, b in combinations(inside, 2)}
            spans = intervals(inside | pairs, users[chosen], resamples, seed)
            rows.append(
                {
                    "slice": slicing,
                    "bucket": bucket,
                    "cases": len(chosen),
                    "figures": {name: float(value.mean()) for name, value in inside.items()},
                    "intervals": {name: spans[name] for name in inside},
                    "differences": [
                        {
                            "from": a,
                            "to": b,
                            "difference": float(pairs[f"{a} {b}"].mean()),
                            "interval": spans[f"{a} {b}"],
                        }
                        for a, b in combinations(inside, 2)
                    ],
                }
            )
    return rows


def overlap(one: str, other: str, hits: dict[str, np.ndarray]) -> dict[str, Any]:
    """Share of the cases whose target both have among their first ten, one alone, or neither."""
    a, b = hits[one], hits[other]
    return {
        "one": one,
        "other": other,
        "both": float((a & b).mean()),
        "one_alone": float((a & ~b).mean()),
        "other_alone": float((b & ~a).mean()),
        "neither": float((~a & ~b).mean()),
    }
