"""Which calibration method do the rows at hand support? Cross-validation decides.

Folds are made of whole users or impressions, so that none is on both sides. Methods are compared by
their out-of-fold log loss. A more complicated method must be better by more
than chance: of all methods whose loss is within one standard error of the least one, the error
being that of the paired difference summed by group, the simplest is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmrec.errors import ConfigError, DataError
from llmrec.metrics.click_metrics import ece, row_losses
from llmrec.ranking.calibration.calibrator import (
    LEAST_ROWS,
    Calibrator,
    check_fields,
    check_rows,
    fit_method,
    with_figures,
)
from llmrec.ranking.calibration.methods import METHODS


@dataclass(frozen=True)
class MethodScore:
    """A method on out-of-fold rows.

    Attributes:
        log_loss: mean, in nats.
        above_best: its log loss minus the least one.
        standard_error: of ``above_best``.
        ece: over 20 bins of equal mass.
    """

    method: str
    log_loss: float
    above_best: float
    standard_error: float
    ece: float


@dataclass(frozen=True)
class CalibrationChoice:
    """The calibrator to use, fitted on all rows, and how the methods compared.

    Attributes:
        scores: simplest method first; empty where nothing could be compared.
    """

    calibrator: Calibrator
    scores: tuple[MethodScore, ...] = ()

    def table(self) -> str:
        """The comparison as Markdown, the chosen method in bold."""
        lines = [
            "| method | log loss | above the best | standard error | ECE |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for score in self.scores:
            chosen = score.method == self.calibrator.name
            lines.append(
                f"| {f'**{score.method}**' if chosen else score.method} | {score.log_loss:.5f} "
                f"| {score.above_best:.5f} | {score.standard_error:.5f} | {score.ece:.4f} |"
            )
        return "\n".join(lines)


def choose(
    logits: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    fields: Mapping[str, np.ndarray] | None = None,
    methods: Sequence[str] = METHODS,
    folds: int = 2,
    seed: int = 0,
) -> CalibrationChoice:
    """Compare methods on validation rows, take one, fit it on all of them.

    Args:
        logits: float ``[n]`` of the click model.
        labels: float ``[n]`` of 0 and 1.
        groups: int ``[n]``, users or impressions: rows of one are in one fold.
        fields: name to int ``[n]``, -1 unknown; ``per-field`` is tried with each.
        methods: some of :data:`llmrec.ranking.calibration.methods.METHODS`, or ``per-field:FIELD``.
        folds: at least 2.

    Returns:
        the choice. With fewer than 50 rows it is the identity, and where every label is the same,
        p held at ``(k + 1) / (n + 2)``; a note says so and there are no scores.

    Raises:
        DataError: as :func:`~llmrec.ranking.calibration.calibrator.fit`, and with fewer groups than
        folds. ConfigError: for an unknown method or field, no method, or fewer than 2 folds.
    """
    logits, labels = check_rows(logits, labels)
    checked = check_fields(fields, len(logits))
    names = _names(methods, checked)
    if folds < 2:
        raise ConfigError(f"folds={folds}: at least 2 are needed to have out-of-fold rows")
    if len(logits) < LEAST_ROWS:
        return CalibrationChoice(Calibrator.of_too_few(len(logits)))
    if labels.min() == labels.max():
        # any method but "none" then gives the same
        calibrator = fit_method(names[-1], logits, labels, checked)
        after = calibrator.apply(logits, checked)
        return CalibrationChoice(with_figures(calibrator, logits, labels, after, False))
    groups = np.asarray(groups)
    if groups.shape != logits.shape:
        raise DataError(f"groups have shape {groups.shape}, logits {logits.shape}")
    fold, owner = _folds(groups, folds, seed)
    unseen = {name: _out_of_fold(name, logits, labels, checked, fold) for name in names}
    scores = _scores(unseen, labels, owner)
    best = next(score for score in scores if score.above_best <= score.standard_error)
    calibrator = fit_method(best.method, logits, labels, checked)
    calibrator = with_figures(calibrator, logits, labels, unseen[best.method], True)
    return CalibrationChoice(replace(calibrator, note=_note(scores, best)), scores)


def _names(methods: Sequence[str], fields: Mapping[str, np.ndarray]) -> list[str]:
    """Simplest first, ``per-field`` once for each field."""
    if not methods:
        raise ConfigError("methods: none is named; name at least one")
    names: list[str] = []
    for name in methods:
        known = name.partition(":")[0]
        if known not in METHODS:
            raise ConfigError(f"no calibration method {name!r}; there is {', '.join(METHODS)}")
        names += [f"per-field:{field}" for field in fields] if name == "per-field" else [name]
    if not names:
        raise ConfigError("methods: per-field alone needs a field; give fields")
    return sorted(dict.fromkeys(names), key=lambda name: METHODS.index(name.partition(":")[0]))


def _folds(groups: np.ndarray, folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The fold of each row, and its group without gaps; int64 ``[n]`` each."""
    present, owner = np.unique(groups, return_inverse=True)
    if len(present) < folds:
        raise DataError(
            f"{len(present)} group(s) cannot be parted into {folds} folds; "
            "give the rows of more users"
        )
    dealt = np.random.default_rng(seed).permutation(len(present)) % folds
    return dealt[owner], owner


def _out_of_fold(
    name: str,
    logits: np.ndarray,
    labels: np.ndarray,
    fields: Mapping[str, np.ndarray],
    fold: np.ndarray,
) -> np.ndarray:
    """Probabilities ``[n]``, each from a fit on the other folds."""
    p = np.empty(len(logits))
    for own in range(int(fold.max()) + 1):
        out, rest = fold == own, fold != own
        inside = {key: values[rest] for key, values in fields.items()}
        calibrator = fit_method(name, logits[rest], labels[rest], inside)
        p[out] = calibrator.apply(logits[out], {key: values[out] for key, values in fields.items()})
    return p


def _scores(
    unseen: Mapping[str, np.ndarray], labels: np.ndarray, owner: np.ndarray
) -> tuple[MethodScore, ...]:
    losses = {name: row_losses(labels, p) for name, p in unseen.items()}
    means = {name: float(loss.mean()) for name, loss in losses.items()}
    best = min(means, key=lambda name: means[name])
    scores = []
    for name, loss in losses.items():
        gap = loss - losses[best]
        # rows of a group are not independent: their deviations are summed before squaring
        by_group = np.bincount(owner, weights=gap - gap.mean())
        error = float(np.sqrt((by_group**2).sum())) / len(labels)
        gap_mean = means[name] - means[best]
        scores.append(MethodScore(name, means[name], gap_mean, error, ece(labels, unseen[name])))
    return tuple(scores)


def _note(scores: Sequence[MethodScore], chosen: MethodScore) -> str:
    if chosen.above_best == 0:
        return f"{chosen.method} has the least log loss of {len(scores)} methods"
    best = next(score for score in scores if score.above_best == 0)
    return (
        f"{chosen.method} is the simplest method within a standard error of {best.method}, "
        "which has the least log loss"
    )
