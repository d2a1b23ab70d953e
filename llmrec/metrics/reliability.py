"""The picture of calibration: predicted against observed click rates, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import DataError
from llmrec.metrics.click_metrics import Reliability, ece, reliability
from llmrec.metrics.plots import drawing

RARE = 0.2  # where every bin's mean probability is below, both axes are logarithmic
_HISTOGRAM = 40  # bins of the histogram
_COLOURS = ("tab:orange", "tab:blue", "tab:green", "tab:purple")


def plot_reliability(
    labels: np.ndarray, predictions: Mapping[str, np.ndarray], path: Path, bins: int = 20
) -> Path:
    """Reliability diagram of one or more predictions of the same rows.

    Points are bins of equal mass with the 95% Wilson interval of their click rate; on the dashed
    line a prediction can be taken literally. Beneath: how many rows were given which probability.
    Where all bins are below 0.2, as in most click logs, axes are logarithmic and end at the outer
    bins; a bin without a click then has only its interval.

    Args:
        labels: float ``[n]`` of 0 and 1.
        predictions: a name such as ``before`` to its probabilities, float ``[n]``.
        path: the PNG to write.

    Raises:
        DataError: for arrays that do not fit, or no prediction.
        MissingExtraError: if matplotlib is not installed.
    """
    if not predictions:
        raise DataError("a reliability diagram needs a prediction; none was given")
    tables = {name: reliability(labels, p, bins) for name, p in predictions.items()}
    rare = all(table.mean_p.max() < RARE for table in tables.values())
    low, high = _span(tables, rare)
    edges = np.geomspace(low, high, _HISTOGRAM + 1) if rare else np.linspace(low, high, 41)
    shape: dict[str, Any] = {"figsize": (6.2, 7.2), "sharex": True, "height_ratios": [4, 1]}
    with drawing(path, 2, 1, **shape) as (top, bottom):
        top.plot([low, high], [low, high], color="grey", linestyle="--", linewidth=1)
        for number, (name, table) in enumerate(tables.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            error = ece(labels, predictions[name], bins)
            _draw(top, table, f"{name} (ECE {error:.4f})", colour, rare)
        for number, p in enumerate(predictions.values()):
            colour = _COLOURS[number % len(_COLOURS)]
            bottom.hist(np.clip(p, low, high), edges, histtype="step", color=colour)
        if rare:
            top.set(xscale="log", yscale="log")
        top.set(xlim=(low, high), ylim=(low, high), ylabel="observed click rate")
        top.legend(loc="upper left")
        bottom.set(xlabel="predicted click probability", ylabel="rows")
    return path


def _draw(panel: Any, table: Reliability, name: str, colour: str, rare: bool) -> None:
    """Points joined by a line, with their intervals."""
    shown = table.mean_label > 0 if rare else np.ones(len(table.count), dtype=bool)
    panel.plot(
        table.mean_p[shown], table.mean_label[shown], "o-", color=colour, label=name, ms=4, lw=1
    )
    panel.vlines(table.mean_p, table.low, table.high, color=colour, alpha=0.5)


def _span(tables: Mapping[str, Reliability], rare: bool) -> tuple[float, float]:
    """Both axes' limits: [0, 1], or around all bins where these are drawn logarithmically."""
    if not rare:
        return 0.0, 1.0
    rates = [(table.mean_p, table.mean_label) for table in tables.values()]
    values = np.concatenate([np.concatenate(pair) for pair in rates])
    highest = max(values.max(), max(table.high.max() for table in tables.values()))
    lowest = values[values > 0].min() if (values > 0).any() else highest / 10
    return float(lowest / 1.5), float(min(highest * 1.2, 1))
