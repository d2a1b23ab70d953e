"""``llmrec tune``: fine-tune an expanded base on a mixture of tasks.

    llmrec tune RECIPE.yaml --base DIR --dataset DIR --out DIR

The base is a folder that llmrec model expand or llmrec train wrote. First the rows of new tokens
may be aligned with everything else frozen, and baked into the base; then an adapter (lora,
qlora) or the whole model (full) is trained. The result holds ``base/`` and ``adapter/``, or
``model/`` after a full run, and ``log.json`` and ``training.png``. A killed run goes on from
its last checkpoint when it is started again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec.config import as_dict, build, load_yaml
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, require
from llmrec.stage import (
    MANIFEST,
    Manifest,
    StageRun,
    file_hash,
    folder_hash,
    library_versions,
    run_stage,
)
from llmrec.tune.settings import Config

__all__ = ["Config", "main", "run"]


def run(config: Config, base: Path, dataset: Path, out: Path, seed: int = 0) -> Path:
    """Fine-tune, or find it done.

    Args:
        base: folder of an expanded model.
        dataset: folder of the ingest stage.
        out: the result's folder.

    Raises:
        ConfigError, DataError: before any training, where a setting does not fit base or data.
        LlmrecError: if the loss stops being a number.
    """
    inputs = {"dataset": folder_hash(dataset)}
    for path in sorted([*base.glob("*.json"), *base.glob("*.safetensors"), *base.glob("*.bin")]):
        inputs[f"base/{path.name}"] = file_hash(path)
    for path in sorted((base / "item_ids").glob("*")):
        inputs[f"base/item_ids/{path.name}"] = file_hash(path)
    manifest = Manifest("tune", as_dict(config), inputs, seed=seed)

    def work(stage: StageRun) -> None:
        _tune(config, base, Dataset(dataset), stage, seed)
        for part in ("base", "model"):
            if (stage.folder / part).is_dir():
                _write_manifest(stage.folder / part, replace(manifest, counts={}))

    return run_stage(out, manifest, work, resume=True)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Let a model within the result say where it comes from, as every model does."""
    manifest.libraries = library_versions()
    text = json.dumps(manifest.__dict__, indent=2, default=str)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _tune(config: Config, folder: Path, dataset: Dataset, stage: StageRun, seed: int) -> None:
    import torch

    for package in ("trl", "peft"):
        require(package, "tune")
    from llmrec.tune.memory import advised
    from llmrec.tune.work import Work

    if config.loop.precision == "bf16" and not torch.cuda.is_available():
        raise ConfigError("loop.precision: bf16 needs a GPU, and there is none; set fp32")
    started = time.monotonic()
    work = Work.prepare(config, folder, dataset, stage.folder, seed)
    print(work.summary(), flush=True)
    with advised():
        log = work.align()
        log += work.tune()
    validated = [entry["validation_ndcg@10"] for entry in log if "validation_ndcg@10" in entry]
    stage.counts.update(
        work.counts,
        validation_ndcg_before=validated[0],
        validation_ndcg=validated[-1],
        train_seconds=round(time.monotonic() - started, 1),
    )
    (stage.folder / "log.json").write_text(json.dumps(log, indent=1))
    plot_log(log, stage.folder / "training.png")
    tracking = stage.folder / "work" / "tune" / "runs"
    if tracking.is_dir():
        shutil.move(tracking, stage.folder / "tracking")
    shutil.rmtree(stage.folder / "work")


def once(path: Path, compute: Callable[[], Any]) -> Any:
    """A JSON-able result, computed once: a run that goes on reads what it had."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    result = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(path)
    return result


def plot_log(log: list[dict[str, Any]], path: Path) -> None:
    """Loss and validation NDCG@10 over all steps, alignment first, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    aligned = max((entry["step"] for entry in log if entry["stage"] == "align"), default=0)
    placed = [(e["step"] + (aligned if e["stage"] == "tune" else 0), e) for e in log]
    losses = [(step, e["loss"]) for step, e in placed if "loss" in e]
    valid = [(step, e["validation_ndcg@10"]) for step, e in placed if "validation_ndcg@10" in e]
    figure, left = pyplot.subplots(figsize=(7, 4))
    left.plot(*zip(*losses, strict=True), color="tab:gray")
    left.set_xlabel("step")
    left.set_ylabel("training loss", color="tab:gray")
    if aligned:
        left.axvline(aligned, color="tab:gray", linestyle=":")
    right = left.twinx()
    right.plot(*zip(*valid, strict=True), "o-")
    right.set_ylabel("validation NDCG@10 (history removed)", color="tab:blue")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str]) -> None:
    """``llmrec tune``."""
    parser = argparse.ArgumentParser(
        prog="llmrec tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="YAML with a `tune:` section")
    parser.add_argument("--base", type=Path, required=True, help="folder of an expanded model")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    recipe = load_yaml(arguments.recipe)
    if not isinstance(recipe.get("tune"), dict):
        raise ConfigError(f"{arguments.recipe}: has no `tune:` section of settings")
    config = build(Config, recipe["tune"], f"{arguments.recipe}: tune")
    run(config, arguments.base, arguments.dataset, arguments.out, arguments.seed)
