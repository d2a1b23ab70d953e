"""``llmrec evaluate compare``: is one run better than the other, or is it chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.metrics.bootstrap import PairedDifference, compare
from llmrec.metrics.results import CaseRanks, check_same_cases, read_cases

COMPARED = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr@10")


def compare_runs(a: CaseRanks, b: CaseRanks, *, seed: int = 0) -> list[PairedDifference]:
    """Run b minus run a on the same cases, for metrics that lists and exact ranks share.

    Raises:
        DataError: if they are not on the same cases.
    """
    check_same_cases(a, b)
    ks = tuple(sorted({int(name.split("@")[1]) for name in COMPARED}))
    first, second = a.values(ks), b.values(ks)
    return compare({name: first[name] for name in COMPARED}, second, a.case_users, seed=seed)


def differences(results: Sequence[Mapping[str, Any]], cases: Sequence[CaseRanks]) -> list[str]:
    """Every run against the strongest baseline, or the best run where no baseline is among them.

    Args:
        results: result files of one dataset and split, the best by NDCG@10 last.
        cases: the ranks of those whose cases are at hand.

    Returns:
        lines of Markdown; none where there is nothing to compare.
    """
    ranks = {run.name: run for run in cases}
    known = [result for result in results if result["name"] in ranks]
    baselines = [result["name"] for result in known if result.get("baseline")]
    if len(known) < 2:
        return []
    reference = baselines[-1] if baselines else known[-1]["name"]
    what = "the strongest baseline" if baselines else "the best"
    removed = "history removed" if ranks[reference].basket is None else "history not removed"
    lines = [f"### Paired differences to {reference}, {what}, {removed}", ""]
    lines += ["95% paired bootstrap interval; p from a sign-flip permutation test.", ""]
    for result in known:
        if result["name"] != reference:
            rows = compare_runs(ranks[reference], ranks[result["name"]])
            lines += [differences_table(reference, result["name"], rows), ""]
    return lines


def run(a: Path, b: Path, /, *, seed: int = 0) -> str:
    """Is run B better than run A? Paired by case, history removed (of baskets not); Markdown.

    Args:
        a: A.cases.parquet of ``llmrec evaluate``.
        b: B.cases.parquet.
        seed: of bootstrap and permutations.
    """
    first, second = read_cases(a), read_cases(b)
    table = differences_table(first.name, second.name, compare_runs(first, second, seed=seed))
    print(table, flush=True)
    return table


def differences_table(a: str, b: str, rows: list[PairedDifference]) -> str:
    """Paired differences as Markdown."""
    lines = [
        f"| metric | {a} | {b} | difference | 95% interval | p |",
        "| --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        low, high = row.interval
        lines.append(
            f"| {row.metric} | {row.a:.4f} | {row.b:.4f} | {row.difference:+.4f} "
            f"| [{low:+.4f}, {high:+.4f}] | {row.p_value:.4f} |"
        )
    return "\n".join(lines)
