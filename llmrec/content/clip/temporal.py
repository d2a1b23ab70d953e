"""``llmrec train temporal``: what a video shows only by moving.

    llmrec train temporal --dataset runs/shop/dataset --media-root data/media \\
        --image-model runs/clip --field motion --out runs/temporal

CLIP sees the frames of every video; a temporal encoder with a linear head learns to tell the
field's values, and so does the baseline, the same head on the mean of the frames. The folder holds
``temporal.safetensors``, which ``llmrec embed media --temporal`` takes, and in its manifest how
many of the videos that were left out each of them tells.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.config import as_dict, build, build_section
from llmrec.content.clip.temporal_settings import TemporalConfig
from llmrec.content.features.media_catalogue import scan
from llmrec.content.features.media_config import EmbedMediaConfig
from llmrec.content.media.source import MediaSource
from llmrec.data.dataset import Dataset
from llmrec.data.item_lists import left_out_items
from llmrec.errors import CatalogError
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, run_stage

STAGE = "train-temporal"
TEMPORAL, PREDICTIONS = "temporal.safetensors", "predictions.jsonl"
FRAMES_FILE = "frames.safetensors"


def run(
    config: TemporalConfig,
    dataset: Path,
    out: Path,
    *,
    media_root: Path | None = None,
    leave_out: Path | None = None,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Path:
    """Train a temporal encoder on the videos of ``dataset`` into the folder ``out``.

    Args:
        leave_out: file of items that are not learned from, but measured on.

    Raises:
        CatalogError: if no video has a value of the field, or all have the same.
        ConfigError, DataError: as :func:`llmrec.content.clip.run.run`.
    """
    from llmrec.content.features.image_encoder import weights_hash

    shop = Dataset(dataset)
    left_out = left_out_items(shop, leave_out)
    media = EmbedMediaConfig(
        modalities=("video",),
        image_model=config.image_model,
        frames=config.frames,
        workers=config.workers,
        device=config.device,
    )
    _, files = scan(Path(dataset) / "items.parquet", media, media_root)
    inputs = {
        "dataset": folder_hash(dataset),
        "files": files,
        "image_model": weights_hash(config.image_model),
    }
    if leave_out is not None:
        inputs["leave_out"] = file_hash(leave_out)
    settings = {k: v for k, v in as_dict(config).items() if k not in ("workers", "device")}
    source = MediaSource(media_root, Path(out).parent / "media_cache", media.limits)

    def work(run: StageRun) -> None:
        _train(run, config, media, source, shop, left_out, seed)
        log(told(run.counts, config.field))

    return run_stage(out, Manifest(STAGE, settings, inputs, seed=seed), work, resume=True, log=log)


def labelled_videos(shop: Dataset, field: str) -> tuple[np.ndarray, list[Any], list[str]]:
    """The items that have a video and a value of a field: rows, videos and values.

    Raises:
        CatalogError: if there are none, or all have the same value.
    """
    rows, videos, values = [], [], []
    for row, video in enumerate(shop.items["video"].to_pylist()):
        value = shop.item(row).attributes.get(field) if video else None
        if value:
            rows.append(row)
            videos.append(video)
            values.append(value)
    if len(set(values)) < 2:
        raise CatalogError(
            f"{shop.folder}: {len(rows)} videos have the attribute {field!r}, with "
            f"{len(set(values))} value(s); at least two values are needed to tell apart"
        )
    return np.array(rows), videos, values


def _train(
    run: StageRun,
    config: TemporalConfig,
    media: EmbedMediaConfig,
    source: MediaSource,
    shop: Dataset,
    left_out: np.ndarray,
    seed: int,
) -> None:
    from llmrec.content.clip.temporal_training import Frames, frame_vectors, train_and_tell
    from llmrec.content.features.media_work import Encoders

    rows, videos, values = labelled_videos(shop, config.field)
    work = run.folder / "work"
    work.mkdir(exist_ok=True)
    frames: Frames = frame_vectors(Encoders(media, source), videos, work / FRAMES_FILE)
    names = sorted(set(values))
    labels = np.array([names.index(value) for value in values])
    usable = np.array([row not in frames.skipped for row in range(len(rows))])
    train = np.flatnonzero(usable & ~left_out[rows])
    test = np.flatnonzero(usable & left_out[rows])
    if len(set(labels[train])) < 2:
        raise CatalogError(
            f"{shop.folder}: {len(train)} videos are left to learn {config.field!r} from, of "
            "fewer than two values; leave out fewer items"
        )
    encoder, found = train_and_tell(frames, labels, train, test, config, len(names), seed)
    encoder.save(run.folder / TEMPORAL)
    ids = [shop.item_ids[rows[place]] for place in test]
    _write_predictions(run.folder / PREDICTIONS, ids, labels[test], found, names)
    run.counts.update(trained_on=len(train), measured_on=len(test), skipped=len(frames.skipped))
    run.counts["skipped_reasons"] = sorted(set(frames.skipped.values()))[:5]
    if len(test):
        for pooling, said in found.items():
            run.counts[f"accuracy_{pooling}"] = float((said == labels[test]).mean())
        run.counts["majority"] = float(np.bincount(labels[test]).max() / len(test))
    shutil.rmtree(work)


def _write_predictions(
    path: Path, ids: list[str], truth: np.ndarray, found: dict[str, np.ndarray], names: list[str]
) -> None:
    """Of each video that was left out: the truth, and what either pooling tells."""
    rows = [
        {"item_id": item, "truth": names[right], **{k: names[v[n]] for k, v in found.items()}}
        for n, (item, right) in enumerate(zip(ids, truth, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def told(counts: dict[str, Any], field: str) -> str:
    """The outcome in one line."""
    line = f"{STAGE}: learned {field!r} from {counts['trained_on']} videos"
    if counts["skipped"]:
        line += f", {counts['skipped']} skipped ({'; '.join(counts['skipped_reasons'])})"
    if not counts["measured_on"]:
        return line
    return (
        f"{line}; right on {counts['measured_on']} others: temporal encoder "
        f"{counts['accuracy_temporal']:.1%}, mean of the frames {counts['accuracy_mean']:.1%}, "
        f"most frequent value {counts['majority']:.1%}"
    )


def main(argv: list[str]) -> None:
    """The command line of ``llmrec train temporal``."""
    parser = argparse.ArgumentParser(
        prog="llmrec train temporal", description="What a video shows only by moving."
    )
    parser.add_argument("recipe", nargs="?", type=Path, help="YAML with a `temporal:` section")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--media-root", type=Path, help="folder that paths of the catalogue are in")
    parser.add_argument("--leave-out", type=Path, help="file of items to measure on, not to learn")
    parser.add_argument("--image-model", help="NAME:PRETRAINED, NAME:FILE, hf-hub:... or a folder")
    parser.add_argument("--field", help="attribute of items to tell (default: motion)")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    names = ("image_model", "field", "epochs")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.recipe is not None:
        config = build_section(TemporalConfig, args.recipe, "temporal", given)
    else:
        config = build(TemporalConfig, given, "llmrec train temporal")
    run(
        config,
        args.dataset,
        args.out,
        media_root=args.media_root,
        leave_out=args.leave_out,
        seed=args.seed,
    )
