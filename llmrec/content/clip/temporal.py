"""``llmrec train temporal``: a temporal encoder of videos, for what only motion shows.

    llmrec train temporal --dataset runs/shop/dataset --media-root data/media \\
        --image-model runs/clip --field motion --out runs/temporal

CLIP encodes the frames of every video; a temporal encoder with a linear head learns to classify the
field's values, and so does the baseline, the same head on the mean of the frames. The folder holds
``temporal.safetensors``, which ``llmrec embed media --temporal`` takes, and in its manifest the
accuracy of each on the videos that were left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.config import as_dict
from llmrec.content.clip.settings import TemporalConfig
from llmrec.content.features.media import scan_media
from llmrec.content.features.modalities import MODALITIES, EmbedMediaConfig, MediaEncoders
from llmrec.content.media.source import MediaSource
from llmrec.data.dataset import Dataset
from llmrec.data.item_lists import left_out_items
from llmrec.errors import CatalogError
from llmrec.jsonl import write_jsonl
from llmrec.stage import Manifest, StageRun, input_hashes, run_stage

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
) -> Path:
    """Train a temporal encoder on the videos of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        media_root: where paths of the catalogue start.
        leave_out: file of items that are not learned from, but measured on.
        seed: of everything drawn.

    Raises:
        CatalogError: if no video has a value of the field, or all have the same.
        ConfigError, DataError: as :func:`llmrec.content.clip.run.run`.
    """
    shop = Dataset(dataset)
    left_out = left_out_items(shop, leave_out)
    media = EmbedMediaConfig(
        modalities=("video",),
        image_model=config.image_model,
        frames=config.frames,
        workers=config.workers,
        device=config.device,
    )
    source = MediaSource.beside(out, media_root, media.limits)
    _, files = scan_media(Path(dataset) / "items.parquet", media.modalities, media_root)
    inputs = input_hashes(dataset=dataset, leave_out=leave_out) | {"files": files}
    inputs |= MODALITIES["video"].load().input_hashes(media)
    settings = {k: v for k, v in as_dict(config).items() if k not in ("workers", "device")}

    def work(run: StageRun) -> None:
        _train(run, config, MediaEncoders(media, source), shop, left_out, seed)
        print(_summary(run.counts, config.field))

    return run_stage(out, Manifest(STAGE, settings, inputs, seed=seed), work, resume=True)


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
    encoders: MediaEncoders,
    shop: Dataset,
    left_out: np.ndarray,
    seed: int,
) -> None:
    from llmrec.content.clip.temporal_training import frame_vectors, train_and_classify

    rows, videos, values = labelled_videos(shop, config.field)
    work = run.folder / "work"
    work.mkdir(exist_ok=True)
    frames = frame_vectors(encoders, videos, work / FRAMES_FILE)
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
    encoder, predicted = train_and_classify(frames, labels, train, test, config, len(names), seed)
    encoder.save(run.folder / TEMPORAL)
    predictions = [
        {
            "item_id": shop.item_ids[rows[place]],
            "truth": names[labels[place]],
            **{pooling: names[found[number]] for pooling, found in predicted.items()},
        }
        for number, place in enumerate(test)
    ]
    write_jsonl(run.folder / PREDICTIONS, predictions)
    run.counts.update(trained_on=len(train), measured_on=len(test), skipped=len(frames.skipped))
    run.counts["skipped_reasons"] = sorted(set(frames.skipped.values()))[:5]
    if len(test):
        for pooling, found in predicted.items():
            run.counts[f"accuracy_{pooling}"] = float((found == labels[test]).mean())
        run.counts["majority"] = float(np.bincount(labels[test]).max() / len(test))
    shutil.rmtree(work)


def _summary(counts: dict[str, Any], field: str) -> str:
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
