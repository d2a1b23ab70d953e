"""``llmrec tune``: fine-tune an expanded base on a mixture of tasks.

    llmrec tune RECIPE.yaml --base DIR --dataset DIR --out DIR

The base is a folder that llmrec model expand or llmrec train wrote. First the rows of new tokens
may be aligned with everything else frozen, and written into the base; then an adapter (lora,
qlora) or the whole model (full) is trained. The result holds ``base/`` and ``adapter/``, or
``model/`` after a full run, and ``log.json`` and ``training.png``. A killed run is resumed from its
last checkpoint when it is started again, and one that gets SIGTERM writes a checkpoint first.
Several processes train in parallel under ``accelerate launch -m llmrec tune ...``.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from llmrec.config import as_dict
from llmrec.data import raw_files
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.jsonl import read_json
from llmrec.loop.cached import cached_json
from llmrec.loop.graceful_stop import stop_on_sigterm
from llmrec.loop.plot import plot_log
from llmrec.loop.tracking import describe_run, keep_logs, tracked
from llmrec.stage import (
    MANIFEST,
    Manifest,
    StageRun,
    input_hashes,
    is_current,
    run_stage,
    write_manifest,
)
from llmrec.training.model_inputs import is_earlier_model, model_hashes
from llmrec.training.tune.settings import TuneConfig

if TYPE_CHECKING:
    from llmrec.training.tune.processes import Processes


def run(
    config: TuneConfig,
    base: Annotated[Path, tyro.conf.arg(aliases=("--from",))],
    dataset: Path,
    out: Path,
    adapter: Path | None = None,
    features: Path | None = None,
    seed: int = 0,
) -> Path:
    """Fine-tune an expanded base; a finished run is found, a killed one resumed.

    Args:
        config: settings.
        base: folder of an expanded model; it may know other items than the dataset has. For the
            task instructions alone, any chat model: its short name, folder or hub id.
        dataset: folder of llmrec ingest.
        out: the result's folder.
        adapter: folder of an adapter on the base to go on from; a fresh one by default.
        features: folder of llmrec embed, for items that the base does not know.
        seed: of weights, examples and validation users.

    Raises:
        ConfigError, DataError: before any training, where a setting does not fit base or data.
        LlmrecError: if the loss stops being a number.
        Stopped: after a request to stop.
    """
    from llmrec.training.tune.processes import Processes

    processes = Processes.join()
    settings = as_dict(config)
    if processes.count > 1:  # a step learns from a batch of each
        settings["processes"] = processes.count
    inputs = input_hashes(dataset=dataset, features=features) | model_hashes(base)
    if adapter is not None:
        inputs |= model_hashes(adapter, "adapter")
    if config.instructions is not None:
        inputs |= raw_files.input_hashes("instructions", config.instructions)
    manifest = Manifest("tune", settings, inputs, seed=seed)

    def work(stage: StageRun) -> None:
        described = describe_run(manifest.config, manifest.inputs, seed)
        if _knows_no_items(config, base):
            plain = (base, adapter, Dataset(dataset))
            _tune_plain(config, plain, stage, seed, processes, described)
            return
        given = (base, adapter, Dataset(dataset), features)
        _tune(config, given, stage, seed, processes, described)
        for part in ("base", "model"):
            if processes.first and (stage.folder / part).is_dir():
                write_manifest(stage.folder / part, replace(manifest, counts={}))

    with stop_on_sigterm():
        if not processes.first:
            if not processes.broadcast(None):
                work(StageRun(out.parent / f".{out.name}.part", {}))
        elif processes.broadcast(is_current(out, manifest)):
            print(f"tune: up to date in {out}")
        else:
            run_stage(out, manifest, work, resume=True)
    processes.leave()
    return out


def _tune(
    config: TuneConfig,
    given: tuple[Path, Path | None, Dataset, Path | None],
    stage: StageRun,
    seed: int,
    processes: Processes,
    described: dict[str, Any],
) -> None:
    from transformers.utils.logging import disable_progress_bar

    from llmrec.training.tune.memory import explain_out_of_memory
    from llmrec.training.tune.training_run import TuneRun

    disable_progress_bar()  # of reading and writing weights, beside the one that counts
    # the manifest to be, of its counts alone: written when everything else is there
    draft = stage.folder / MANIFEST
    if not processes.first:
        processes.barrier()  # until the first one has checked everything
    elif draft.is_file():
        stage.counts |= read_json(draft)["counts"]
    else:
        _check_method(config, processes.sharded)
    run = None
    if not draft.is_file():
        run = TuneRun(config, *given, stage.folder, seed, processes)
    if processes.first:
        processes.barrier()
    if run is not None:
        started = time.monotonic()
        reports = config.loop.report_to if processes.first else "none"
        run.progress.write(run.summary())
        with explain_out_of_memory(), tracked(reports, stage.folder, described):
            log = run.tune(run.align())
        if not processes.first:
            return
        stage.counts |= run.counts | {
            "validation_ndcg_before": _validation(log, "", 0),
            "validation_ndcg": _validation(log, "tune", run.counts["kept_step"]),
            "train_seconds": round(time.monotonic() - started, 1),
        }
        (stage.folder / "log.json").write_text(json.dumps(log, indent=1))
        panels = {
            "training loss": ["loss"],
            "validation NDCG@10 (history removed)": ["validation_ndcg@10"],
        }
        plot_log(log, stage.folder / "training.png", panels)
        keep_logs(stage.folder / "work", stage.folder)
        cached_json(draft, lambda: {"counts": stage.counts})
    if processes.first:
        shutil.rmtree(stage.folder / "work", ignore_errors=True)


def _tune_plain(
    config: TuneConfig,
    given: tuple[Path, Path | None, Dataset],
    stage: StageRun,
    seed: int,
    processes: Processes,
    described: dict[str, Any],
) -> None:
    from llmrec.training.tune.memory import explain_out_of_memory
    from llmrec.training.tune.plain import PlainRun

    _check_method(config, processes.sharded)
    run = PlainRun(config, *given, stage.folder, seed, processes)
    started = time.monotonic()
    run.progress.write(run.summary())
    reports = config.loop.report_to if processes.first else "none"
    with explain_out_of_memory(), tracked(reports, stage.folder, described):
        log = run.tune()
    if processes.first:
        stage.counts |= run.counts | {"train_seconds": round(time.monotonic() - started, 1)}
        (stage.folder / "log.json").write_text(json.dumps(log, indent=1))
        plot_log(log, stage.folder / "training.png", {"training loss": ["loss"]})
        keep_logs(stage.folder / "work", stage.folder)
        shutil.rmtree(stage.folder / "work", ignore_errors=True)


def _knows_no_items(config: TuneConfig, base: Path) -> bool:
    """Whether only chat examples are learned, by a model without item tokens."""
    learned = {name for name, weight in config.tasks.items() if weight > 0}
    return learned == {"instructions"} and not is_earlier_model(base)


def _check_method(config: TuneConfig, sharded: bool) -> None:
    """What can be known before anything is read.

    Raises:
        ConfigError: if the method or precision does not work here.
    """
    from llmrec.training.tune.trainer import check_machine

    check_machine(config.loop)
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
    """NDCG@10 at a step of a phase; an empty name is the first phase there is."""
    found: float = next(
        line["validation_ndcg@10"]
        for line in log
        if "validation_ndcg@10" in line and line["step"] == step and stage in line["stage"]
    )
    return found
