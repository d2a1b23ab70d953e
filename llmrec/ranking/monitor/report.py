"""The report on a log of what was served: metrics, failed checks, and a page.

The whole log and its latest window are checked, because what began yesterday is a small share of a
month. An input that follows the days of the week needs windows of a week.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from llmrec.ranking.monitor.drift import RULE, Drift, compare
from llmrec.ranking.monitor.reference import Reference
from llmrec.ranking.monitor.windows import Windows

SCHEMA_VERSION = 1
LEAST_LABELLED = 500  # rows of the latest window, for its ECE to be judged
_ORDER = {"drifted": 0, "watch": 1, "stable": 2}


def build_report(reference: Reference, windows: Windows, max_ece: float) -> dict[str, Any]:
    """Everything of ``monitor.json``.

    Args:
        windows: of a whole log, at least one row.
        max_ece: what the overall ECE may be.

    Returns:
        ``overall`` and ``windows`` (figures of
        :meth:`~llmrec.ranking.monitor.windows.Window.figures`), ``inputs`` (the drift of each,
        ``latest_psi`` and ``latest_by_chance`` being those of the latest window where there are
        several; the worst first) and ``failed``: a sentence for each thing that is wrong, none when
        all is well.
    """
    whole, each = windows.overall(), windows.in_order()
    judged = [("", whole)]
    if len(each) > 1:
        judged.append((f" in the {windows.length} from {each[-1][0]} on", each[-1][1]))
    inputs, failed = [], []
    for name, column in reference.columns.items():
        before = np.array(column.counts)
        drifts = [compare(name, column.labels(), before, one.counts[name]) for _, one in judged]
        worst = min(drifts, key=_rank)
        row = asdict(worst) | {"psi": drifts[0].psi, "by_chance": drifts[0].by_chance}
        latest = drifts[-1] if len(drifts) > 1 else None
        row["latest_psi"] = latest.psi if latest else None
        row["latest_by_chance"] = latest.by_chance if latest else None
        inputs.append(row)
        if worst.state == "drifted":
            when = judged[drifts.index(worst)][0]
            failed.append(f"{name} has drifted: PSI {worst.psi:.3f}{when}")
    inputs.sort(key=lambda row: (_ORDER[row["state"]], -row["psi"]))
    overall = whole.figures()
    for when, window in judged:
        error = window.figures()["ece"]
        enough = window is whole or window.labelled >= LEAST_LABELLED
        if error is not None and error > max_ece and enough:
            failed.append(f"ECE {error:.4f}{when} is above {max_ece:g}")
    return {
        "schema_version": SCHEMA_VERSION,
        "window": windows.length,
        "max_ece": max_ece,
        "rule": RULE,
        "reference_rows": reference.rows,
        "overall": overall,
        "windows": [{"start": start, **one.figures()} for start, one in each],
        "inputs": inputs,
        "failed": failed,
    }


def _rank(drift: Drift) -> tuple[int, float]:
    """Lower is worse."""
    return _ORDER[drift.state], -drift.psi


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report as a page."""
    overall = report["overall"]
    lines = ["# What was served", ""]
    lines += [f"- **{reason}**" for reason in report["failed"]] or ["- nothing is wrong"]
    lines += [
        "",
        f"{overall['rows']:,} shown items in {len(report['windows'])} {report['window']}(s) from "
        f"{report['windows'][0]['start']} on, {overall['labelled']:,} of them known to be clicked "
        f"or not; mean predicted probability {overall['mean_p']:.4f}. The reference has "
        f"{report['reference_rows']:,} rows.",
        "",
    ]
    lines += ["## Predicted and observed clicks", ""]
    if overall["labelled"]:
        lines += _clicks(report)
    else:
        lines.append("The log has no `clicked`; only drift was looked at.")
    lines += ["", "## Drift of inputs", ""]
    lines += _inputs(report)
    lines += ["", f"{report['rule']}.", ""]
    return "\n".join(lines)


def _clicks(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"| {report['window']} | rows | predicted | observed | 95% | predicted / observed | 95% "
        "| ECE | NE | AUC |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in ({"start": "all", **report["overall"]}, *report["windows"]):
        cells = [row["start"], f"{row['labelled']:,}", _shown(row["predicted"])]
        cells += [_shown(row["observed"]), _span(row["observed_interval"])]
        cells += [_shown(row["predicted_over_observed"], 3)]
        cells += [_span(row["predicted_over_observed_interval"], 3)]
        cells += [_shown(row[name]) for name in ("ece", "ne", "auc")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _inputs(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"| input | state | PSI | by chance | PSI of the latest {report['window']} | by chance "
        "| moved most | reference | log |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for row in report["inputs"]:
        moved = str(row["moved"]).replace("|", "\\|").replace("\n", " ")
        cells = [row["name"], row["state"]]
        psis = ("psi", "by_chance", "latest_psi", "latest_by_chance")
        cells += [_shown(row[name], 3) for name in psis]
        cells += [moved, f"{row['share_before']:.1%}", f"{row['share_now']:.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(span: Sequence[float | None] | None, digits: int = 4) -> str:
    if span is None:
        return "-"
    return " to ".join("no limit" if edge is None else _shown(edge, digits) for edge in span)
