"""``llmrec prefer``: tune an adapter to what people prefer and a shop wants.

    llmrec prefer RECIPE.yaml --base DIR --adapter DIR --dataset DIR --out DIR

The base is a folder of llmrec model expand or llmrec train, or ``base/`` in the result of llmrec
tune; the adapter is one on it, such as ``adapter/`` beside it, or none, which begins a fresh
one. ``method: dpo`` learns from pairs of the log, ``method: grpo`` from rewards for items that the
model draws through the catalogue's trie. The result holds ``adapter/`` for the same base,
``log.json`` and ``training.png``; its manifest says what was served before and after, to
validation users. A killed run goes on from its last checkpoint when it is started again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from llmrec.config import as_dict, build_section
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError, require
from llmrec.loop.noise import hush
from llmrec.loop.stopping import exit_if_stopped, on_sigterm
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, run_stage
from llmrec.training.preference.settings import PreferConfig

__all__ = ["PreferConfig", "main", "run"]


def run(
    config: PreferConfig,
    base: Path,
    adapter: Path | None,
    dataset: Path,
    out: Path,
    impressions: Path | None = None,
    seed: int = 0,
) -> Path:
    """Tune, or find it done.

    Args:
        base: folder of an expanded model.
        adapter: folder of an adapter on it; None begins a fresh one.
        dataset: folder of the ingest stage.
        out: the result's folder.
        impressions: lists that were shown, for ``dpo`` with ``negatives: shown``.

    Raises:
        ConfigError, DataError, ArtifactError: before any training, where something does not fit.
        LlmrecError: if the loss stops being a number.
        Stopped: if the run was asked to stop.
    """
    _check_impressions(config, impressions)
    inputs = {"dataset": folder_hash(dataset)}
    folders = {"base": base, "base/item_ids": base / "item_ids"}
    if adapter is not None:
        folders["adapter"] = adapter
    for name, folder in folders.items():
        for path in sorted(folder.glob("*")):
            if path.suffix in (".json", ".safetensors", ".bin"):
                inputs[f"{name}/{path.name}"] = file_hash(path)
    if impressions is not None:
        inputs["impressions"] = file_hash(impressions)
    manifest = Manifest("prefer", as_dict(config), inputs, seed=seed)

    def work(stage: StageRun) -> None:
        _prefer(config, base, adapter, Dataset(dataset), impressions, stage, seed)

    with on_sigterm():
        return run_stage(out, manifest, work, resume=True)


def _check_impressions(config: PreferConfig, impressions: Path | None) -> None:
    if impressions is None:
        return
    if config.method != "dpo" or config.dpo.negatives != "shown":
        raise ConfigError(
            "--impressions: are read for method: dpo with dpo.negatives: shown; leave them out"
        )
    if not impressions.is_file():
        raise DataError(f"--impressions: {impressions} is no file")


def _prefer(
    config: PreferConfig,
    base: Path,
    adapter: Path | None,
    dataset: Dataset,
    impressions: Path | None,
    stage: StageRun,
    seed: int,
) -> None:
    import torch

    hush()
    for package in ("trl", "peft"):
        require(package, "tune")
    from llmrec.training.preference.work import Work
    from llmrec.training.tune.memory import advised, most_memory_mib

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("prefer: runs in one process; start it without accelerate launch")
    if config.loop.precision == "bf16" and not torch.cuda.is_available():
        raise ConfigError("loop.precision: bf16 needs a GPU, and there is none; set fp32")
    started = time.monotonic()
    work = Work.prepare(config, base, adapter, dataset, impressions, stage.folder, seed)
    with advised():
        log = work.tune()
    stage.counts.update(
        work.counts,
        train_seconds=round(time.monotonic() - started, 1),
        peak_mib=most_memory_mib(),
    )
    (stage.folder / "log.json").write_text(json.dumps(log, indent=1))
    plot_log(log, stage.folder / "training.png")
    tracking = stage.folder / "work" / config.method / "runs"
    if tracking.is_dir():
        shutil.move(tracking, stage.folder / "tracking")
    shutil.rmtree(stage.folder / "work")


def plot_log(log: list[dict[str, Any]], path: Path) -> None:
    """What training followed, and what was served before and after, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    followed = "expected_reward" if any("expected_reward" in e for e in log) else "loss"
    lines = [(entry["step"], entry[followed]) for entry in log if followed in entry]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    left.plot(*zip(*lines, strict=True), color="tab:gray")
    left.set_xlabel("step")
    left.set_ylabel(followed.replace("_", " ") + " while training")
    names = [name for name in log[0] if name.startswith("validation_")]
    for shift, entry, label in ((-0.2, log[0], "before"), (0.2, log[-1], "after")):
        places = [place + shift for place in range(len(names))]
        right.bar(places, [entry[name] for name in names], 0.4, label=label)
    shown = [name.removeprefix("validation_").removeprefix("reward_") for name in names]
    right.set_xticks(range(len(names)), shown, rotation=30)
    right.set_ylabel("validation users, what is served")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str]) -> None:
    """``llmrec prefer``."""
    parser = argparse.ArgumentParser(
        prog="llmrec prefer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="YAML with a `prefer:` section")
    parser.add_argument("--base", type=Path, required=True, help="folder of an expanded model")
    parser.add_argument("--adapter", type=Path, help="where it starts (default: a fresh one)")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--impressions", type=Path, help="JSONL of lists that were shown (dpo)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    config = build_section(PreferConfig, arguments.recipe, "prefer")
    with exit_if_stopped():
        run(
            config,
            arguments.base,
            arguments.adapter,
            arguments.dataset,
            arguments.out,
            arguments.impressions,
            arguments.seed,
        )
