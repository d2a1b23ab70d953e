"""``llmrec embed media``: vectors of the pictures, videos and recordings of every item.

    llmrec embed media --dataset runs/shop/dataset --media-root data/media \\
        --out runs/shop/media_features

The columns ``image``, ``video`` and ``audio`` of the catalogue name files below ``--media-root`` or
URLs. The folder holds

* ``media.safetensors``: ``image``, ``video`` and ``speech``, float32 ``[n_items, dim]``, unit rows,
  zero where an item has none; ``image_present`` and so on, uint8 ``[n_items]``. A modality that
  no item has is left out;
* ``skipped.jsonl``: ``item``, ``field`` and ``reason`` of each file that could not be used;
* ``transcripts.jsonl``: with ``--transcribe``, ``item``, ``language``, ``text`` and ``segments``
  with ``start`` and ``end`` in seconds.

Items are embedded in shards; a killed run goes on with the next shard. What came from URLs stays in
``--cache``, beside the folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec.config import as_dict
from llmrec.content.features.modalities import (
    MODALITIES,
    EmbedMediaConfig,
    MediaEncoders,
    ModalityBlock,
)
from llmrec.content.media.source import FileStamps, MediaSource
from llmrec.content.shards import Shards, read_catalogue
from llmrec.errors import CatalogError
from llmrec.jsonl import read_jsonl, write_jsonl
from llmrec.loop.bars import ProgressBar
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, reading, run_stage

STAGE = "embed-media"
FEATURES, SKIPPED, TRANSCRIPTS = "media.safetensors", "skipped.jsonl", "transcripts.jsonl"
SHARD_ITEMS = 512
# They change how fast the stage runs, not what it writes: a retry with a smaller batch resumes.
_SPEED_SETTINGS = ("device", "batch_size", "workers")
_ATTRIBUTE = "attributes."


def load_media_features(folder: str | Path) -> dict[str, np.ndarray]:
    """Read the blocks of a finished ``embed media`` stage, by name.

    Returns:
        ``image``, ``image_present`` and so on; shapes in the module docstring.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    read_manifest(folder, STAGE)
    path = Path(folder) / FEATURES
    with reading(path, "llmrec embed media"):
        return load_file(path)


def load_transcripts(folder: str | Path | None) -> dict[str, str]:
    """The text of each recording, by item id; empty without a folder or transcripts.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    if folder is None:
        return {}
    read_manifest(folder, STAGE)
    path = Path(folder) / TRANSCRIPTS
    if not path.is_file():
        return {}
    with reading(path, "llmrec embed media"):
        return {row["item"]: row["text"] for row in read_jsonl(path) if row["text"]}


def run(
    config: EmbedMediaConfig,
    dataset: Path,
    out: Path,
    *,
    media_root: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
) -> Path:
    """Embed the media of every item of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        media_root: where paths of the catalogue start.
        cache: where downloads are kept; ``media_cache`` beside ``out`` when None.
        seed: for the manifest; nothing is drawn.

    Raises:
        CatalogError: if the dataset has no items, or none of them has media.
        ConfigError, MissingExtraError: if a model cannot be loaded, or ``media_root`` is missing.
    """
    read_manifest(dataset, "ingest")
    catalogue = Path(dataset) / "items.parquet"
    source = MediaSource.beside(out, media_root, config.limits, cache)
    counts, files = scan_media(catalogue, config.modalities, media_root)
    settings = {k: v for k, v in as_dict(config).items() if k not in _SPEED_SETTINGS}
    inputs = {"dataset": folder_hash(dataset), "files": files}
    for name in config.modalities:
        if counts[name]:
            inputs |= MODALITIES[name].load().input_hashes(config)

    def work(run: StageRun) -> None:
        _embed(run, MediaEncoders(config, source), catalogue, counts)
        print(_summary(run.counts))

    return run_stage(out, Manifest(STAGE, settings, inputs, seed=seed), work, resume=True)


def scan_media(
    catalogue: Path, modalities: Sequence[str], root: Path | None
) -> tuple[Counter[str], str]:
    """How many items, and files of each modality; and what stands for the files' contents.

    Raises:
        CatalogError: if there are no items, or no files.
        ConfigError: if files are named and no folder of media was given.
    """
    counts: Counter[str] = Counter()
    stamps = FileStamps(root)
    for shard in _shards(catalogue, modalities):
        counts["items"] += len(shard["item_id"])
        for name in modalities:
            for value in shard.get(name, ()):
                counts[name] += value is not None
                stamps.add(MODALITIES[name].source, value)
    if not counts["items"]:
        raise CatalogError(f"{catalogue}: the catalogue has no items; ingest some first")
    if not any(counts[name] for name in modalities):
        sources = ", ".join(MODALITIES[name].source for name in modalities)
        raise CatalogError(
            f"{catalogue}: no item has a value in {sources}; say at ingest which column holds what"
        )
    return counts, stamps.hexdigest()


def _shards(catalogue: Path, modalities: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """``item_id`` and each modality's files, None where there is none, some hundred items each."""
    columns = {name: MODALITIES[name].source.partition(".")[0] for name in modalities}
    wanted = ["item_id", *dict.fromkeys(columns.values())]
    for batch in read_catalogue(catalogue, SHARD_ITEMS, wanted):
        shard = {"item_id": batch["item_id"].to_pylist()}
        for name, column in columns.items():
            if column in batch.schema.names:
                values = batch[column].to_pylist()
                source = MODALITIES[name].source
                if source.startswith(_ATTRIBUTE):
                    prefix = source.removeprefix(_ATTRIBUTE) + "="
                    values = [_attribute(pairs or (), prefix) for pairs in values]
                shard[name] = [None if value in ("", b"") else value for value in values]
        yield shard


