"""Off-policy estimates on the Open Bandit Dataset, against what the other policy really earned.

    python eval/open_bandit.py DIR --out eval/results/off-policy-open-bandit.json

The data set has, for the same weeks and items, a log of a random policy and one of Thompson
sampling (``DIR/random/all/all.csv``, ``DIR/bts/all/all.csv``, and ``men`` and ``women``). From each
log the other policy is estimated; the mean of its own log is the truth, up to its own error.
Thompson sampling's probabilities are the means of its log's by item and position. ``DIR`` is the
data set as published, or the sample of 10,000 rows a log that the package ``obp`` of pip has in
``obp/dataset/obd``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from llmrec.experiments.bandit_log import ShownItems, read_log
from llmrec.experiments.off_policy import OffPolicy, estimate
from llmrec.metrics.results import write_result

CAMPAIGNS, POLICIES = ("all", "men", "women"), ("random", "bts")
ESTIMATORS = ("ips", "snips", "doubly_robust")


def policy_of(log: ShownItems, other: ShownItems) -> np.ndarray:
    """What the policy of one log shows, float ``[positions, items]`` of another one."""
    total, seen = np.zeros((2, len(other.positions), len(other.items)))
    item = np.array([other.items.index(name) for name in log.items])[log.item]
    np.add.at(total, (log.position, item), log.propensity)
    np.add.at(seen, (log.position, item), 1)
    mean = np.divide(total, seen, out=np.zeros_like(total), where=seen > 0)
    return mean / mean.sum(axis=1, keepdims=True)


def compared(found: OffPolicy, truth: OffPolicy, name: str) -> tuple[dict[str, float], dict]:
    """Figures and intervals of one target, ``name``."""
    metrics, intervals = {}, {}
    for estimator in (*ESTIMATORS, "truth"):
        one = truth.logged if estimator == "truth" else getattr(found, estimator)
        metrics[f"{name}_{estimator}"] = one.value
        intervals[f"{name}_{estimator}"] = list(one.interval)
    return metrics | {f"{name}_effective_rows": found.effective}, intervals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    started = time.monotonic()
    metrics: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    within: dict[str, list[bool]] = {name: [] for name in ESTIMATORS}
    for campaign in CAMPAIGNS:
        path = arguments.folder / "{}" / campaign / f"{campaign}.csv"
        logs = {name: read_log(Path(str(path).format(name))) for name in POLICIES}
        for target, source in (POLICIES, POLICIES[::-1]):
            policy = policy_of(logs[target], logs[source])
            found = estimate(logs[source].asked_for(policy))
            own = policy_of(logs[target], logs[target])
            truth = estimate(logs[target].asked_for(own))
            figures, spans = compared(found, truth, f"{campaign}_{target}")
            metrics, intervals = metrics | figures, intervals | spans
            for name in ESTIMATORS:
                one, other = getattr(found, name), truth.logged
                widths = [(each.interval[1] - each.interval[0]) / 2 for each in (one, other)]
                within[name].append(abs(one.value - other.value) <= float(np.hypot(*widths)))
    metrics |= {f"agree_{name}": float(np.mean(hits)) for name, hits in within.items()}
    write_result(
        arguments.out,
        metrics=metrics,
        intervals=intervals,
        dataset="Open Bandit Dataset",
        model=list(ESTIMATORS),
        rows=found.rows,
        command=f"python eval/open_bandit.py DIR --out {arguments.out}",
        seconds=time.monotonic() - started,
    )
    for name, value in metrics.items():
        print(f"{name:32} {value:.5f}")


if __name__ == "__main__":
    main()
