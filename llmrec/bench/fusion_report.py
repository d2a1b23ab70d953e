"""The page and the plot of ``llmrec bench fusion``, made from its result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.bench.report import table, with_interval, write_page
from llmrec.metrics.plots import drawing, interval_bars

_NAMES = {
    "text_raw": "text as it is",
    "concat_raw": "all blocks side by side, as they are",
    "text": "text alone, trained",
    "concat_plain": "an MLP over the blocks with zeros, trained on whole items",
    "concat": "an MLP over the blocks with zeros, trained as the fused one is",
    "fused": "fused (cross-attention, masks)",
    "fused_zeros": "fused, given zeros instead of masks",
}
_COLUMNS = {
    "way": "vectors",
    "recall@10": "Recall@10",
    "ndcg@10": "NDCG@10",
    "cold_recall@10": "cold items, Recall@10",
    "cold_ndcg@10": "cold items, NDCG@10",
    "missing_recall@10": "modalities missing, Recall@10",
    "loss": "lost by it",
}
_PANELS = {
    "recall@10": "all that an item has",
    "cold_recall@10": "queries without behaviour",
    "missing_recall@10": "modalities missing at random",
}


def write_fusion_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write ``NAME.md`` and ``NAME.png``; the path of the page."""
    name, counts, settings = result["name"], result["counts"], result["settings"]
    _plot(result["rows"], out / f"{name}.png")
    has = ", ".join(
        f"{key.removeprefix('with_')} {value:,}"
        for key, value in counts.items()
        if key.startswith("with_")
    )
    also = "and learning rate were " if len(settings["learning_rates"]) > 1 else "was "
    lines = [f"# Fusing modalities: {result['dataset']}", ""]
    lines += [
        f"{counts['items']:,} items ({has}). From one item that somebody liked, find the others "
        f"they liked: {counts['test_cases']:,} cases of {counts['test_users']:,} users, "
        f"{counts['test_queries']:,} queries, over the whole catalogue. Encoders learned from "
        f"{counts['pairs']:,} pairs of other users, each {settings['repeats']} time(s); their "
        f"epoch {also}chosen on yet other users. {counts['cold_items']:,} cold items occur in "
        f"no pair; {counts['cold_queries']:,} of them are queries.",
        "",
        f"Missing: each modality an item has is hidden with chance {settings['missing']:g}, text "
        "too, one stays; for queries and answers alike. Mean of "
        f"{settings['draws']} draws a training.",
        "",
    ]
    lines += table([_cells(row) for row in result["rows"]], _COLUMNS)
    lines += ["", f"![Recall@10 by way]({name}.png)", ""]
    lines += _differences(result)
    return write_page(out / f"{name}.md", lines, result)


def _differences(result: Mapping[str, Any]) -> list[str]:
    """Lines of a list: the fused vectors against each other way."""
    where = {
        "fused": "all queries",
        "user_fused": "all cases, users resampled",
        "cold_fused": "cold queries",
    }
    lines = []
    for rival in ("text", "text_raw", "concat_plain", "concat", "concat_raw"):
        for prefix, cases in where.items():
            key = f"{prefix}_minus_{rival}_recall@10"
            difference = with_interval(result["metrics"][key], result["intervals"][key], "+.4f")
            lines.append(f"- fused minus {_NAMES[rival]}, Recall@10, {cases}: {difference}")
    return [*lines, ""]


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {"way": _NAMES[row["way"]]}
    for name in list(_COLUMNS)[1:]:
        value, span = row[name], row[f"{name}_span"]
        if value is None:
            cells[name] = None
        else:
            cells[name] = with_interval(value, span, ".1%" if name == "loss" else ".4f")
    return cells


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars with 95% intervals: a panel a situation, a bar a way."""
    with drawing(path, 1, len(_PANELS), figsize=(12, 4), sharey=True) as panels:
        for panel, (column, title) in zip(panels, _PANELS.items(), strict=True):
            there = [row for row in rows if row[column] is not None]
            names = [row["way"] for row in there]
            colours = ["tab:orange" if name == "fused" else "tab:blue" for name in names]
            values, spans = ([row[key] for row in there] for key in (column, f"{column}_span"))
            interval_bars(panel, names, values, spans, colours)
            panel.set_title(title)
            panel.tick_params(axis="x", rotation=30)
        panels[0].set_ylabel("Recall@10")
