"""How far the shares of an input's values have moved: the population stability index (PSI)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

WATCH = 0.1
DRIFTED = 0.25
RULE = (
    f"PSI below {WATCH} is stable, from {WATCH} on worth watching, from {DRIFTED} on drifted; one "
    "that rows drawn without any drift exceed once in 20 times only by chance counts as stable"
)
_CHANCE = 0.05  # of rows without drift above the limit


@dataclass(frozen=True)
class Drift:
    """One input of a log against the reference.

    Attributes:
        psi: sum over bins of ``(b - a) * ln(b / a)``, a and b the shares in reference and log.
        by_chance: what PSI stays below 19 times in 20 when nothing has drifted.
        state: ``stable``, ``watch`` or ``drifted``.
        moved: the bin that adds most to PSI.
        share_before, share_now: its shares.
    """

    name: str
    psi: float
    by_chance: float
    state: str
    moved: str
    share_before: float
    share_now: float


def compare(name: str, labels: list[str], before: np.ndarray, now: np.ndarray) -> Drift:
    """Compare counts of bins with those of the reference.

    Args:
        labels: what to call each bin.
        before, now: int ``[bins]``, at least one row in each.
    """
    before, now = np.asarray(before, np.float64), np.asarray(now, np.float64)
    parts = psi_parts(before, now)
    total, chance = float(parts.sum()), psi_by_chance(before, now)
    state = "stable"
    if total >= WATCH and total > chance:
        state = "drifted" if total >= DRIFTED else "watch"
    most = int(parts.argmax())
    shares = float(before[most] / before.sum()), float(now[most] / now.sum())
    return Drift(name, total, chance, state, labels[most], *shares)


def psi_parts(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """What each bin adds to PSI, float64 ``[bins]``.

    Half a row is added to every bin that either has rows in, so that an empty one does not make
    the index infinite, and makes it the smaller the fewer rows there are.

    >>> float(psi_parts(np.array([500, 500.0]), np.array([50, 50.0])).sum())
    0.0
    """
    used = (before + now) > 0
    a, b = (np.where(used, counts + 0.5, 1) for counts in (before, now))
    a, b = a / a[used].sum(), b / b[used].sum()
    return np.where(used, (b - a) * np.log(b / a), 0.0)


def psi_by_chance(before: np.ndarray, now: np.ndarray) -> float:
    """The 95% point of PSI between two samples of the same rows.

    It is about ``(1 / n + 1 / m)`` times chi-squared with one degree of freedom less than bins
    (Yurdakul 2018). Rows that depend on each other, such as a user's, exceed it more often.
    """
    freedom = int(((before + now) > 0).sum()) - 1
    if freedom < 1:
        return 0.0
    return float(chdtri(freedom, _CHANCE) * (1 / before.sum() + 1 / now.sum()))
