"""``llmrec prefer``: tune an adapter to preferences of users and goals of a shop.

    llmrec prefer RECIPE.yaml --base DIR --adapter DIR --dataset DIR --out DIR

The base is a folder of llmrec model expand or llmrec train, or ``base/`` in the result of llmrec
tune; the adapter is one on it, such as ``adapter/`` beside it, or none, which begins a fresh
one. ``method: dpo`` learns from pairs of the log, ``method: grpo`` from rewards of items that are
sampled through the catalogue's trie. The result holds ``adapter/`` for the same base, ``log.json``
and ``training.png``; its manifest compares what validation users are served before and after. A
killed run is resumed from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from llmrec.config import as_dict
from llmrec.data import raw_files
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.loop.graceful_stop import stop_on_sigterm
from llmrec.loop.plot import plot_log
from llmrec.loop.tracking import describe_run, keep_logs, tracked
from llmrec.stage import Manifest, StageRun, input_hashes, run_stage
from llmrec.training.model_inputs import model_hashes
from llmrec.training.preference.settings import PreferConfig


def run(
    config: PreferConfig,
    base: Path,
    dataset: Path,
    out: Path,
    adapter: Path | None = None,
    impressions: Path | None = None,
    seed: int = 0,
) -> Path:
    """Tune an adapter to preferences; a finished run is found, a killed one resumed.

    Args:
        config: settings.
        base: folder of an expanded model.
        dataset: folder of llmrec ingest.
        out: the result's folder.
        adapter: folder of an adapter on the base to start from; a fresh one by default.
        impressions: log of lists that were shown, for ``dpo`` with ``negatives: shown``.
        seed: of weights, rollouts and validation users.

    Raises:
        ConfigError, DataError, ArtifactError: before any training, where something does not fit.
        LlmrecError: if the loss stops being a number.
        Stopped: after a request to stop.
    """
    _check_impressions(config, impressions)
    inputs = input_hashes(dataset=dataset) | model_hashes(base)
    if impressions is not None:
        inputs |= raw_files.input_hashes("impressions", impressions)
    if adapter is not None:
        inputs |= model_hashes(adapter, "adapter")
    manifest = Manifest("prefer", as_dict(config), inputs, seed=seed)

    def work(stage: StageRun) -> None:
        from llmrec.training.tune.trainer import check_machine

        check_machine(config.loop)
        from llmrec.training.preference.training_run import PreferRun
        from llmrec.training.tune.memory import explain_out_of_memory, most_memory_mib

        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError("prefer: runs in one process; start it without accelerate launch")
        started = time.monotonic()
        training = PreferRun(
            config, base, adapter, Dataset(dataset), impressions, stage.folder, seed
        )
        described = describe_run(manifest.config, manifest.inputs, seed)
        with (
            explain_out_of_memory(),
            tracked(config.loop.report_to, stage.folder, described),
        ):
            log = training.tune()
        stage.counts.update(
            training.counts,
            train_seconds=round(time.monotonic() - started, 1),
            peak_mib=most_memory_mib(),
        )
        (stage.folder / "log.json").write_text(json.dumps(log, indent=1))
        plot_log(log, stage.folder / "training.png", _panels(log))
        keep_logs(stage.folder / "work", stage.folder)
        shutil.rmtree(stage.folder / "work")

    with stop_on_sigterm():
        return run_stage(out, manifest, work, resume=True)


def _check_impressions(config: PreferConfig, impressions: Path | None) -> None:
    if impressions is None:
        return
    if config.method != "dpo" or config.dpo.negatives != "shown":
        raise ConfigError(
            "--impressions: are read for method: dpo with dpo.negatives: shown; leave them out"
        )


def _panels(log: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What training optimised, and what is served before and after it."""
    served = [name for name in log[0] if name.startswith("validation_")]
    rewards = [name for name in served if "reward" in name]
    return {
        "while training": ["expected_reward" if "expected_reward" in log[1] else "loss"],
        "validation: metrics of the list": [name for name in served if name not in rewards],
        "validation: rewards per item": rewards,
    }
