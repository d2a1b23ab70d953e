"""``llmrec train multimodal``: teach a multimodal LLaMA to say what an item is.

    llmrec train multimodal --dataset runs/shop/dataset --media-root data/media \\
        --clip runs/shop/clip --out runs/shop/multimodal

What it learns is what ``llmrec caption`` asks: the closed fields as JSON, a caption, and what
enhances a catalogue, each answered from what the catalogue itself tells of the item. First the
projector between vision tower and language model learns alone; then both, the language model by
LoRA (merged at the end) or in full. Inputs are left out at random, so that the model can do with
any of picture, video, transcript and words.

``--base`` is a size (llava-micro, llava-nano) for fresh weights, a folder or a hub id. The folder
is a model that transformers and vLLM load, and holds ``schema.json`` (the fields, settled),
``metrics.jsonl`` (loss, and accuracy on items held back), ``loss.png`` and ``skipped.jsonl``. A
killed run goes on from its last checkpoint; one that gets SIGTERM writes one first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec.captions.asking import TASKS
from llmrec.captions.training.settings import SPEED_SETTINGS, MultimodalConfig
from llmrec.config import as_dict, build, build_section
from llmrec.content.schema import Schema, load_schema
from llmrec.data.dataset import Dataset
from llmrec.data.item_lists import left_out_items
from llmrec.errors import ConfigError
from llmrec.loop.stopping import exit_if_stopped, on_sigterm
from llmrec.prompts import load_template
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, run_stage

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
    log: Callable[[str], None] = print,
) -> Path:
    """Train a multimodal LLaMA on the items of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        media_root: where paths of the catalogue start.
        media: folder of ``llmrec embed media --transcribe``, for what recordings say.
        leave_out: file of items that are not looked at
            (:func:`~llmrec.data.item_lists.read_item_list`).
        cache: where downloads are kept; ``media_cache`` beside ``out`` when None.
        seed: of everything drawn.
        log: takes the lines that tell how it went.

    Raises:
        CatalogError: if no item can be learned from.
        ConfigError: if a setting, the base, the CLIP or the schema does not fit.
        DataError: if the list of items to leave out cannot be used.
        LlmrecError: if the loss stops being a number.
        Stopped: if the run was asked to stop.
    """
    shop = Dataset(dataset)
    if media_root is not None and not Path(media_root).is_dir():
        raise ConfigError(f"--media-root: {media_root} is no folder")
    left_out = left_out_items(shop, leave_out)
    schema = load_schema(config.schema).resolved(shop)
    scratch = _check_base(config)
    config = replace(
        config,
        second=config.second.settled(scratch=scratch, fresh_tower=_fresh_tower(config)),
        optimizer=config.optimizer or ("muon" if scratch else "adamw"),
    )
    settings = {k: v for k, v in as_dict(config).items() if k not in SPEED_SETTINGS}
    settings["schema"] = schema.as_dict()
    inputs = {"dataset": folder_hash(dataset), **_input_hashes(config, shop, media_root)}
    for name, folder in (("media", media), ("leave_out", leave_out)):
        if folder is not None:
            inputs[name] = folder_hash(folder) if folder.is_dir() else file_hash(folder)
    manifest = Manifest(STAGE, settings, inputs, seed=seed)
    keep = cache if cache is not None else Path(out).parent / "media_cache"

    def work(stage: StageRun) -> None:
        from llmrec.captions.training.work import Work
        from llmrec.content.media.source import MediaSource

        source = MediaSource(media_root, keep, config.limits)
        started = time.monotonic()
        whole = Work.prepare(
            config, shop, schema, left_out, _transcripts(media), source, stage.folder, seed
        )
        log(whole.summary())
        lines = whole.train()
        _write(stage, schema, lines, whole.skipped())
        stage.counts |= whole.counts | {"train_seconds": round(time.monotonic() - started, 1)}
        shutil.rmtree(stage.folder / "work", ignore_errors=True)
        log(_told(stage.counts))

    with on_sigterm():
        return run_stage(out, manifest, work, resume=True, log=log)


def _check_base(config: MultimodalConfig) -> bool:
    """Whether the base gets fresh weights.

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
    try:
        config.second.settled(scratch=scratch, fresh_tower=_fresh_tower(config))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return scratch


def _fresh_tower(config: MultimodalConfig) -> bool:
    from llmrec.captions.training.llava import SIZES

    return config.base in SIZES and config.clip is None


