"""How sure is a mean: bootstrap intervals, and paired comparison of two runs.

Users are resampled, not cases: the cases of one user are not independent. Where every
user has one case (leave-one-out) this is the ordinary bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_BLOCK = 1 << 22  # numbers held at once, so memory does not grow with the resamples


@dataclass(frozen=True)
class PairedDifference:
    """Run b minus run a on the same cases.

    Attributes:
        interval: 95% percentile interval of the difference, from a paired bootstrap.
        p_value: two-sided, from a sign-flip permutation test.
    """

    metric: str
    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    cases: int


def bootstrap_means(
    values: np.ndarray, users: np.ndarray | None = None, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Means of resampled cases.

    Args:
        values: float ``[cases, metrics]``.
        users: int ``[cases]``, who is resampled; None takes every case as its own user.

    Returns:
        float64 ``[resamples, metrics]``.

    >>> bootstrap_means(np.ones((5, 2)), resamples=3).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    sums, sizes = _by_user(values, users)
    totals = np.column_stack([sums, sizes])
    all_totals = np.concatenate(
        [times @ totals for times in draw_counts(len(sums), resamples, seed)]
    )
    return all_totals[:, :-1] / all_totals[:, -1:]


def draw_counts(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of float64 ``[some, n]``: how often each of n users is in a resample."""
    rng = np.random.default_rng(seed)
    for count in _blocks(resamples, n):
        draws = rng.integers(0, n, size=(count, n)) + np.arange(count)[:, None] * n
        times = np.bincount(draws.ravel(), minlength=count * n)
        yield times.reshape(count, n).astype(np.float64)


def intervals(
    values: Mapping[str, np.ndarray],
    users: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, list[float]]:
    """Percentile interval of every metric's mean.

    Args:
        values: metric name to float ``[cases]``.
        level: the interval's coverage.

    >>> intervals({"recall@10": np.array([1.0, 1.0, 1.0])})
    {'recall@10': [1.0, 1.0]}
    """
    means = bootstrap_means(np.column_stack(list(values.values())), users, resamples, seed)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return {name: [float(a), float(b)] for name, a, b in zip(values, low, high, strict=True)}


def sign_flip_p_value(
    differences: np.ndarray,
    users: np.ndarray | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of "the two runs are exchangeable" on paired differences.

    Under that hypothesis each user's difference is as likely to have the other sign. The
    observed order counts as one permutation, so the value is never 0.

    Args:
        differences: float ``[cases]``.

    >>> sign_flip_p_value(np.zeros(4))
    1.0
    """
    sums, _ = _by_user(np.asarray(differences, dtype=np.float64)[:, None], users)
    moved = sums[sums[:, 0] != 0, 0]  # a zero has no sign to flip
    if not len(moved):
        return 1.0
    # rounding must not decide whether a permutation reaches the observed sum
    observed = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    rng = np.random.default_rng(seed)
    reached = 0
    for count in _blocks(permutations, len(moved)):
        signs = rng.integers(0, 2, size=(count, len(moved)), dtype=np.int8) * 2.0 - 1.0
        reached += int(np.count_nonzero(np.abs(signs @ moved) >= observed))
    return (1 + reached) / (1 + permutations)


def compare(
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    users: np.ndarray | None = None,
    resamples: int = 1000,
    permutations: int = 10_000,
    seed: int = 0,
) -> list[PairedDifference]:
    """Compare two runs, metric by metric, on the same cases in the same order.

    Args:
        a, b: metric name to float ``[cases]``; metrics that only one of them has are left out.
    """
    names = [name for name in a if name in b]
    differences = {name: b[name] - a[name] for name in names}
    spans = intervals(differences, users, resamples, seed)
    return [
        PairedDifference(
            metric=name,
            a=float(a[name].mean()),
            b=float(b[name].mean()),
            difference=float(differences[name].mean()),
            interval=(spans[name][0], spans[name][1]),
            p_value=sign_flip_p_value(differences[name], users, permutations, seed),
            cases=len(differences[name]),
        )
        for name in names
    ]


def _by_user(values: np.ndarray, users: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums ``[users, metrics]`` and numbers of cases ``[users]``."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError("no cases to resample")
    if users is None:
        return values, np.ones(len(values))
    _, owner = np.unique(users, return_inverse=True)
    sums = np.column_stack([np.bincount(owner, weights=column) for column in values.T])
    return sums, np.bincount(owner).astype(np.float64)


def _blocks(total: int, width: int) -> Iterator[int]:
    """Split ``total`` rows of ``width`` numbers into blocks of bounded size."""
    size = max(1, _BLOCK // max(width, 1))
    for start in range(0, total, size):
        yield min(size, total - start)
