"""The page and the plot of ``llmrec bench prefer``, made from its result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.bench.report import table, write_page
from llmrec.metrics.plots import drawing, interval_bars

_COLUMNS = {
    "run": "run",
    "total": "reward",
    "total_span": "against supervised, 95%",
    "ndcg@10": "NDCG@10",
    "ndcg@10_span": "against supervised, 95%",
    "stock": "in stock",
    "price": "usual price",
    "valid": "items",
    "train_seconds": "s",
    "peak_mib": "peak memory, MiB",
}
_PANELS = {"total": "reward", "ndcg@10": "NDCG@10", "stock": "in stock", "price": "usual price"}


def write_preference_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write ``NAME.md`` and ``NAME.png``; the path of the page."""
    name, rewards = result["name"], result["settings"]["rewards"]
    weights = ", ".join(
        f"{key} {rewards[key]:g}" for key in ("hit", "rank", "stock", "price") if rewards[key]
    )
    lines = [f"# Preference tuning: {result['dataset']}", ""]
    lines += [
        f"{result['model']}; {result['cases']:,} test cases, ten items each, the history removed. "
        f"The reward of an item is the weighted sum of its parts ({weights}); figures are means "
        "over the ten. The last two shares are of items that keep a rule.",
        "",
    ]
    lines += table([_cells(row) for row in result["rows"]], _COLUMNS)
    lines += ["", f"![differences to the supervised adapter]({name}.png)", ""]
    _plot(result["rows"], out / f"{name}.png")
    return write_page(out / f"{name}.md", lines, result)


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    spans = {}
    for metric in ("total", "ndcg@10"):
        if f"range_{metric}" in row:
            low, high = row[f"range_{metric}"]
            spans[f"{metric}_span"] = f"{low:+.4f} to {high:+.4f}"
    return dict.fromkeys(_COLUMNS) | dict(row) | spans


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """What each run changes, with 95% intervals: a panel a metric."""
    with drawing(path, 1, len(_PANELS), figsize=(11, 3.4)) as panels:
        runs = [row for row in rows if "range_total" in row]
        for panel, (metric, label) in zip(panels, _PANELS.items(), strict=True):
            values, spans = ([row[f"{key}_{metric}"] for row in runs] for key in ("gain", "range"))
            interval_bars(panel, [row["run"] for row in runs], values, spans)
            panel.axhline(0, color="black", linewidth=0.8)
            panel.set_title(label)
        panels[0].set_ylabel("difference to supervised")
