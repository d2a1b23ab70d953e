"""``llmrec bench temporal``: does the temporal encoder tell what the mean of the frames cannot?

    llmrec bench temporal --temporal runs/temporal --out eval/results/motion-demo.json

Over the videos that ``llmrec train temporal`` left out; the difference is paired, video by video.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from llmrec.content.clip.temporal import PREDICTIONS, STAGE
from llmrec.errors import ArtifactError, CatalogError
from llmrec.metrics.bootstrap import compare, intervals
from llmrec.metrics.results import write_result
from llmrec.stage import read_manifest


def run(temporal: Path, out: Path, *, seed: int = 0) -> Path:
    """Write the result file ``out``.

    Args:
        temporal: folder of ``llmrec train temporal``.
        seed: of the bootstrap.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
        CatalogError: if no videos were left out.
    """
    manifest = read_manifest(temporal, STAGE)
    path = temporal / PREDICTIONS
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        right = {
            name: np.array([row[name] == row["truth"] for row in rows], dtype=float)
            for name in ("temporal", "mean")
        }
        truth = [row["truth"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); run llmrec train temporal again"
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
    return write_result(
        out,
        name=out.stem,
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


def main(argv: list[str]) -> None:
    """The command line of ``llmrec bench temporal``."""
    parser = argparse.ArgumentParser(
        prog="llmrec bench temporal", description="The temporal encoder against mean pooling."
    )
    parser.add_argument("--temporal", type=Path, required=True, help="of llmrec train temporal")
    parser.add_argument("--out", type=Path, required=True, help="result file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    path = run(args.temporal, args.out, seed=args.seed)
    for name, value in json.loads(path.read_text(encoding="utf-8"))["metrics"].items():
        print(f"{name:<28}{value:8.3f}")
