"""``llmrec monitor``: compare a log of what was served with what the model was trained on.

    llmrec monitor --reference bundle/reference.json --log served.jsonl --out runs/monitor

The log has a row for each shown item: `p_click`, `timestamp`, `clicked` (0 or 1; left out where
not known yet) and the inputs that the reference has. With --fail-on-drift the exit status is 1
when an input drifted or the ECE is too high, in the whole log or in its latest window.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec.data.raw_files import input_hashes
from llmrec.errors import ConfigError
from llmrec.files import file_hash
from llmrec.ranking.monitor.reference import Reference
from llmrec.ranking.monitor.report import as_markdown, build_report
from llmrec.ranking.monitor.served import read_served
from llmrec.ranking.monitor.windows import Length, Windows
from llmrec.stage import Manifest, writing

MAX_ECE = 0.05
REPORT, FIGURES, PICTURE = "report.md", "monitor.json", "monitor.png"


def run(
    *,
    reference: Path,
    log: Path,
    out: Path | None = None,
    inputs: Sequence[str] | None = None,
    window: Length = "day",
    max_ece: float = MAX_ECE,
    fail_on_drift: bool = False,
) -> None:
    """Print calibration and drift of what was served, and write them.

    Args:
        reference: JSON file that is kept with a click model.
        log: JSONL or Parquet: one row a shown item.
        out: folder for report.md, monitor.json, monitor.png.
        inputs: those of the reference that the log has (default: all).
        window: length of the windows of time.
        max_ece: what ECE may be.
        fail_on_drift: exit status 1 when an input drifted or the ECE is above --max-ece.

    Raises:
        ArtifactError, DataError, ConfigError: as :func:`monitor`.
        MissingExtraError: if matplotlib is not installed.
    """
    report = monitor(reference, log, window, max_ece, inputs)
    print(as_markdown(report))
    if out is not None:
        write_report(report, reference, log, out)
        print(f"wrote {out}", flush=True)
    if fail_on_drift and report["failed"]:
        print(f"llmrec monitor: {'; '.join(report['failed'])}", file=sys.stderr)
        raise SystemExit(1)


def monitor(
    reference: Path,
    log: Path,
    window: Length = "day",
    max_ece: float = MAX_ECE,
    inputs: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Read a log once and compare it with the reference, see ``report.build_report``.

    Args:
        inputs: those of the reference that the log has; None for all.

    Raises:
        ArtifactError: if the reference is missing or damaged.
        DataError: if the log has a wrong column or row, or none.
        ConfigError: if ``max_ece`` is no share, or an input is not in the reference.
    """
    if not (math.isfinite(max_ece) and 0 <= max_ece <= 1):
        raise ConfigError(f"--max-ece {max_ece:g}: give a number from 0 to 1")
    expected = Reference.load(reference)
    if inputs is not None:
        for name in inputs:
            if name not in expected.columns:
                raise ConfigError(f"--inputs {name}: {reference} has no such input")
        expected = replace(expected, columns={name: expected.columns[name] for name in inputs})
    sizes = {name: len(column.counts) for name, column in expected.columns.items()}
    windows = Windows(window, sizes)
    for batch in read_served(log, expected):
        windows.add(batch)
    return build_report(expected, windows, max_ece)


def write_report(report: dict[str, Any], reference: Path, log: Path, out: Path) -> Path:
    """Write ``report.md``, ``monitor.json`` and ``monitor.png`` into a folder, whole or not at all.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    from llmrec.ranking.monitor.plots import plot_report

    inputs = {"reference": file_hash(reference), **input_hashes("log", log)}
    config = {name: report[name] for name in ("window", "max_ece")}
    with writing(out, Manifest("monitor", config, inputs)) as run:
        text = json.dumps(report, indent=2, allow_nan=False)
        (run.folder / FIGURES).write_text(text + "\n", encoding="utf-8")
        page = f"{as_markdown(report)}\n![clicks and drift]({PICTURE})\n"
        (run.folder / REPORT).write_text(page, encoding="utf-8")
        plot_report(report, run.folder / PICTURE)
        run.counts |= {"rows": report["overall"]["rows"], "failed": len(report["failed"])}
    return out
