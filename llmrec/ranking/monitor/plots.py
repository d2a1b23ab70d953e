"""The picture of a monitor's report: clicks over time, and drift of each input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec.metrics.plots import drawing
from llmrec.ranking.monitor.drift import DRIFTED, WATCH

MOST_INPUTS = 30  # bars; the worst ones
_COLOURS = {"stable": "tab:green", "watch": "tab:orange", "drifted": "tab:red"}


def plot_report(report: Mapping[str, Any], path: Path) -> Path:
    """Predicted and observed click rates over time, bars of PSI beneath.

    Args:
        report: of :func:`~llmrec.ranking.monitor.report.build_report`.
        path: the PNG to write.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    bars = report["inputs"][:MOST_INPUTS]
    height = 1.2 + 0.28 * len(bars)
    ratios = [3.6, height]
    with drawing(path, 2, 1, figsize=(8, sum(ratios)), height_ratios=ratios) as (top, bottom):
        _draw_clicks(top, report)
        _draw_drift(bottom, bars, report["window"])
    return path


def _draw_clicks(panel: Any, report: Mapping[str, Any]) -> None:
    windows = report["windows"]
    places = range(len(windows))
    panel.plot(places, [one["mean_p"] for one in windows], "o-", ms=4, label="predicted")
    known = [(i, one) for i, one in enumerate(windows) if one["labelled"]]
    if known:
        xs = [i for i, _ in known]
        line = panel.plot(xs, [one["observed"] for _, one in known], "s-", ms=4, label="observed")
        spans = [one["observed_interval"] for _, one in known]
        lows, highs = [low for low, _ in spans], [high for _, high in spans]
        panel.vlines(xs, lows, highs, color=line[0].get_color(), alpha=0.6)
    step = max(1, -(-len(windows) // 12))  # a label a window would be unreadable
    panel.set_xticks(places[::step], [one["start"] for one in windows[::step]], rotation=30)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("click rate")
    panel.set_title(f"predicted and observed clicks by {report['window']}")
    panel.legend()


def _draw_drift(panel: Any, bars: list[Mapping[str, Any]], window: str) -> None:
    names = [bar["name"] if len(bar["name"]) <= 30 else f"{bar['name'][:29]}…" for bar in bars]
    heights = [bar["psi"] for bar in bars]
    panel.barh(range(len(bars)), heights, color=[_COLOURS[bar["state"]] for bar in bars])
    latest = [(i, bar["latest_psi"]) for i, bar in enumerate(bars) if bar["latest_psi"] is not None]
    if latest:
        panel.plot([psi for _, psi in latest], [i for i, _ in latest], "kd", ms=5)
        heights += [psi for _, psi in latest]
    panel.set_yticks(range(len(bars)), names)
    panel.invert_yaxis()
    for limit, style in ((WATCH, ":"), (DRIFTED, "--")):
        panel.axvline(limit, color="black", linestyle=style, linewidth=1)
    panel.set_xlim(right=max(1.1 * max(heights), 1.2 * DRIFTED), left=0)
    title = "drift of inputs (PSI)"
    panel.set_title(f"{title}; diamonds: the latest {window}" if latest else title)
    panel.set_xlabel(f"dotted: {WATCH}, worth watching; dashed: {DRIFTED}, drifted")
