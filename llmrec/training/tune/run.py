"""``llmrec tune``: fine-tune an expanded base on a mixture of tasks.

    llmrec tune RECIPE.yaml --base DIR --dataset DIR --out DIR

The base is a folder that llmrec model expand or llmrec train wrote. First the rows of new tokens
may be aligned with everything else frozen, and baked into the base; then an adapter (lora,
qlora) or the whole model (full) is trained. The result holds ``base/`` and ``adapter/``, or
``model/`` after a full run, and ``log.json`` and ``training.png``. A killed run goes on from
its last checkpoint when it is started again, and one that gets SIGTERM writes a checkpoint first.
Several processes train together under ``accelerate launch -m llmrec tune ...``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec.config import as_dict, build_section
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, require
from llmrec.loop.noise import hush
from llmrec.loop.once import once
from llmrec.loop.stopping import exit_if_stopped, on_sigterm
from llmrec.stage import (
    MANIFEST,
    Manifest,
    StageRun,
    file_hash,
    folder_hash,
    is_current,
    library_versions,
    run_stage,
)
from llmrec.training.tune.settings import TuneConfig

if TYPE_CHECKING:
    from llmrec.training.tune.processes import Processes

__all__ = ["TuneConfig", "main", "run"]

_FINISHED = ".finished.json"  # the counts of a run that has only to be put in its place


def run(config: TuneConfig, base: Path, dataset: Path, out: Path, seed: int = 0) -> Path:
    """Fine-tune, or find it done.

    Args:
        base: folder of an expanded model.
        dataset: folder of the ingest stage.
        out: the result's folder.

    Raises:
        ConfigError, DataError: before any training, where a setting does not fit base or data.
        LlmrecError: if the loss stops being a number.
        Stopped: if the run was asked to stop.
    """
    from llmrec.training.tune.processes import Processes

    processes = Processes.join()
    manifest = _manifest(config, base, dataset, seed, processes.count)

    def work(stage: StageRun) -> None:
        _tune(config, base, Dataset(dataset), stage, seed, processes)
        for part in ("base", "model"):
            if processes.first and (stage.folder / part).is_dir():
                _write_manifest(stage.folder / part, replace(manifest, counts={}))

    with on_sigterm():
        if not processes.first:
            if not processes.tell(None):
                work(StageRun(out.parent / f".{out.name}.part", {}))
        elif processes.tell(is_current(out, manifest)):
            print(f"tune: up to date in {out}")
        else:
            run_stage(out, manifest, work, resume=True)
            (out / _FINISHED).unlink(missing_ok=True)
    processes.leave()
    return out


def _manifest(config: TuneConfig, base: Path, dataset: Path, seed: int, processes: int) -> Manifest:
    """What the result depends on."""
    inputs = {"dataset": folder_hash(dataset)}
    for path in sorted([*base.glob("*.json"), *base.glob("*.safetensors"), *base.glob("*.bin")]):
        inputs[f"base/{path.name}"] = file_hash(path)
    for path in sorted((base / "item_ids").glob("*")):
        inputs[f"base/item_ids/{path.name}"] = file_hash(path)
    settings = as_dict(config)
    if processes > 1:  # a step learns from a batch of each
        settings["processes"] = processes
    return Manifest("tune", settings, inputs, seed=seed)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Let a model within the result say where it comes from, as every model does."""
    manifest.libraries = library_versions()
    text = json.dumps(manifest.__dict__, indent=2, default=str)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _tune(
    config: TuneConfig,
    folder: Path,
    dataset: Dataset,
    stage: StageRun,
    seed: int,
    processes: Processes,
) -> None:
    from transformers.utils.logging import disable_progress_bar

    from llmrec.training.tune.memory import advised
    from llmrec.training.tune.work import Work

    disable_progress_bar()  # of reading and writing weights, beside the one that counts
    finished = stage.folder / _FINISHED
    if not processes.first:
        processes.wait()  # until the first one has found nothing wrong
    elif finished.is_file():
        stage.counts |= json.loads(finished.read_text(encoding="utf-8"))
    else:
        _check_machine(config, processes.sharded)
    work = None
    if not finished.is_file():
        work = Work.prepare(config, folder, dataset, stage.folder, seed, processes)
    if processes.first:
        processes.wait()
    if work is not None:
        started = time.monotonic()
        processes.say(work.summary())
        with advised():
            log = work.tune(work.align())
        if not processes.first:
            return
        stage.counts |= work.counts | {
            "validation_ndcg_before": _validation(log, "", 0),
            "validation_ndcg": _validation(log, "tune", work.counts["kept_step"]),
            "train_seconds": round(time.monotonic() - started, 1),
        }
        _write_log(log, stage.folder)
        once(finished, lambda: stage.counts)
    if processes.first:
        shutil.rmtree(stage.folder / "work", ignore_errors=True)


def _check_machine(config: TuneConfig, sharded: bool) -> None:
    """What can be known before anything is read.

    Raises:
        ConfigError: if the method or precision does not work here.
    """
    import torch

    hush()
    for package in ("trl", "peft"):
        require(package, "tune")
    if config.loop.precision == "bf16" and not torch.cuda.is_available():
        raise ConfigError("loop.precision: bf16 needs a GPU, and there is none; set fp32")
    if sharded and config.method == "qlora":
        raise ConfigError(
            "method: weights in 4 bits are not divided among processes; train qlora in one process "
            "or with training/accelerate/ddp.yaml, where each holds all of the base"
        )
    if sharded and config.align.steps > 0:
        raise ConfigError(
            "align.steps: rows of new tokens are not trained in parts of a model; align in a run "
            "of its own without FSDP or DeepSpeed, and start this one from its base/"
        )


def _validation(log: list[dict[str, Any]], stage: str, step: int) -> float:
    """NDCG@10 at a step of a stretch; of the first stretch there is where none is named."""
    found: float = next(
        line["validation_ndcg@10"]
        for line in log
        if "validation_ndcg@10" in line and line["step"] == step and stage in line["stage"]
    )
    return found


def _write_log(log: list[dict[str, Any]], folder: Path) -> None:
    (folder / "log.json").write_text(json.dumps(log, indent=1))
    plot_log(log, folder / "training.png")
    tracking = folder / "work" / "tune" / "runs"
    if tracking.is_dir():
        shutil.move(tracking, folder / "tracking")


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
    config = build_section(TuneConfig, arguments.recipe, "tune")
    with exit_if_stopped():
        run(config, arguments.base, arguments.dataset, arguments.out, arguments.seed)