def _attribute(pairs: Sequence[str], prefix: str) -> str | None:
    return next((pair.removeprefix(prefix) for pair in pairs if pair.startswith(prefix)), None)


def _embed(run: StageRun, encoders: MediaEncoders, catalogue: Path, counts: Counter[str]) -> None:
    config = encoders.config
    wanted = [name for name in config.modalities if counts[name]]
    shards = Shards(run.folder)
    total = sum(counts[name] for name in wanted)
    with ProgressBar(total=total, unit="file", desc=STAGE) as progress:
        for number, shard in enumerate(_shards(catalogue, config.modalities)):
            if shards.has(number):
                done = sum(value is not None for name in wanted for value in shard[name])
                progress.update(done)
                progress.initial += done  # not done by this run: the rate is of what it did
                continue
            present = [n for n in wanted if any(value is not None for value in shard[n])]
            opened = {name: encoders[name] for name in present}  # before any is at work
            blocks = {
                name: encoder.encode_column(shard[name], progress.update)
                for name, encoder in opened.items()
            }
            with shards.writing(number) as folder:
                _write_shard(folder, shard["item_id"], blocks, config.transcribe)
    _join(run, shards, counts, config)
    shards.remove()


def _write_shard(
    folder: Path, item_ids: list[str], blocks: dict[str, ModalityBlock], transcribe: bool
) -> None:
    tensors = {name: block.vectors for name, block in blocks.items()}
    tensors |= {f"{name}_present": block.present for name, block in blocks.items()}
    save_file(tensors, folder / FEATURES)
    skipped = [
        {"item": item_ids[row], "field": MODALITIES[name].source, "reason": reason}
        for name, block in blocks.items()
        for row, reason in block.skipped
    ]
    write_jsonl(folder / SKIPPED, skipped)
    if transcribe:
        transcripts = [
            {"item": item_ids[row], **transcript}
            for block in blocks.values()
            for row, transcript in block.transcripts
        ]
        write_jsonl(folder / TRANSCRIPTS, transcripts)
    (folder / "items").write_text(str(len(item_ids)), encoding="utf-8")


def _join(run: StageRun, shards: Shards, counts: Counter[str], config: EmbedMediaConfig) -> None:
    """The shards' blocks and lines as one file each, and the manifest's counts."""
    blocks: dict[str, np.ndarray] = {}
    start = 0
    for folder in shards.folders():
        size = int((folder / "items").read_text(encoding="utf-8"))
        for name, part in load_file(folder / FEATURES).items():
            if name not in blocks:
                blocks[name] = np.zeros((counts["items"], *part.shape[1:]), part.dtype)
            blocks[name][start : start + size] = part
        start += size
    save_file(blocks, run.folder / FEATURES)
    for name in (SKIPPED, *([TRANSCRIPTS] if config.transcribe else [])):
        shards.join_lines(name, run.folder / name)
    run.counts["items"] = counts["items"]
    skipped = read_jsonl(run.folder / SKIPPED)
    for name in (name for name in MODALITIES if name in blocks):
        field = MODALITIES[name].source
        reasons = Counter(row["reason"] for row in skipped if row["field"] == field)
        run.counts[name] = int(blocks[f"{name}_present"].sum())
        run.counts[f"{name}_dim"] = blocks[name].shape[1]
        run.counts[f"{name}_skipped"] = sum(reasons.values())
        run.counts[f"{name}_reasons"] = dict(reasons.most_common(5))


def _summary(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    parts = []
    for name in (name for name in MODALITIES if name in counts):
        skipped = counts[f"{name}_skipped"]
        note = f" ({skipped} skipped, see {SKIPPED})" if skipped else ""
        parts.append(f"{name} {counts[name]}{note}")
    return f"{STAGE}: {counts['items']} items: {', '.join(parts)}"
