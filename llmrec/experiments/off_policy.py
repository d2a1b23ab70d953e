r"""What a policy that was never shown would have earned, from a log of another one.

With reward :math:`r`, the logging probability :math:`p` of what was shown and the target's
:math:`\pi`, weights are :math:`w = \pi / p`, clipped at a bound that every estimate states:

* IPS :math:`\frac1n \sum w r` (Horvitz & Thompson, JASA 1952);
* SNIPS :math:`\sum w r / \sum w` (Swaminathan & Joachims, NeurIPS 2015): less variance, a small
  bias;
* doubly robust :math:`\frac1n \sum \left(\hat q(x, \pi) + w (r - \hat q(x, a))\right)` (Dudik,
  Langford & Li, ICML 2011): right if either the probabilities or the model are.

Without a clipped weight IPS and doubly robust are unbiased. The default bound is
:math:`\sqrt n` (Ionides, *Truncated importance sampling*, 2008), which vanishes as the log grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from llmrec.errors import DataError

_Z = 1.959964  # of a 95% interval
_PRIOR = 20.0  # lists at the overall mean that every group begins with
FOLDS = 5


@dataclass(frozen=True)
class BanditLog:
    """What was shown and what came of it, with what a target policy would have shown.

    Attributes:
        reward: float ``[n]``.
        propensity: float ``[n]`` in (0, 1], probability with which the log showed this.
        target: float ``[n]`` in [0, 1], probability with which the target would have.
        group: int ``[n]``, kind of what was shown; rewards of a kind are alike.
        target_groups: float ``[n, groups]``, probability with which the target shows each kind; or
            ``[contexts, groups]`` with ``context``.
        context: int ``[n]``, row of ``target_groups``; None: each its own.
    """

    reward: np.ndarray
    propensity: np.ndarray
    target: np.ndarray
    group: np.ndarray
    target_groups: np.ndarray
    context: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.reward):
            raise DataError("off-policy: the log is empty")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():  # NaN is not
            raise DataError("off-policy: a propensity is not in (0, 1]")
        if not ((self.target >= 0) & (self.target <= 1)).all():
            raise DataError("off-policy: a probability of the target is not in [0, 1]")


@dataclass(frozen=True)
class Estimate:
    """The mean reward of the target policy.

    Attributes:
        interval: 95%, of a normal distribution.
    """

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class OffPolicy:
    """All estimates of one target.

    Attributes:
        logged: mean reward of the policy that was shown.
        clip: the largest weight.
        clipped: share of the weights that were above it.
        effective: rows of the target's own that would say as much (Kish).
        rows: of the log.
    """

    logged: Estimate
    ips: Estimate
    snips: Estimate
    doubly_robust: Estimate
    clip: float
    clipped: float
    effective: float
    rows: int


def estimate(log: BanditLog, clip: float | None = None, seed: int = 0) -> OffPolicy:
    """Estimate what the target would have earned.

    Args:
        clip: the largest weight; None for the square root of the number of rows.
        seed: draws the folds of the reward model.
    """
    rows = len(log.reward)
    clip = math.sqrt(rows) if clip is None else clip
    raw = log.target / log.propensity
    weight = np.minimum(raw, clip)
    shown, expected = _reward_model(log, seed)
    robust = expected + weight * (log.reward - shown)
    total = weight.sum()
    return OffPolicy(
        logged=_mean(log.reward),
        ips=_mean(weight * log.reward),
        snips=_self_normalised(weight, log.reward),
        doubly_robust=_mean(robust),
        clip=clip,
        clipped=float((raw > clip).mean()),
        effective=float(total**2 / np.square(weight).sum()) if total else 0.0,
        rows=rows,
    )


def _mean(values: np.ndarray) -> Estimate:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return _estimate(float(values.mean()), error)


def _self_normalised(weight: np.ndarray, reward: np.ndarray) -> Estimate:
    """SNIPS with the error of the delta method; 0 +- infinity where no weight is left."""
    total = float(weight.sum())
    if not total:
        return _estimate(0.0, math.inf)
    value = float(weight @ reward) / total
    return _estimate(value, math.sqrt(float(np.square(weight * (reward - value)).sum())) / total)


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(value, (value - _Z * error, value + _Z * error))


def _reward_model(log: BanditLog, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted reward of what was shown and of what the target shows, float ``[n]`` each.

    A row's prediction is the mean of its group in the other folds, drawn towards that of all.
    """
    rows, groups = len(log.reward), log.target_groups.shape[1]
    fold = np.random.default_rng(seed).permutation(rows) % FOLDS
    shown, expected = np.zeros(rows), np.zeros(rows)
    for number in range(FOLDS):
        own, others = fold == number, fold != number
        group, reward = log.group[others], log.reward[others]
        usual = float(reward.mean()) if len(reward) else 0.0
        seen = np.bincount(group, minlength=groups)
        mean = (np.bincount(group, reward, groups) + _PRIOR * usual) / (seen + _PRIOR)
        shown[own] = mean[log.group[own]]
        if log.context is None:
            expected[own] = log.target_groups[own] @ mean
        else:
            expected[own] = (log.target_groups @ mean)[log.context[own]]
    return shown, expected
