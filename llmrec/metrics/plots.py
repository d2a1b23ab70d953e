"""Pictures of result files, drawn from the figures in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrec.errors import require

# What the horizontal axis of a slice says.
AXIS = {
    "item_popularity": "times the target occurs in training (0: cold)",
    "history_length": "items in the history",
    "days_since_last_event": "days since the last event",
    "name_order": "the target's name against that of the history's last item",
    "basket_size": "items in the next basket",
}


def plot_models(results: Sequence[dict[str, Any]], path: Path, metrics: Sequence[str]) -> Path:
    """Bars with 95% intervals, a panel a metric and a bar a model.

    Args:
        results: of one dataset and split.
        path: the PNG to write.
        metrics: names that every result has.
    """
    names = [result["name"] for result in results]
    size = max(6.4, 1.1 * len(names) * len(metrics)), 4
    with drawing(path, 1, len(metrics), figsize=size, squeeze=False) as panels:
        for panel, metric in zip(panels[0], metrics, strict=True):
            heights = [result["metrics"][metric] for result in results]
            spans = [result.get("intervals", {}).get(metric) for result in results]
            interval_bars(panel, names, heights, spans)
            panel.set_title(metric)
            panel.set_ylim(bottom=0)
            panel.tick_params(axis="x", rotation=30)
    return path


def interval_bars(
    panel: Any,
    names: Sequence[str],
    heights: Sequence[float],
    intervals: Sequence[Sequence[float] | None],
    color: str | Sequence[str] = "tab:blue",
) -> None:
    """Bars, each with its interval where it has one."""
    panel.bar(names, heights, color=color, alpha=0.75)
    for place, interval in enumerate(intervals):
        if interval is not None:
            panel.plot([place, place], interval, color="black", marker="_")


def plot_slices(results: Sequence[dict[str, Any]], name: str, metric: str, path: Path) -> Path:
    """One metric over the buckets of a slice, a line a model, with 95% intervals.

    Args:
        name: of the slice, such as ``item_popularity``.
    """
    labels = bucket_labels(results, name)
    with drawing(path, figsize=(6.8, 4)) as panel:
        for number, result in enumerate(results):
            found = result["slices"][name]
            shift = (number - (len(results) - 1) / 2) * 0.08  # so that intervals do not overlap
            places = [i for i, label in enumerate(labels) if label in found]
            heights = [found[labels[i]]["metrics"][metric] for i in places]
            spans = [found[labels[i]]["intervals"][metric] for i in places]
            xs = [i + shift for i in places]
            line = panel.plot(xs, heights, marker="o", label=result["name"])[0]
            panel.vlines(xs, [s[0] for s in spans], [s[1] for s in spans], color=line.get_color())
        panel.set_xticks(range(len(labels)), labels)
        panel.set_xlabel(AXIS.get(name, name))
        panel.set_ylabel(metric)
        panel.set_ylim(bottom=0)
        panel.legend()
    return path


def bucket_labels(results: Sequence[dict[str, Any]], name: str) -> list[str]:
    """The buckets that any result has, lowest first; named ones as they come.

    >>> bucket_labels([{"slices": {"s": {"50+": {}, "5-9": {}, "0": {}}}}], "s")
    ['0', '5-9', '50+']
    """
    labels = dict.fromkeys(label for result in results for label in result["slices"][name])
    starts = {label: label.rstrip("+").split("-")[0] for label in labels}
    return sorted(labels, key=lambda label: int(starts[label]) if starts[label].isdigit() else 0)


@contextmanager
def drawing(
    path: Path, rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any
) -> Iterator[Any]:
    """Axes to draw on; what is drawn is written as a PNG in the end, its folder made.

    Args:
        figsize: inches.
        options: of ``Figure.subplots``.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "eval").Figure(figsize=figsize)
    yield figure.subplots(rows, columns, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
