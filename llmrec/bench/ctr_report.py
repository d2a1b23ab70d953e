"""The page and the plots of ``llmrec bench ctr``, made from its result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.bench.report import provenance, table
from llmrec.metrics.plots import open_pyplot, save_figure

SAID = {
    "full": "**the head**",
    "no_captions": "the head without captions",
    "no_time": "the head without time",
    "no_media": "the head, vectors from text alone",
    "logistic_regression": "logistic regression",
    "trees": "boosted trees",
    "popularity": "popularity",
    "llm_alone": "the language model's score alone",
}
_METRICS = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss", "ne": "NE", "ece": "ECE"}
_GAINS = {"caption": "captions", "time": "time", "media": "pictures and videos"}
_WAYS = {
    "cascade": "the cascade",
    "head_alone": "the head alone",
    "llm": "the language model alone",
}


def write_ctr_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write ``NAME.md`` and ``NAME.png``; the path of the page."""
    out.mkdir(parents=True, exist_ok=True)
    name, counts = result["name"], result["counts"]
    _plot(result["rows"], out / f"{name}.png")
    lines = [f"# Probabilities of a click: {result['dataset']}", ""]
    lines += [
        f"{counts['items']:,} items. Learned from {counts['train_rows']:,} items shown "
        f"({counts['train_clicks']:,} clicked), calibrated on {counts['validation_rows']:,}, "
        f"measured on {counts['test_rows']:,} later ones of {counts['test_people']:,} people. In "
        "brackets 95% intervals over people.",
        "",
    ]
    lines += table([_row(row) for row in result["rows"]], {"model": "model", **_METRICS})
    lines += ["", f"![AUC by model]({name}.png)", "", *_worth(result), ""]
    lines += [f"![Reliability before and after calibration]({name}-reliability.png)", ""]
    lines += _candidates(result)
    lines += [f"![Candidates by source]({name}-candidates.png)", "", *_cascade(result)]
    lines += _reranking(result["reranking"]) + provenance(result)
    page = out / f"{name}.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {"model": f"{SAID[row['model']]} ({row['calibrator']})"}
    for metric in _METRICS:
        value, low, high = row[metric]
        cells[metric] = f"{value:.4f} ({low:.4f}-{high:.4f})"
    return cells


def _span(result: Mapping[str, Any], key: str, form: str) -> str:
    low, high = result["intervals"][key]
    return f"{result['metrics'][key]:{form}} ({low:{form}} to {high:{form}})"


def _worth(result: Mapping[str, Any]) -> list[str]:
    """What each part is worth, as a list."""
    metrics = result["metrics"]
    lines = [
        f"- AUC gained by {said}: {_span(result, f'{key}_auc_gain_percent', '+.2f')} percent"
        for key, said in _GAINS.items()
        if f"{key}_auc_gain_percent" in metrics
    ]
    lines.append(
        f"- against the best of trees and logistic regression: AUC "
        f"{_span(result, 'auc_over_best_baseline', '+.4f')}, log loss "
        f"{_span(result, 'log_loss_over_best_baseline', '+.5f')}"
    )
    lines.append(
        f"- calibration: ECE {metrics['ece_before']:.4f} -> {_span(result, 'ece', '.4f')}, "
        f"normalized entropy {metrics['ne_before']:.4f} -> {metrics['ne']:.4f}"
    )
    for field in ("category", "position"):
        before, after = (metrics.get(f"{field}_calibration_error{s}") for s in ("_before", ""))
        if before is not None and after is not None:
            lines.append(f"- calibration error by {field}: {before:.4f} -> {after:.4f}")
    return lines


def _candidates(result: Mapping[str, Any]) -> list[str]:
    metrics = result["metrics"]
    names = [key.removeprefix("recall@200_") for key in metrics if key.startswith("recall@200_")]
    rows = [
        {
            "source": name,
            "recall": _span(result, f"recall@200_{name}", ".3f"),
            "candidates": f"{metrics[f'candidates_{name}']:.0f}",
            "only": f"{metrics[f'only_{name}']:.3f}" if f"only_{name}" in metrics else None,
        }
        for name in names
    ]
    columns = {"source": "candidates from", "recall": "Recall@200", "candidates": "candidates",
               "only": "found by it alone"}  # fmt: skip
    return [*table(rows, columns), ""]


def _cascade(result: Mapping[str, Any]) -> list[str]:
    metrics = result["metrics"]
    rows = [
        {
            "way": said,
            "ndcg": _span(result, f"{key}_ndcg@10", ".4f"),
            "recall": _span(result, f"{key}_recall@10", ".4f"),
        }
        for key, said in _WAYS.items()
        if f"{key}_ndcg@10" in metrics
    ]
    lines = table(rows, {"way": "what people chose next", "ndcg": "NDCG@10", "recall": "Recall@10"})
    if "cascade_minus_llm_ndcg@10" in metrics:
        lines += [
            "",
            f"The cascade less the language model: NDCG@10 "
            f"{_span(result, 'cascade_minus_llm_ndcg@10', '+.4f')}. In the ranking its "
            f"log-likelihood has a weight of {metrics['llm_weight']:g}, chosen on validation.",
        ]
    return [*lines, ""]


def _reranking(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = []
    for row in rows:
        cell = {"name": row["name"]}
        for metric, value in row["metrics"].items():
            cell[metric] = f"{value:.4f}"
        if "differences" in row:
            low, high = row["difference_intervals"]["ndcg@10"]
            cell["cost"] = f"{row['differences']['ndcg@10']:+.4f} ({low:+.4f} to {high:+.4f})"
        cells.append(cell)
    columns = {"name": "re-ranked by", "ndcg@10": "NDCG@10", "cost": "difference",
               "cosine@10": "cosine within a list", "categories@10": "categories",
               "age_days@10": "mean age, days", "coverage@10": "coverage"}  # fmt: skip
    known = {key: said for key, said in columns.items() if any(key in cell for cell in cells)}
    return [*table([dict.fromkeys(known) | cell for cell in cells], known), ""]


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """AUC and log loss of each model with their intervals."""
    pyplot = open_pyplot()
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    names = [SAID[row["model"]].strip("*") for row in rows][::-1]
    for panel, metric in zip(panels, ("auc", "log_loss"), strict=True):
        values = [row[metric] for row in rows][::-1]
        middle = [value for value, _, _ in values]
        low = [value - lower for value, lower, _ in values]
        high = [upper - value for value, _, upper in values]
        panel.errorbar(middle, range(len(rows)), xerr=[low, high], fmt="o", capsize=3)
        panel.set_yticks(range(len(rows)), names)
        panel.set_xlabel(_METRICS[metric])
        panel.grid(axis="x", alpha=0.3)
    save_figure(pyplot, figure, path)
