"""The page and the plots of ``llmrec bench why``, made from its result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.bench.report import table, with_interval, write_page
from llmrec.metrics.plots import AXIS, drawing

Row = Mapping[str, Any]
ALL = "all"  # the slice, and its one bucket, of all cases


def write_why_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write ``NAME.md`` and a ``NAME-SLICE.png`` a slice; the path of the page."""
    name, rows = result["name"], result["rows"]
    models, metric = result["settings"]["models"], result["settings"]["metric"]
    metric = metric.replace("ndcg", "NDCG")
    lines = [f"# What each model is for: {result['dataset']}, {result['split']}", ""]
    lines += [
        f"{result['cases']:,} cases, {metric}, {result['settings']['protocol']}. A difference is "
        "paired, case by case, with its 95% bootstrap interval; intervals are of each row alone, "
        "so of twenty rows without a difference one is expected not to hold 0.",
        "",
    ]
    for slicing in dict.fromkeys(row["slice"] for row in rows):
        part = [row for row in rows if row["slice"] == slicing]
        title = slicing.replace("_", " ")
        lines += [f"## By {title}" if slicing != ALL else "## All cases", ""]
        lines += [*_table(part, models), ""]
        if slicing != ALL:
            picture = f"{name}-{slicing}.png"
            _plot(part, models, slicing, metric, out / picture)
            lines += [f"![{metric} and its differences by {title}]({picture})", ""]
    lines += ["## Who finds what the other misses (first ten)", ""]
    heads = {
        "one": "A",
        "other": "B",
        "both": "both",
        "one_alone": "A alone",
        "other_alone": "B alone",
        "neither": "neither",
    }
    shares = ("both", "one_alone", "other_alone", "neither")
    found = [pair | {key: f"{pair[key]:.1%}" for key in shares} for pair in result["found"]]
    lines += [*table(found, heads), ""]
    return write_page(out / f"{name}.md", lines, result)


def _table(rows: Sequence[Row], models: Sequence[str]) -> list[str]:
    """Parts by models and differences."""
    cells = []
    for row in rows:
        cell: dict[str, Any] = {"bucket": row["bucket"], "cases": row["cases"]}
        cell |= {model: f"{row['figures'][model]:.4f}" for model in models}
        for pair in row["differences"]:
            cell[_title(pair)] = with_interval(pair["difference"], pair["interval"], "+.4f")
        cells.append(cell)
    return table(cells, {key: key for key in cells[0]})


def _title(pair: Row) -> str:
    return f"{pair['to']} - {pair['from']}"


def _plot(
    rows: Sequence[Row], models: Sequence[str], slicing: str, metric: str, path: Path
) -> None:
    """Every model over the parts, and the differences beneath, with 95% intervals."""
    labels = [f"{row['bucket']}\n({row['cases']:,})" for row in rows]
    with drawing(path, 2, 1, figsize=(7.2, 6.6), sharex=True) as (top, bottom):
        lines = [
            (top, model, [r["figures"][model] for r in rows], [r["intervals"][model] for r in rows])
            for model in models
        ]
        for number, pair in enumerate(rows[0]["differences"]):
            found = [row["differences"][number] for row in rows]
            values = [one["difference"] for one in found]
            lines.append((bottom, _title(pair), values, [one["interval"] for one in found]))
        for panel in (top, bottom):
            own = [line[1:] for line in lines if line[0] is panel]
            for number, (label, values, spans) in enumerate(own):
                shift = (number - (len(own) - 1) / 2) * 0.08  # so that intervals do not overlap
                xs = [place + shift for place in range(len(rows))]
                (line,) = panel.plot(xs, values, "o-", label=label, ms=4, lw=1)
                low, high = zip(*spans, strict=True)
                panel.vlines(xs, low, high, color=line.get_color())
            panel.legend(fontsize=8)
        top.set_ylim(bottom=0)
        top.set_ylabel(metric)
        bottom.axhline(0, color="black", linewidth=0.8)
        bottom.set_ylabel(f"difference of {metric}")
        bottom.set_xticks(range(len(rows)), labels)
        bottom.set_xlabel(AXIS.get(slicing, slicing))
