"""The page and the plot of ``llmrec bench tune``, made from its result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.bench.report import listed, table, write_page
from llmrec.metrics.plots import drawing, interval_bars

_COLUMNS = {
    "run": "run",
    "learning_rate": "learning rate",
    "ndcg@10": "NDCG@10",
    "span": "95%",
    "recall@10": "Recall@10",
    "older_ndcg@10": "NDCG@10 of the older part",
    "trained": "trained parameters",
    "adapter_kib": "adapter, KiB",
    "train_seconds": "s",
    "peak_mib": "peak memory, MiB",
}
_LEFT_OUT = {"users": "the newest users", "time": "the newest events of all users"}
_NAMES = {
    "base": "the base",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "rows+lora": "rows of items first, then LoRA",
}
_COLOURS = {
    "rows+lora": "tab:purple",
    "base": "tab:gray",
    "lora": "tab:blue",
    "qlora": "tab:cyan",
    "full": "tab:orange",
}


def write_tuning_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write ``NAME.md`` and ``NAME.png``; the path of the page."""
    name, counts = result["name"], result["counts"]
    rows = [_cells(row) for row in result["rows"]]
    _plot(result["rows"], out / f"{name}.png")
    lines = [f"# Fine-tuning one base: {result['dataset']}", ""]
    lines += [
        f"The base ({result['model']}) was trained on {counts['older']['train']:,} events of "
        f"{counts['older']['users']:,} users, without {_LEFT_OUT[result['settings']['by']]}. Every "
        f"run fine-tunes it on {counts['newest']['train']:,} events of "
        f"{counts['newest']['users']:,} users; its learning rate was chosen on their validation "
        "events. Figures are of test events, the history removed from the ranking.",
        "",
    ]
    lines += table(rows, _COLUMNS)
    lines += ["", f"![NDCG@10 by run]({name}.png)", ""]
    metrics = result["metrics"]
    spans = {key: f"[{a:.3f}, {b:.3f}]" for key, (a, b) in result["intervals"].items()}
    ratio = "_over_full_ndcg@10"
    lines += listed(
        {
            f"{method}{ratio}": f"{label}: {{}} of full fine-tuning's NDCG@10, "
            f"95% {spans.get(method + ratio)}"
            for method, label in _NAMES.items()
        }
        | {
            f"{method}_over_full_parameters": f"{label}: {{}} of full fine-tuning's parameters"
            for method, label in _NAMES.items()
        },
        metrics,
    )
    return write_page(out / f"{name}.md", lines, result)


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["interval"]
    size = row.get("adapter_bytes")
    return (
        dict.fromkeys(_COLUMNS)
        | dict(row)
        | {"trained": _trained(row)}
        | {"span": f"{low:.4f}-{high:.4f}", "adapter_kib": None if size is None else size / 1024}
    )


def _trained(row: Mapping[str, Any]) -> int | None:
    """Parameters that a run trained, those of the item rows too."""
    if "trained_parameters" not in row:
        return None
    return int(row["trained_parameters"] + row.get("aligned_parameters", 0))


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars with 95% intervals, a bar a run, coloured by method."""
    names, heights, spans = ([row[key] for row in rows] for key in ("run", "ndcg@10", "interval"))
    with drawing(path, figsize=(1.5 + 1.1 * len(rows), 4)) as panel:
        interval_bars(panel, names, heights, spans, [_COLOURS[row["method"]] for row in rows])
        for place, row in enumerate(rows):
            if trained := _trained(row):
                panel.annotate(
                    f"{trained / 1000:,.0f} k",
                    (place, 0),
                    ha="center",
                    xytext=(0, 4),
                    textcoords="offset points",
                    fontsize=8,
                )
        panel.set_ylabel("NDCG@10 of the newest part")
        panel.set_title("numbers in the bars: trained parameters")
        panel.tick_params(axis="x", rotation=20)