def _input_hashes(
    config: MultimodalConfig, shop: Dataset, media_root: Path | None
) -> dict[str, str]:
    """What stands for the base, the CLIP, the prompts and the pictures."""
    from llmrec.content.features.image_encoder import weights_hash
    from llmrec.content.features.media_catalogue import scan
    from llmrec.content.features.media_config import EmbedMediaConfig

    hashes = {"base": weights_hash(config.base)}
    if config.clip is not None:
        hashes["clip"] = weights_hash(config.clip)
    words = "\n".join(load_template(task).text for task in TASKS)
    hashes["prompts"] = hashlib.sha256(words.encode()).hexdigest()
    wanted = tuple(name for name in ("image", "video") if name in config.sources)
    named = [name for name in wanted if name in shop.items.column_names]
    if any(value for name in named for value in shop.items[name].to_pylist()):
        modalities: Any = wanted
        _, files = scan(shop.folder / "items.parquet", EmbedMediaConfig(modalities), media_root)
        hashes["files"] = files
    return hashes


def _transcripts(media: Path | None) -> dict[str, str]:
    if media is None:
        return {}
    from llmrec.content.features.media import load_transcripts

    return {item: row["text"] for item, row in load_transcripts(media).items() if row["text"]}


def _write(
    stage: StageRun,
    schema: Schema,
    lines: Sequence[dict[str, Any]],
    skipped: Sequence[dict[str, str]],
) -> None:
    text = json.dumps(schema.as_dict(), indent=2, ensure_ascii=False)
    (stage.folder / SCHEMA).write_text(text + "\n", encoding="utf-8")
    for name, rows in ((METRICS, lines), (SKIPPED, skipped)):
        written = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (stage.folder / name).write_text(written, encoding="utf-8")
    plot_log(lines, stage.folder / "loss.png")


def plot_log(lines: Sequence[dict[str, Any]], path: Path) -> Path:
    """The loss of both steps, and the accuracy of each field on the items held back."""
    from llmrec.metrics.plots import open_pyplot, save_figure

    pyplot = open_pyplot()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    offset = max((e["step"] for e in lines if e["stage"] == "projector"), default=0)
    placed = [(e["step"] + (offset if e["stage"] == "second" else 0), e) for e in lines]
    for key, style in (("loss", "-"), ("validation_loss", "o-")):
        points = [(step, entry[key]) for step, entry in placed if key in entry]
        if points:
            left.plot(*zip(*points, strict=True), style, label=key.replace("_", " "))
    left.set(xlabel="step", ylabel="loss a token", yscale="log")
    if left.lines:
        left.legend()
    prefix = "validation_accuracy_"
    names = dict.fromkeys(key for entry in lines for key in entry if key.startswith(prefix))
    for name in names:
        points = [(step, entry[name]) for step, entry in placed if name in entry]
        right.plot(*zip(*points, strict=True), label=name.removeprefix(prefix))
    right.set(xlabel="step", ylabel="validation accuracy", ylim=(0, 1.02))
    if right.lines:
        right.legend(fontsize="small")
    return save_figure(pyplot, figure, path)


def _told(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    parts = [f"trained on {counts['trained_on']} items"]
    if "validation_accuracy" in counts:
        parts.append(f"{counts['validation_accuracy']:.1%} of the fields of others are right")
    if counts["skipped"]:
        parts.append(f"{counts['skipped']} files skipped (see {SKIPPED})")
    return f"{STAGE}: {', '.join(parts)}"


def main(argv: list[str]) -> None:
    """The command line of ``llmrec train multimodal``."""
    parser = argparse.ArgumentParser(
        prog="llmrec train multimodal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--media-root", type=Path, help="folder that paths of the catalogue are in")
    parser.add_argument("--media", type=Path, help="folder of embed media, for its transcripts")
    parser.add_argument("--leave-out", type=Path, help="file of items not to look at")
    parser.add_argument("--cache", type=Path, help="folder to keep what comes from URLs")
    parser.add_argument("--config", type=Path, help="YAML with a `multimodal:` section")
    parser.add_argument("--base", help="llava-micro (default), llava-nano, a folder or a hub id")
    parser.add_argument("--clip", help="a CLIP whose vision tower a fresh model takes over")
    parser.add_argument(
        "--video", action=argparse.BooleanOptionalAction, help="a fresh model sees videos"
    )
    parser.add_argument("--schema", help="shop (default) or a YAML file: the closed fields")
    parser.add_argument("--device", help="auto (default), cpu, cuda")
    parser.add_argument("--seed", type=int, default=0)
    args = vars(parser.parse_args(argv))
    names = ("dataset", "out", "media_root", "media", "leave_out", "cache", "seed", "config")
    dataset, out, media_root, media, leave_out, cache, seed, path = map(args.pop, names)
    config = build_section(MultimodalConfig, path, "multimodal") if path else MultimodalConfig()
    given = {name: value for name, value in args.items() if value is not None}
    config = build(MultimodalConfig, as_dict(config) | given, "llmrec train multimodal")
    with exit_if_stopped():
        run(
            config,
            dataset,
            out,
            media_root=media_root,
            media=media,
            leave_out=leave_out,
            cache=cache,
            seed=seed,
        )
