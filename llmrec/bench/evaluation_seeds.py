"""``llmrec evaluate seeds``: one result of several trainings of the same model.

    llmrec evaluate seeds A.json B.json C.json --out beauty-hybrid.json

Every figure is the mean over the trainings. Intervals resample users and trainings together, so
they say what another training, judged by other users, would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import DataError
from llmrec.metrics.bootstrap import bootstrap_means
from llmrec.metrics.results import (
    CASES_SUFFIX,
    CaseRanks,
    check_same_cases,
    read_cases,
    read_result,
    write_result,
)
from llmrec.metrics.slices import slice_rows

_SHOWN = ("recall@10", "ndcg@10", "mrr")
_SLICED = ("recall@10", "ndcg@10")


def run(results: Sequence[Path], /, out: Path, *, resamples: int = 1000, seed: int = 0) -> Path:
    """Average results of trainings that differ in the seed alone.

    Args:
        results: result files of llmrec evaluate, their NAME.cases.parquet beside them.
        out: the result file to write.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        DataError: if there are fewer than two, or they are not of the same cases and settings.
    """
    if len(results) < 2:
        raise DataError("give the results of at least two trainings")
    found = [read_result(path) for path in results]
    cases = [
        read_cases(Path(path).parent / f"{result['name']}{CASES_SUFFIX}")
        for path, result in zip(results, found, strict=True)
    ]
    first = found[0]
    for path, result, ranks in zip(results[1:], found[1:], cases[1:], strict=True):
        check_same_cases(cases[0], ranks)
        for key in ("dataset_hash", "settings", "rank_limit"):
            if result.get(key) != first.get(key):
                raise DataError(f"{path}: its {key} is not that of {results[0]}")
    seeds = [result["training"].get("seed") for result in found]
    if len(set(seeds)) < len(seeds):
        raise DataError(f"the trainings have the seeds {seeds}; give one result a seed")
    ks = tuple(first["settings"]["ks"])
    values = [ranks.values(ks) for ranks in cases]
    kept = {key: first[key] for key in ("rank_limit", "cases", "catalogue", "settings")}
    both = "metrics_with_history"
    if all(both in result for result in found):
        kept[both] = _means([result[both] for result in found])
    return write_result(
        out,
        dataset=first["dataset"],
        split=first["split"],
        model=[result["model"] for result in found],
        metrics=_means([result["metrics"] for result in found]),
        intervals=intervals_over_trainings(values, cases[0].case_users, resamples, seed),
        name=out.stem,
        baseline=False,
        seed=seed,
        seeds=seeds,
        by_seed=[
            {name: result["metrics"][name] for name in _SHOWN if name in result["metrics"]}
            for result in found
        ],
        seconds=float(np.mean([result["seconds"] for result in found])),
        history_removed=first["history_removed"],
        dataset_hash=first["dataset_hash"],
        slices=_slices(values, cases[0], resamples, seed),
        training=[result["training"] for result in found],
        **({"cold_cases": first["cold_cases"]} if "cold_cases" in first else {}),
        **kept,
    )


def _means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric that all have."""
    return {
        name: float(np.mean([one[name] for one in metrics]))
        for name in metrics[0]
        if all(name in one for one in metrics)
    }


def intervals_over_trainings(
    values: Sequence[Mapping[str, np.ndarray]], users: np.ndarray, resamples: int, seed: int
) -> dict[str, list[float]]:
    """95% percentile intervals over users and trainings.

    Args:
        values: of every training, metric name to float ``[cases]``.
        users: int ``[cases]``.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(values), size=(resamples, len(values)))
    found = {}
    for name in values[0]:
        by_training = np.column_stack([one[name] for one in values])
        means = bootstrap_means(by_training, users, resamples, seed)  # [resamples, trainings]
        both = np.take_along_axis(means, drawn, axis=1).mean(axis=1)
        found[name] = np.percentile(both, [2.5, 97.5]).tolist()
    return found


def _slices(
    values: Sequence[Mapping[str, np.ndarray]], ranks: CaseRanks, resamples: int, seed: int
) -> dict[str, Any]:
    """Recall and NDCG at 10 of the cases that belong together, as in the result of one training."""
    kept = [{name: one[name] for name in _SLICED if name in one} for one in values]
    sliced: dict[str, Any] = {}
    for name, parts in slice_rows(ranks.facts).items():
        sliced[name] = {}
        for bucket, rows in parts:
            some = [{metric: column[rows] for metric, column in one.items()} for one in kept]
            sliced[name][bucket] = {
                "cases": len(rows),
                "metrics": _means([{m: float(c.mean()) for m, c in one.items()} for one in some]),
                "intervals": intervals_over_trainings(
                    some, ranks.case_users[rows], resamples, seed
                ),
            }
    return sliced
