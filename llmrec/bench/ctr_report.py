"""The page and the plots of ``llmrec bench ctr``, made from its result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.bench.report import table, with_interval, write_page
from llmrec.metrics.plots import drawing

NAMES = {
    "full": "**the click model**",
    "no_captions": "without captions",
    "no_time": "without time",
    "no_engagement": "without expected engagement",
    "no_user_attributes": "without attributes of users",
    "no_media": "vectors from text alone",
    "raw_text": "text vectors as they are, not fused",
    "logistic_regression": "logistic regression",
    "boosted_trees": "boosted trees",
    "popularity": "popularity",
    "llm_alone": "the language model's score alone",
}
RIVALS = ("logistic_regression", "boosted_trees")
_METRICS = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss", "ne": "NE", "ece": "ECE"}
_GAINS = {
    "caption": "captions",
    "time": "time",
    "engagement": "the share of a video that is expected to be watched",
    "user_attribute": "attributes of users",
    "media": "pictures and videos",
}
_WAYS = {
    "cascade": "the cascade",
    "head_alone": "the click model alone",
    "llm": "the language model alone",
    "llm_refreshed": "the language model alone, trained up to the test part",
}


def write_ctr_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write ``NAME.md`` and ``NAME.png``; the path of the page."""
    name, counts = result["name"], result["counts"]
    _plot(result["rows"], out / f"{name}.png")
    lines = [f"# Probabilities of a click: {result['dataset']}", ""]
    lines += [
        f"{counts['items']:,} items. Trained on {counts['train_rows']:,} items of impressions "
        f"({counts['train_clicks']:,} clicked), calibrated on {counts['validation_rows']:,}, "
        f"measured on {counts['test_rows']:,} later ones of {counts['test_users']:,} users. "
        f"{trainings(result)}",
        "",
    ]
    lines += table([_row(row) for row in result["rows"]], {"model": "model", **_METRICS})
    lines += ["", f"![AUC by model]({name}.png)", "", *_worth(result), ""]
    lines += [f"![Reliability before and after calibration]({name}-reliability.png)", ""]
    lines += _candidates(result)
    lines += [f"![Candidates by source]({name}-candidates.png)", "", *_cascade(result)]
    lines += _reranking(result["reranking"])
    return write_page(out / f"{name}.md", lines, result)


def trainings(result: Mapping[str, Any]) -> str:
    """What the intervals are over."""
    seeds = result["seeds"]
    if seeds == 1:
        return "In brackets 95% intervals over users; one training, no interval over seeds."
    return (
        f"In brackets 95% intervals over users and over {seeds} trainings of each model that "
        "depends on a seed; values are means over these."
    )


def strongest_rival(result: Mapping[str, Any], metric: str) -> str:
    """Name of the rival that is best by a metric, ``auc`` or ``log_loss``."""
    value = {row["model"]: row[metric][0] for row in result["rows"] if row["model"] in RIVALS}
    return (max if metric == "auc" else min)(value, key=value.__getitem__)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": f"{NAMES[row['model']]} ({row['calibrator']})"} | {
        metric: with_interval(row[metric][0], row[metric][1:]) for metric in _METRICS
    }


def _span(result: Mapping[str, Any], key: str, form: str) -> str:
    return with_interval(result["metrics"][key], result["intervals"][key], form)


def gain(result: Mapping[str, Any], part: str) -> str:
    """What a part adds to AUC: a gain only where its interval lies above 0."""
    key = f"{part}_auc_gain_percent"
    shown = f"{_span(result, key, '+.2f')} percent"
    if result["intervals"][key][0] > 0:
        return f"AUC gained by {_GAINS[part]}: {shown}"
    return f"no gain shown by {_GAINS[part]}: AUC {shown}"


