"""``llmrec train multimodal``: train a multimodal LLaMA to describe items.

    llmrec train multimodal --dataset runs/shop/dataset --media-root data/media \\
        --clip runs/shop/clip --out runs/shop/multimodal

It learns the tasks of ``llmrec caption``: the closed fields as JSON, a caption, and what enhances a
catalogue, each with a target from the catalogue itself. First the projector between vision tower
and language model is trained alone; then both, the language model by LoRA (merged at the end) or in
full. Inputs are dropped at random, so that the model can do with any of picture, video, transcript
and text.

``--base`` is a size (llava-micro, -mini, -nano) for fresh weights, a folder or a hub id. The folder
is a model that transformers and vLLM load, and holds ``schema.json`` (the fields, resolved),
``metrics.jsonl`` (loss, and accuracy on items held out), ``loss.png`` and ``skipped.jsonl``. A
killed run goes on from its last checkpoint; one that gets SIGTERM writes one first.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec.captions.inputs import stamp_inputs
from llmrec.captions.prompting import TASKS
from llmrec.captions.training.settings import SPEED_SETTINGS, MultimodalConfig
from llmrec.config import as_dict
from llmrec.content.features.media import load_transcripts
from llmrec.content.features.models import weights_hash
from llmrec.content.media.source import MediaSource
from llmrec.content.schema import Schema, load_schema, save_resolved
from llmrec.data.dataset import Dataset
from llmrec.data.item_lists import left_out_items
from llmrec.errors import ConfigError
from llmrec.jsonl import write_jsonl
from llmrec.loop.graceful_stop import stop_on_sigterm
from llmrec.loop.plot import plot_log
from llmrec.prompts import load_template
from llmrec.stage import Manifest, StageRun, input_hashes, run_stage

STAGE = "train-multimodal"
SCHEMA, METRICS, SKIPPED = "schema.json", "metrics.jsonl", "skipped.jsonl"


def run(
    config: MultimodalConfig,
    dataset: Path,
    out: Path,
    *,
    media_root: Path | None = None,
    media: Path | None = None,
    leave_out: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
) -> Path:
    """Train a multimodal LLaMA on the items of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        media_root: where paths of the catalogue start.
        media: folder of ``llmrec embed media --transcribe``, for its transcripts.
        leave_out: file of items not to learn from
            (:func:`~llmrec.data.item_lists.read_item_list`).
        cache: where downloads are kept; ``media_cache`` beside ``out`` when None.
        seed: of everything drawn.

    Raises:
        CatalogError: if no item can be learned from.
        ConfigError: if a setting, the base, the CLIP or the schema does not fit.
        DataError: if the list of items to leave out cannot be used.
        LlmrecError: if the loss stops being a number.
        Stopped: if a stop was requested.
    """
    shop = Dataset(dataset)
    source = MediaSource.beside(out, media_root, config.limits, cache)
    left_out = left_out_items(shop, leave_out)
    schema = load_schema(config.schema).resolved(shop)
    config = _resolved(config)
    settings = {k: v for k, v in as_dict(config).items() if k not in SPEED_SETTINGS}
    settings["schema"] = schema.as_dict()
    words = "\n".join(load_template(task).text for task in TASKS)
    inputs = input_hashes(dataset=dataset, media=media, leave_out=leave_out) | {
        "base": weights_hash(config.base),
        "prompts": hashlib.sha256(words.encode()).hexdigest(),
        "files": stamp_inputs(shop, config.sources, media_root),
        **({"clip": weights_hash(config.clip)} if config.clip is not None else {}),
    }

    def work(stage: StageRun) -> None:
        from llmrec.captions.training.training_run import MultimodalRun

        started = time.monotonic()
        whole = MultimodalRun.prepare(
            config, shop, schema, left_out, load_transcripts(media), source, stage.folder, seed
        )
        print(whole.summary())
        lines = whole.train()
        _write(stage.folder, schema, lines, whole.skipped())
        stage.counts |= whole.counts | {"train_seconds": round(time.monotonic() - started, 1)}
        shutil.rmtree(stage.folder / "work", ignore_errors=True)
        print(_summary(stage.counts))

    with stop_on_sigterm():
        return run_stage(out, Manifest(STAGE, settings, inputs, seed=seed), work, resume=True)


def _resolved(config: MultimodalConfig) -> MultimodalConfig:
    """The same with everything chosen that depends on the base.

    Raises:
        ConfigError: if the settings do not go together.
    """
    from llmrec.captions.training.llava import SIZES

    scratch = config.base in SIZES
    for name in ("clip", "video"):
        if getattr(config, name) and not scratch:
            raise ConfigError(
                f"{name}: the base {config.base!r} has its own vision tower; take {name} out, or "
                f"one of the sizes {', '.join(SIZES)} as base"
            )
    fresh_tower = scratch and config.clip is None
    return replace(
        config,
        finetune=config.finetune.resolved(scratch=scratch, fresh_tower=fresh_tower),
        optimizer=config.optimizer or ("muon" if scratch else "adamw"),
    )


def _write(
    folder: Path,
    schema: Schema,
    lines: Sequence[dict[str, Any]],
    skipped: Sequence[dict[str, str]],
) -> None:
    save_resolved(schema, folder / SCHEMA)
    write_jsonl(folder / METRICS, lines)
    write_jsonl(folder / SKIPPED, skipped)
    accuracies = dict.fromkeys(
        name for line in lines for name in line if name.startswith("validation_accuracy_")
    )
    panels = {"loss a token": ["loss", "validation_loss"], "validation accuracy": [*accuracies]}
    plot_log(lines, folder / "loss.png", panels)


def _summary(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    parts = [f"trained on {counts['trained_on']} items"]
    if "validation_accuracy" in counts:
        parts.append(f"{counts['validation_accuracy']:.1%} of the fields of others are right")
    if counts["skipped"]:
        parts.append(f"{counts['skipped']} files skipped (see {SKIPPED})")
    return f"{STAGE}: {', '.join(parts)}"
