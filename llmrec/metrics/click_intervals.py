"""How sure is a click metric: 95% intervals, and paired differences between models.

Whole users are resampled (a cluster bootstrap), because the rows of one user are not
independent, and with them the trainings of a model, where there are several seeds. A resample is a
number of times each user was drawn, so that nothing is copied:
every metric but AUC is a ratio of sums over users, which are taken once, and AUC keeps one sort
and changes weights. 150,000 rows, 5 models and 1,000 resamples are seconds on one core.

In a resample the bins of ECE stay those of the whole sample. A resample also adds chance to
chance, so that its ECE lies above that of the sample: the spread of the resamples is moved to
lie around the value. A resample without clicked or without unclicked rows has no AUC and no
entropy, and does not count for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from llmrec.errors import DataError
from llmrec.metrics.bootstrap import draw_counts
from llmrec.metrics.click_metrics import (
    auc_of,
    entropy,
    equal_mass_bins,
    group_aucs,
    row_losses,
)
from llmrec.metrics.click_pairs import Pairs, check_probabilities

METRICS = ("auc", "gauc", "log_loss", "ne", "ece")
ECE_BINS = 20


class Interval(NamedTuple):
    """A figure with its 95% percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Model:
    """What of one model's predictions is kept for resampling.

    Attributes:
        sums: float64 ``[users, 5 + bins]``: rows, clicks, log loss, GAUC's rows times AUC,
            GAUC's rows; then predicted minus observed clicks of each bin of ECE.
        negatives, positives: int64, the user of each row in the order of ``pairs``.
    """

    sums: np.ndarray
    pairs: Pairs
    negatives: np.ndarray
    positives: np.ndarray

    def measure(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric of some resamples.

        Args:
            times: float64 ``[resamples, users]``, how often each user was drawn.

        Returns:
            float64 ``[resamples]`` by metric; NaN where it is undefined.
        """
        totals = times @ self.sums
        rows, clicks, loss, won, counted = totals[:, :5].T
        with np.errstate(divide="ignore", invalid="ignore"):
            log_loss = loss / rows
            return {
                "auc": np.array(
                    [auc_of(self.pairs, w[self.negatives], w[self.positives]) for w in times]
                ),
                "gauc": won / counted,
                "log_loss": log_loss,
                "ne": log_loss / entropy(clicks / rows),
                "ece": np.abs(totals[:, 5:]).sum(axis=1) / rows,
            }


@dataclass(frozen=True, eq=False)
class ClickBootstrap:
    """Click metrics of several models on the rows, and on resamples of them.

    Attributes:
        values: name of a model to metric to its value.
        drawn: name of a model to metric to float64 ``[resamples]``, NaN where it is undefined.
    """

    values: dict[str, dict[str, float]]
    drawn: dict[str, dict[str, np.ndarray]]

    def intervals(self, name: str) -> dict[str, Interval]:
        """AUC, GAUC, log loss, normalized entropy and ECE of a model."""
        value, drawn = self.values[name], self.drawn[name]
        moved = np.maximum(drawn["ece"] + (value["ece"] - drawn["ece"].mean()), 0)
        return {m: _interval(value[m], moved if m == "ece" else drawn[m]) for m in METRICS}

    def differences(self, name: str, base: str) -> dict[str, Interval]:
        """A model minus ``base``, both measured on the same resamples.

        Returns:
            ``auc``, ``gauc`` and ``log_loss`` (differences) and ``auc_gain_percent``, which is
            ``100 * (auc / auc of base - 1)``.
        """
        value, value_b = self.values[name], self.values[base]
        drawn, drawn_b = self.drawn[name], self.drawn[base]
        found = {
            metric: _interval(value[metric] - value_b[metric], drawn[metric] - drawn_b[metric])
            for metric in ("auc", "gauc", "log_loss")
        }
        with np.errstate(divide="ignore", invalid="ignore"):
            gains = 100 * (drawn["auc"] / drawn_b["auc"] - 1)
        gain = 100 * (value["auc"] / value_b["auc"] - 1) if value_b["auc"] else np.inf
        return found | {"auc_gain_percent": _interval(gain, gains)}


def bootstrap(
    labels: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    users: np.ndarray,
    groups: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> ClickBootstrap:
    """Measure models on all rows and on resamples of users and of trainings.

    Args:
        labels: float ``[n]`` of 0 and 1.
        predictions: name of a model to its probabilities, float ``[n]``, or ``[trainings, n]`` of
            trainings that differ in their seed: the model's value is the mean over them, and a
            resample draws as many of them with replacement.
        users: int ``[n]``, who is resampled whole.
        groups: int ``[n]``, GAUC's groups, each of one user: the users again, or their lists.

    Raises:
        DataError: if the arrays do not fit, a group holds rows of several users, every label is
            the same, or no group has both labels.
    """
    if not predictions:
        raise DataError("there is no model to measure")
    owner = _owners(users, groups, len(np.asarray(labels)))
    models = {
        name: [_model(labels, training, owner, groups) for training in np.atleast_2d(p)]
        for name, p in predictions.items()
    }
    n_users = int(owner.max()) + 1
    values = {name: _mean(trainings, np.ones((1, n_users))) for name, trainings in models.items()}
    for name, value in values.items():
        undefined = [metric for metric in METRICS if np.isnan(value[metric][0])]
        if undefined:
            raise DataError(
                f"{undefined[0]} of {name} is undefined: it needs clicked and unclicked rows"
                + (" in one group" if undefined[0] == "gauc" else "")
            )
    chosen = {name: _drawn_trainings(name, len(m), resamples, seed) for name, m in models.items()}
    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in models}
    done = 0
    for times in draw_counts(n_users, resamples, seed):
        for name, trainings in models.items():
            rows = chosen[name][done : done + len(times)]
            parts[name].append(_mean(trainings, times, rows))
        done += len(times)
    return ClickBootstrap(
        {name: {m: float(value[m][0]) for m in METRICS} for name, value in values.items()},
        {
            name: {m: np.concatenate([part[m] for part in found]) for m in METRICS}
            for name, found in parts.items()
        },
    )


def _drawn_trainings(name: str, trainings: int, resamples: int, seed: int) -> np.ndarray:
    """int64 ``[resamples, trainings]``: which trainings of a model each resample has."""
    rng = np.random.default_rng([seed, *name.encode()])
    return rng.integers(trainings, size=(resamples, trainings))


def _mean(
    trainings: list[_Model], times: np.ndarray, chosen: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every metric of some resamples, the mean over trainings: float64 ``[resamples]``.

    Args:
        chosen: int64 ``[resamples, trainings]``, which ones; None for each once.
    """
    found = [training.measure(times) for training in trainings]
    means = {}
    for metric in METRICS:
        values = np.stack([one[metric] for one in found], axis=1)
        if chosen is not None:
            values = np.take_along_axis(values, chosen, axis=1)
        means[metric] = values.mean(axis=1)
    return means


def _owners(users: np.ndarray, groups: np.ndarray, rows: int) -> np.ndarray:
    """Users as int64 ``[n]`` without gaps; every group must be of one of them."""
    users, groups = np.asarray(users), np.asarray(groups)
    for name, values in (("users", users), ("groups", groups)):
        if values.shape != (rows,):
            raise DataError(f"{name} has shape {values.shape}, labels have ({rows},)")
    if not rows:
        raise DataError("there are no rows to measure")
    owner = np.unique(users, return_inverse=True)[1]
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    shared = np.flatnonzero(owner != owner[first[group]])
    if len(shared):
        raise DataError(
            f"row {shared[0]}: group {groups[shared[0]]} holds rows of several users; "
            "give groups that lie within a user, such as the users or their lists"
        )
    return owner


def _model(labels: np.ndarray, p: np.ndarray, owner: np.ndarray, groups: np.ndarray) -> _Model:
    labels, p, ones = check_probabilities(labels, p, None)
    n_users = int(owner.max()) + 1

    def per_user(values: np.ndarray, of: np.ndarray = owner) -> np.ndarray:
        return np.bincount(of, weights=values, minlength=n_users)

    aucs, sizes, row = group_aucs(labels, p, groups)
    bins = equal_mass_bins(p, ECE_BINS)
    n_bins = int(bins.max()) + 1
    gaps = np.bincount(owner * n_bins + bins, weights=p - labels, minlength=n_users * n_bins)
    sums = [per_user(ones), per_user(labels), per_user(row_losses(labels, p))]
    sums += [per_user(sizes * aucs, owner[row]), per_user(sizes, owner[row])]
    pairs = Pairs.of(labels, p, np.zeros(len(p), dtype=np.int64))
    return _Model(
        np.column_stack([*sums, gaps.reshape(n_users, n_bins)]),
        pairs,
        owner[pairs.negatives],
        owner[pairs.positives],
    )


def _interval(value: float, drawn: np.ndarray) -> Interval:
    """The middle 95% of the resamples in which the metric is defined."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        raise DataError(
            "no resample has clicked and unclicked rows; there are too few users for an interval"
        )
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high))
