"""The log of a training run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.errors import require


def plot_log(
    log: Sequence[Mapping[str, Any]],
    path: Path,
    panels: Mapping[str, Sequence[str]],
    *,
    x: str = "step",
    mark: float | None = None,
) -> Path:
    """Draw curves of a log, one panel a title, as a PNG.

    Args:
        log: lines of a run. Where they have a ``stage``, steps of a later stage are counted on
            from those before it, and a dotted line marks where it begins.
        panels: title -> names of the values drawn in it; a value that no line has is left out,
            and so is a panel without any.
        x: the horizontal axis, ``step`` or ``epoch``.
        mark: where to draw a dotted line besides, such as the best epoch.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    figures = require("matplotlib.figure", "train")
    starts = _stage_starts(log, x)
    placed = [(line[x] + starts[line.get("stage")], line) for line in log if x in line]
    drawn = {
        title: curves
        for title, names in panels.items()
        if (curves := {n: p for n in names if (p := [(at, e[n]) for at, e in placed if n in e])})
    }
    figure = figures.Figure(figsize=(4.5 * max(len(drawn), 1), 3.6))
    for number, (title, curves) in enumerate(drawn.items(), start=1):
        axes = figure.add_subplot(1, len(drawn), number, title=title, xlabel=x)
        for name, points in curves.items():
            marker = "o" if len(points) < len(placed) / 2 or len(points) < 3 else None
            axes.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=3)
        for at in {*starts.values(), mark} - {0, None}:
            axes.axvline(at, color="tab:gray", linestyle=":")
        if len(curves) > 1:
            axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return path


def _stage_starts(log: Sequence[Mapping[str, Any]], x: str) -> dict[Any, float]:
    """Where each stage of a log begins on the axis of all of them."""
    lengths: dict[Any, float] = {}
    for line in log:
        stage = line.get("stage")
        lengths[stage] = max(lengths.get(stage, 0), line.get(x, 0))
    starts, total = {}, 0.0
    for stage, length in lengths.items():
        starts[stage], total = total, total + length
    return starts
