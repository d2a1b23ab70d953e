"""Figures of ``llmrec bench ctr`` on the test part: calibrated on validation, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from llmrec.bench.ctr_variants import FULL, Trained
from llmrec.metrics.click_intervals import Interval, bootstrap
from llmrec.metrics.click_metrics import FIELD_ROWS, field_calibration_error
from llmrec.metrics.reliability import plot_reliability
from llmrec.ranking.calibration.choosing import choose
from llmrec.ranking.ctr.impression_log import ImpressionRows

GAINS = {
    "no_captions": "caption",
    "no_time": "time",
    "no_engagement": "engagement",
    "no_user_attributes": "user_attribute",
    "no_media": "media",
}
_RAW = "raw"  # the full model, not calibrated


def click_figures(
    methods: tuple[str, ...],
    models: Mapping[str, list[Trained]],
    rows: Mapping[str, ImpressionRows],
    seed: int,
    resamples: int,
    plot: Path,
) -> tuple[dict[str, float], dict[str, list[float]], list[dict[str, Any]]]:
    """Calibrate every training on validation and measure it on test.

    Args:
        methods: of calibration, to choose from.
        models: name of a variant to its trainings.
        rows: of the ``validation`` and the ``test`` part.
        plot: the PNG to write, the reliability of the full model.

    Returns:
        metrics and their intervals, and a row a model. ``METRIC_over_NAME`` is the full model less
        another one; ``PART_auc_gain_percent`` what its AUC is above that of the model without.
    """
    validation, test = rows["validation"], rows["test"]
    predictions: dict[str, np.ndarray] = {}
    calibrators: dict[str, list[str]] = {}
    known = (validation.click, validation.people, validation.fields, methods)
    for name, trainings in models.items():
        chosen = [choose(one.validation, *known, seed=seed).calibrator for one in trainings]
        calibrators[name] = [calibrator.name for calibrator in chosen]
        predictions[name] = np.stack(
            [
                calibrator.apply(training.test, test.fields)
                for calibrator, training in zip(chosen, trainings, strict=True)
            ]
        )
    raw = np.stack([expit(training.test) for training in models[FULL]])
    users = test.people
    found = bootstrap(test.click, predictions | {_RAW: raw}, users, users, resamples, seed)
    metrics: dict[str, float] = {}
    spans: dict[str, list[float]] = {}

    def note(name: str, interval: Interval) -> None:
        metrics[name], spans[name] = interval.value, [interval.low, interval.high]

    for metric, interval in found.intervals(FULL).items():
        note(metric, interval)
    for metric in ("ece", "ne", "log_loss"):
        note(f"{metric}_before", found.intervals(_RAW)[metric])
    for field, values in test.fields.items():
        if np.unique(values, return_counts=True)[1].max() < FIELD_ROWS:
            continue
        for suffix, p in (("", predictions[FULL]), ("_before", raw)):
            errors = [field_calibration_error(test.click, one, values) for one in p]
            metrics[f"{field}_calibration_error{suffix}"] = float(np.mean(errors))
    for name in models:
        if name == FULL:
            continue
        differences = found.differences(FULL, name)
        for metric in ("auc", "log_loss", "gauc"):
            note(f"{metric}_over_{name}", differences[metric])
        if name in GAINS:
            note(f"{GAINS[name]}_auc_gain_percent", differences["auc_gain_percent"])
    plot_reliability(test.click, {"before": raw[0], "after": predictions[FULL][0]}, plot)
    table = [
        {
            "model": name,
            "trainings": len(models[name]),
            "calibrator": ", ".join(dict.fromkeys(calibrators[name])),
            **{metric: list(interval) for metric, interval in found.intervals(name).items()},
        }
        for name in models
    ]
    return metrics, spans, table
