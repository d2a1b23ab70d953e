"""The page and the plot of what pretraining is worth, of its result file alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec.bench.report import table, write_page
from llmrec.metrics.plots import drawing

_QUALITY = {
    "shop": "shop",
    "share": "users",
    "model": "model",
    "recall@10": "Recall@10",
    "ndcg@10": "NDCG@10",
    "ndcg_span": "95%",
    "warm_recall@10": "seen items, Recall@10",
    "cold_recall@10": "cold items, Recall@10",
    "cold_cases": "cold cases",
    "title_recall@10": "by title",
    "part_recall@10": "by part of it",
    "description_recall@10": "by description",
}
_COST = {
    "shop": "shop",
    "share": "users",
    "model": "model",
    "parameters": "parameters",
    "trained_parameters": "trained",
    "steps": "steps",
    "history_tokens": "tokens of histories",
    "text_tokens": "tokens of words",
    "cpu_seconds": "CPU s",
    "tokens_per_second": "tokens/s",
    "request_ms": "ms a request",
}
_TRIALS = {
    "shop": "shop",
    "share": "users",
    "model": "model",
    "trial": "settings",
    "validation_ndcg@10": "NDCG@10",
    "cpu_seconds": "CPU s",
}


def write_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write ``NAME.md`` and ``NAME.png``; the path of the page."""
    rows = [dict(row) | {"share": f"{row['users']:.0%}"} for row in result["rows"]]
    for row in rows:
        span = result["intervals"].get(f"{row['training']}_ndcg@10")
        row["ndcg_span"] = f"{span[0]:.4f}-{span[1]:.4f}" if span else "-"
    tested = [row for row in rows if not row["trial"]]
    name, settings = result["name"], result["settings"]
    models = dict.fromkeys(row["model"] for row in tested)
    plot(result, out / f"{name}.png")
    lines = ["# What pretraining is worth", ""]
    lines += [
        f"{' and '.join(models)} learned from a share of the users, the same for both. "
        f"Measured on {settings['test_users'] or 'all'} test users (of a smaller shop, all), the "
        "same for every model: history removed, ranked among all items. Cold items have no event "
        "in what that model learned from. By words, of models that read some: how many of "
        f"{settings['items']} items are among the first ten of all, by their title, by every other "
        "word of it, or by their description.",
        "",
        "A model from nothing learns by a softmax over the items of its histories alone, where one "
        "that goes on from an expanded base has all of them in it: what it never saw it learns to "
        "be unlikely, so part of the gap on cold items is the loop's.",
        "",
    ]
    for row in tested:
        row |= {column: row.get(column) for column in _QUALITY}
    lines += table(tested, _QUALITY)
    lines += ["", f"![NDCG@10 and Recall@10 of cold items]({name}.png)", "", "## Cost", ""]
    lines += ["CPU seconds are of one thread, starting and validating included.", ""]
    lines += table(tested, _COST)
    lines += ["", "## How settings were chosen", ""]
    how = "By NDCG@10 of validation events, of as many users as the settings say of each model; "
    lines += [f"{how}test events took no part.", ""]
    lines += table(rows, _TRIALS)
    return write_page(out / f"{name}.md", lines, result)


def plot(result: Mapping[str, Any], path: Path) -> None:
    """A line a model over the share of the users, a panel a metric, of the first shop."""
    shop = next(iter(result["settings"]["shops"]))
    panels = {"ndcg@10": "NDCG@10", "cold_recall@10": "Recall@10 of cold items"}
    with drawing(path, 1, len(panels), figsize=(8, 3.6), squeeze=False) as axes:
        for axis, (metric, title) in zip(axes[0], panels.items(), strict=True):
            for model in dict.fromkeys(row["model"] for row in result["rows"] if not row["trial"]):
                rows = [
                    row
                    for row in result["rows"]
                    if (row["shop"], row["model"], row["trial"]) == (shop, model, "")
                    and metric in row
                ]
                rows.sort(key=lambda row: row["users"])
                shares = [100 * row["users"] for row in rows]
                line = axis.plot(shares, [row[metric] for row in rows], "o-", label=model)
                spans = [result["intervals"][f"{row['training']}_{metric}"] for row in rows]
                low, high = zip(*spans, strict=True) if spans else ((), ())
                axis.fill_between(shares, low, high, alpha=0.2, color=line[0].get_color())
            axis.set_xlabel("per cent of the users learned from")
            axis.set_title(title)
            axis.set_ylim(bottom=0)
        axes[0][0].legend()
