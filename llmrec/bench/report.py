"""Pages and plots of the benchmarks, made from their result files; no figure is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.metrics.plots import drawing

Result = Mapping[str, Any]
Row = Mapping[str, Any]

_ENGINE_COLUMNS = {
    "engine": "engine",
    "users_per_s": "users/s",
    "p50_ms": "ms a batch",
    "peak_mib": "memory added, MiB",
    "identical_to_reference": "same items as transformers",
    "max_score_difference": "largest score difference",
}
_RETURNING_COLUMNS = {
    "ids": "item IDs",
    "batch": "batch",
    "cold_ms": "cold, ms",
    "warm_ms": "known, ms",
    "speedup": "times faster",
    "speedup_prefill": "reading alone",
    "identical_items": "same items",
}
_TRIE_COLUMNS = {
    "items": "items",
    "build_s": "build, s",
    "peak_mib": "peak of the process, MiB",
    "build_adds_mib": "of it added by building, MiB",
    "bytes_per_item": "bytes an item",
    "save_s": "save, s",
    "load_s": "load, s",
    "step_ms": "a step, ms",
    "trie_ms": "of it the trie, ms",
}


def write_decode_report(result: Result, out: Path) -> Path:
    """Write ``report.md`` and ``decode.png``; the path of the page."""
    _plot_engines(result["rows"], out / "decode.png")
    settings, metrics = result["settings"], result["metrics"]
    lines = ["# Decoding speed", ""]
    lines += [f"{result['model']}; {result['dataset']}.", ""]
    lines += [
        "{batch} users at once, {beams} beams, {n} items a user, {dtype} on {device}, "
        "normalised over {normalise}.".format(**settings),
        "",
    ]
    lines += table(result["rows"], _ENGINE_COLUMNS)
    lines += ["", "![users a second and memory, by engine](decode.png)", ""]
    lines += listed(
        {
            "llmrec_over_transformers": "llmrec is {} times as fast as transformers' generate",
            "llmrec_over_vllm": "llmrec is {} times as fast as vLLM's beam search",
            "llmrec_over_prefill": "llmrec is {} times as fast as reading the prompts alone",
            "peak_over_transformers": "llmrec adds {} times the memory that transformers adds",
            "invalid_items_vllm": "share of vLLM's sequences that are no item: {}",
        },
        metrics,
    )
    if "exact_users" in metrics:
        lines += ["## Exactness", ""]
        lines += listed(
            {
                "exact_users": "users whose exact answer was compared with scoring every item: {}",
                "exact_identical": "share with the same items in the same order: {}",
                "exact_max_score_difference": "largest difference of a score: {}",
                "beam_certified": "share that beam search alone knew to be exact: {}",
                "beam_recall": "share of the true best items that beam search alone found: {}",
            },
            metrics,
        )
    if result.get("returning"):
        lines += ["## Users who come back", ""]
        known = result["returning"][0]["events_known"]
        lines += [f"A history of {known} items that is remembered, and one more.", ""]
        lines += [*table(result["returning"], _RETURNING_COLUMNS), ""]
    return write_page(out / "report.md", lines, result)


def write_trie_report(result: Result, out: Path) -> Path:
    """Write ``report.md`` and ``trie.png``; the path of the page."""
    _plot_sizes(result["rows"], out / "trie.png")
    lines = ["# The catalogue as a trie", "", f"{result['dataset']}; {result['model']}.", ""]
    lines += table(result["rows"], _TRIE_COLUMNS)
    lines += ["", "![building, memory and the cost of a step, by catalogue size](trie.png)", ""]
    lines += listed(
        {"step_ratio": "a step in the largest catalogue costs {} times that in the smallest"},
        result["metrics"],
    )
    return write_page(out / "report.md", lines, result)


def table(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    """Lines of a Markdown table: some keys of the rows, under these headings."""
    lines = [f"| {' | '.join(columns.values())} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    for row in rows:
        lines.append(f"| {' | '.join(shown(row[name]) for name in columns)} |")
    return lines


def shown(value: Any) -> str:
    """A cell: numbers to four digits.

    >>> [shown(v) for v in (None, True, 12101, 1234.5678, 0.0123456)]
    ['-', 'yes', '12,101', '1,235', '0.01235']
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def with_interval(value: float, interval: Sequence[float], form: str = ".4f") -> str:
    """A cell: a figure and its interval.

    >>> with_interval(0.25, [0.2, 0.3], "+.2f")
    '+0.25 (+0.20 to +0.30)'
    """
    low, high = interval
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def listed(sentences: Mapping[str, str], metrics: Mapping[str, float]) -> list[str]:
    """Lines of a Markdown list: a sentence a metric, of those that were measured."""
    found = [f"- {s.format(shown(metrics[m]))}" for m, s in sentences.items() if m in metrics]
    return [*found, ""]


def write_page(path: Path, lines: Sequence[str], result: Result) -> Path:
    """Write a page, the provenance of its figures at the end."""
    machine = result["machine"]
    on = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    on += f", {machine['gpu']}" if machine.get("gpu") else ""
    measured = f"Measured with `{result['command']}` on {on}, {result['date']}."
    text = "\n".join([*lines, measured])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)
    return path


def print_metrics(metrics: Mapping[str, float], intervals: Mapping[str, list[float]]) -> None:
    """A line a metric, with its interval."""
    for name, value in metrics.items():
        low, high = intervals.get(name, (None, None))
        span = "" if low is None else f"  [{low:.4f}, {high:.4f}]"
        print(f"{name:<28} {value:.4f}{span}", flush=True)


def _plot_engines(rows: Sequence[Row], path: Path) -> None:
    """Horizontal bars: users a second, and the memory added beside."""
    names = [row["engine"] for row in rows]
    size = 9, 1.2 + 0.5 * len(rows)
    with drawing(path, 1, 2, figsize=size, sharey=True) as (speed, memory):
        for panel, name, label, color in (
            (speed, "users_per_s", "users a second (log scale)", "tab:blue"),
            (memory, "peak_mib", "memory added by answering, MiB", "tab:orange"),
        ):
            bars = panel.barh(names, [row[name] or 0.0 for row in rows], color=color, alpha=0.75)
            panel.bar_label(bars, [shown(row[name]) for row in rows], padding=3)
            panel.set_xlabel(label)
            panel.margins(x=0.25)
        speed.set_xscale("log")
        speed.invert_yaxis()


def _plot_sizes(rows: Sequence[Row], path: Path) -> None:
    """Building, memory and steps over the number of items."""
    items = [row["items"] for row in rows]
    panels = (
        ("build_s", "build, s", "log"),
        ("peak_mib", "peak memory of building, MiB", "log"),
        ("step_ms", "a decoding step, ms", "linear"),
    )
    with drawing(path, 1, len(panels), figsize=(11, 3.4)) as places:
        for place, (name, label, scale) in zip(places, panels, strict=True):
            place.plot(items, [row[name] for row in rows], marker="o")
            place.set_xscale("log")
            place.set_yscale(scale)
            place.set_xlabel("items")
            place.set_ylabel(label)
            if scale == "linear":
                place.set_ylim(0, 1.25 * max(row[name] for row in rows))