def _worth(result: Mapping[str, Any]) -> list[str]:
    """What each part is worth, the rivals and calibration, as a list."""
    metrics = result["metrics"]
    lines = [f"- {gain(result, part)}" for part in _GAINS if f"{part}_auc_gain_percent" in metrics]
    rivals = [row for row in result["rows"] if row["model"] in RIVALS]
    for metric, form in (("auc", "+.4f"), ("log_loss", "+.5f")) if rivals else ():
        rival = strongest_rival(result, metric)
        lines.append(
            f"- {_METRICS[metric]} less that of the strongest rival by it, {NAMES[rival]}: "
            f"{_span(result, f'{metric}_over_{rival}', form)}"
        )
    before, after = f"{metrics['ece_before']:.4f}", _span(result, "ece", ".4f")
    if {row["model"]: row for row in result["rows"]}["full"]["calibrator"] == "none":
        lines.append(f"- calibration: no method was better than none; ECE {after}")
        return lines
    lines.append(
        f"- calibration: ECE {before} -> {after}, "
        f"normalized entropy {metrics['ne_before']:.4f} -> {metrics['ne']:.4f}"
    )
    for field in ("category", "position"):
        errors = [metrics.get(f"{field}_calibration_error{s}") for s in ("_before", "")]
        if None not in errors:
            lines.append(f"- calibration error by {field}: {errors[0]:.4f} -> {errors[1]:.4f}")
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
            "way": label,
            "ndcg": _span(result, f"{key}_ndcg@10", ".4f"),
            "recall": _span(result, f"{key}_recall@10", ".4f"),
        }
        for key, label in _WAYS.items()
        if f"{key}_ndcg@10" in metrics
    ]
    lines = table(rows, {"way": "what users chose next", "ndcg": "NDCG@10", "recall": "Recall@10"})
    if "cascade_minus_llm_ndcg@10" in metrics:
        lines += [
            "",
            f"The cascade less the language model: NDCG@10 "
            f"{_span(result, 'cascade_minus_llm_ndcg@10', '+.4f')}. In the ranking its "
            f"log-likelihood has a weight of {metrics['llm_weight']:g}, chosen on validation. The "
            "cascade ranks with one training of the click model; intervals are over users alone.",
        ]
    if "cascade_minus_llm_refreshed_ndcg@10" in metrics:
        lines += [
            "",
            "The cascade reads statistics up to the moment, the language model has learned from "
            "the training part. Less one that has also learned from the validation part: NDCG@10 "
            f"{_span(result, 'cascade_minus_llm_refreshed_ndcg@10', '+.4f')}.",
        ]
    return [*lines, ""]


def _reranking(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = []
    for row in rows:
        cell = {"name": row["name"]} | {m: f"{value:.4f}" for m, value in row["metrics"].items()}
        if "differences" in row:
            spans = row["difference_intervals"]
            cell["cost"] = with_interval(row["differences"]["ndcg@10"], spans["ndcg@10"], "+.4f")
        cells.append(cell)
    columns = {"name": "re-ranked by", "ndcg@10": "NDCG@10", "cost": "difference",
               "cosine@10": "cosine within a list", "categories@10": "categories",
               "age_days@10": "mean age, days", "coverage@10": "coverage"}  # fmt: skip
    known = {key: head for key, head in columns.items() if any(key in cell for cell in cells)}
    return [*table([dict.fromkeys(known) | cell for cell in cells], known), ""]


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """AUC and log loss of each model with their intervals."""
    with drawing(path, 1, 2, figsize=(11, 4), sharey=True) as panels:
        names = [NAMES[row["model"]].strip("*") for row in rows][::-1]
        for panel, metric in zip(panels, ("auc", "log_loss"), strict=True):
            values = [row[metric] for row in rows][::-1]
            middle = [value for value, _, _ in values]
            low = [value - lower for value, lower, _ in values]
            high = [upper - value for value, _, upper in values]
            panel.errorbar(middle, range(len(rows)), xerr=[low, high], fmt="o", capsize=3)
            panel.set_yticks(range(len(rows)), names)
            panel.set_xlabel(_METRICS[metric])
            panel.grid(axis="x", alpha=0.3)
