"""``llmrec evaluate compare``: is one run better than the other, or is it chance?"""

from __future__ import annotations

from pathlib import Path

from llmrec.metrics.bootstrap import PairedDifference, compare
from llmrec.metrics.results import CaseRanks, check_same_cases, read_cases

COMPARED = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr@10")


def compare_runs(
    a: CaseRanks,
    b: CaseRanks,
    *,
    protocol: str = "rank",
    names: tuple[str, ...] = COMPARED,
    seed: int = 0,
) -> list[PairedDifference]:
    """Run b minus run a on the same cases, for metrics that lists and exact ranks share.

    Raises:
        DataError: if they are not on the same cases.
    """
    check_same_cases(a, b)
    ks = tuple(sorted({int(name.split("@")[1]) for name in names}))
    first, second = (run.values(ks, protocol) for run in (a, b))
    return compare(
        {name: first[name] for name in names},
        {name: second[name] for name in names},
        a.users,
        seed=seed,
    )


def run(a: Path, b: Path, /, *, seed: int = 0) -> str:
    """Is run B better than run A? Paired by case, history removed; a Markdown table.

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
