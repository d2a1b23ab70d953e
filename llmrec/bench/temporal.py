"""``llmrec bench temporal``: does the temporal encoder tell what the mean of the frames cannot?

    llmrec bench temporal --temporal runs/temporal --out eval/results/motion-demo.json

Over the videos that ``llmrec train temporal`` left out; the difference is paired, video by video.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmrec.bench.checks import result_file
from llmrec.bench.report import print_metrics
from llmrec.content.clip.temporal import PREDICTIONS, STAGE
from llmrec.errors import ArtifactError, CatalogError
from llmrec.jsonl import read_jsonl
from llmrec.metrics.bootstrap import compare, intervals
from llmrec.metrics.results import write_result
from llmrec.stage import read_manifest


def run(temporal: Path, out: Path, *, seed: int = 0) -> Path:
    """Compare the temporal encoder with the mean of the frames.

    Args:
        temporal: folder of ``llmrec train temporal``.
        out: the result file, NAME.json.
        seed: of the bootstrap.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
        CatalogError: if no videos were left out.
    """
    result_file(out)
    manifest = read_manifest(temporal, STAGE)
    path = temporal / PREDICTIONS
    try:
        rows = read_jsonl(path)
        right = {
            name: np.array([row[name] == row["truth"] for row in rows], dtype=float)
            for name in ("temporal", "mean")
        }
        truth = [row["truth"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); run llmrec train temporal again with --verify"
        ) from None
    if not rows:
        raise CatalogError(f"{temporal}: no videos were left out; train with --leave-out")
    field = manifest.config["field"]
    cases = {f"accuracy_{field}": right["temporal"], f"accuracy_{field}_mean": right["mean"]}
    metrics = {name: float(values.mean()) for name, values in cases.items()}
    metrics[f"floor_{field}"] = max(truth.count(value) for value in set(truth)) / len(truth)
    (difference,) = compare({"accuracy": right["mean"]}, {"accuracy": right["temporal"]}, seed=seed)
    metrics[f"gain_{field}"] = difference.difference
    spans = intervals(cases, seed=seed)
    spans[f"gain_{field}"] = list(difference.interval)
    print_metrics(metrics, spans)
    return write_result(
        out,
        metrics=metrics,
        dataset=str(temporal),
        split="held_out",
        model="temporal encoder",
        intervals=spans,
        videos={"trained_on": manifest.counts["trained_on"], "measured_on": len(rows)},
        p_value=difference.p_value,
        seed=seed,
        seconds=manifest.seconds,
        settings=manifest.config | {"image_model": Path(manifest.config["image_model"]).name},
    )
