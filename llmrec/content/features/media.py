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

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from llmrec.config import as_dict, build, load_yaml
from llmrec.content.features.media_catalogue import scan, shards
from llmrec.content.features.media_config import COLUMNS, MODALITIES, EmbedMediaConfig
from llmrec.content.features.media_work import Encoders, ShardBlock
from llmrec.content.media.source import MediaSource
from llmrec.errors import ArtifactError, ConfigError
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, read_manifest, run_stage

STAGE = "embed-media"
FEATURES, SKIPPED, TRANSCRIPTS = "media.safetensors", "skipped.jsonl", "transcripts.jsonl"
# They change how fast the stage runs, not what it writes: a retry with a smaller batch resumes.
_SPEED_SETTINGS = ("device", "batch_size", "workers")


def load_media_features(folder: str | Path) -> dict[str, np.ndarray]:
    """Read the blocks of a finished ``embed media`` stage, by name.

    Returns:
        ``image``, ``image_present`` and so on; shapes in the module docstring.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    read_manifest(folder, STAGE)
    path = Path(folder) / FEATURES
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); run llmrec embed media again"
        ) from None


def load_transcripts(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What is said in the recordings, by item id; empty when nothing was transcribed.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    read_manifest(folder, STAGE)
    path = Path(folder) / TRANSCRIPTS
    if not path.is_file():
        return {}
    try:
        return {row["item"]: row for row in _read_lines(path)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); run llmrec embed media again"
        ) from None


def run(
    config: EmbedMediaConfig,
    dataset: Path,
    out: Path,
    *,
    media_root: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Path:
    """Embed the media of every item of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        media_root: where paths of the catalogue start.
        cache: where downloads are kept; ``media_cache`` beside ``out`` when None.
        seed: for the manifest; nothing is drawn.
        log: takes the lines that tell how it went.

    Raises:
        CatalogError: if the dataset has no items, or none of them has media.
        ConfigError, MissingExtraError: if a model cannot be loaded, or ``media_root`` is missing.
    """
    read_manifest(dataset, "ingest")
    catalogue = Path(dataset) / "items.parquet"
    if media_root is not None and not Path(media_root).is_dir():
        raise ConfigError(f"--media-root: {media_root} is no folder")
    counts, files = scan(catalogue, config, media_root)
    settings = {k: v for k, v in as_dict(config).items() if k not in _SPEED_SETTINGS}
    inputs = {"dataset": folder_hash(dataset), "files": files, **_model_hashes(config, counts)}
    manifest = Manifest(STAGE, settings, inputs, seed=seed)
    keep = cache if cache is not None else Path(out).parent / "media_cache"
    source = MediaSource(media_root, keep, config.limits)
    encoders = Encoders(config, source)

    def work(run: StageRun) -> None:
        _embed(run, encoders, catalogue, counts)
        log(_told(run.counts))

    return run_stage(out, manifest, work, resume=True, log=log)


def _model_hashes(config: EmbedMediaConfig, counts: Counter[str]) -> dict[str, str]:
    from llmrec.content.features.image_encoder import weights_hash

    hashes = {}
    if counts["image"] or counts["video"]:
        hashes["image_model"] = weights_hash(config.image_model)
    if counts["speech"]:
        hashes["speech_model"] = weights_hash(config.speech_model)
    if config.temporal is not None:
        if not Path(config.temporal).is_file():
            raise ConfigError(f"temporal: {config.temporal}: no such file")
        hashes["temporal"] = file_hash(config.temporal)
    return hashes


def _embed(run: StageRun, encoders: Encoders, catalogue: Path, counts: Counter[str]) -> None:
    config = encoders.config
    wanted = [m for m in config.modalities if counts[m]]
    if config.transcribe and "speech" in wanted and not encoders.speech.can_transcribe:
        raise ConfigError(
            f"transcribe: {config.speech_model!r} is only an audio encoder; give a Whisper with "
            "its decoder, or do without transcripts"
        )
    folder = run.folder / "shards"
    folder.mkdir(exist_ok=True)
    with tqdm(total=sum(counts[m] for m in wanted), unit="file", desc=STAGE) as progress:
        for number, shard in enumerate(shards(catalogue, config.modalities)):
            path = folder / f"{number:06d}"
            if path.is_dir():
                done = sum(v is not None for m in wanted for v in shard[m])
                progress.update(done)
                progress.initial += done  # not done by this run: the rate is of what it did
                continue
            present = [m for m in wanted if any(value is not None for value in shard[m])]
            blocks: dict[str, ShardBlock] = {
                m: encoders.block(m, shard[m], progress.update) for m in present
            }
            _write_shard(path, shard["item_id"], blocks, config.transcribe)
    _join(run, folder, counts, config)
    shutil.rmtree(folder)


def _write_shard(
    path: Path, item_ids: list[str], blocks: dict[str, ShardBlock], transcribe: bool
) -> None:
    unfinished = path.with_name(f".{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    tensors = {name: block.vectors for name, block in blocks.items()}
    tensors |= {f"{name}_present": block.present for name, block in blocks.items()}
    save_file(tensors, unfinished / FEATURES)
    skipped = [
        {"item": item_ids[row], "field": COLUMNS[name], "reason": reason}
        for name, block in blocks.items()
        for row, reason in block.skipped
    ]
    _write_lines(unfinished / SKIPPED, skipped)
    if transcribe:
        said = [
            {"item": item_ids[row], **asdict(transcript)}
            for block in blocks.values()
            for row, transcript in block.transcripts
        ]
        _write_lines(unfinished / TRANSCRIPTS, said)
    (unfinished / "items").write_text(str(len(item_ids)), encoding="utf-8")
    os.replace(unfinished, path)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(lines, encoding="utf-8")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:  # str.splitlines would break at U+2028 too
        return [json.loads(line) for line in file]


def _join(run: StageRun, folder: Path, counts: Counter[str], config: EmbedMediaConfig) -> None:
    """The shards' blocks and lines as one file each, and the manifest's counts."""
    parts = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    blocks: dict[str, np.ndarray] = {}
    start = 0
    for shard in parts:
        size = int((shard / "items").read_text(encoding="utf-8"))
        for name, part in load_file(shard / FEATURES).items():
            if name not in blocks:
                blocks[name] = np.zeros((counts["items"], *part.shape[1:]), part.dtype)
            blocks[name][start : start + size] = part
        start += size
    save_file(blocks, run.folder / FEATURES)
    for name in (SKIPPED, *([TRANSCRIPTS] if config.transcribe else [])):
        with open(run.folder / name, "wb") as whole:
            for shard in parts:
                whole.write((shard / name).read_bytes())
    run.counts["items"] = counts["items"]
    skipped = _read_lines(run.folder / SKIPPED)
    for modality in (m for m in MODALITIES if m in blocks):
        reasons = Counter(row["reason"] for row in skipped if row["field"] == COLUMNS[modality])
        run.counts[modality] = int(blocks[f"{modality}_present"].sum())
        run.counts[f"{modality}_dim"] = blocks[modality].shape[1]
        run.counts[f"{modality}_skipped"] = sum(reasons.values())
        run.counts[f"{modality}_reasons"] = dict(reasons.most_common(5))


def _told(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    parts = []
    for modality in (m for m in MODALITIES if m in counts):
        skipped = counts[f"{modality}_skipped"]
        note = f" ({skipped} skipped, see {SKIPPED})" if skipped else ""
        parts.append(f"{modality} {counts[modality]}{note}")
    return f"{STAGE}: {counts['items']} items: {', '.join(parts)}"


def main(argv: list[str]) -> None:
    """The command line of ``llmrec embed media``."""
    parser = argparse.ArgumentParser(
        prog="llmrec embed media", description="Vectors of every item's pictures, videos and sound."
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--media-root", type=Path, help="folder that paths of the catalogue are in")
    parser.add_argument("--cache", type=Path, help="folder to keep what comes from URLs")
    parser.add_argument("--config", type=Path, help="YAML file with the settings below")
    parser.add_argument("--modalities", help=f"separated by commas, among {','.join(MODALITIES)}")
    parser.add_argument("--image-model", help="NAME:PRETRAINED, NAME:FILE, hf-hub:... or a folder")
    parser.add_argument("--temporal", help="file of a trained temporal encoder (default: the mean)")
    parser.add_argument("--frames", type=int, help="frames of a video to look at")
    parser.add_argument("--frame-choice", help="even (default) or scenes")
    parser.add_argument("--speech-model", help="a Whisper: name, file or folder")
    parser.add_argument("--transcribe", action=argparse.BooleanOptionalAction)
    parser.add_argument("--language", help="what is spoken, such as en (default: heard)")
    parser.add_argument("--audio-seconds", type=float, help="of a recording, how much is heard")
    parser.add_argument("--max-pixels", type=int, help="pictures with more are skipped")
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", help="auto (default), float32, bfloat16, float16")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int, help="threads that fetch and decode")
    parser.add_argument("--seed", type=int, default=0)
    args = vars(parser.parse_args(argv))
    places = ("dataset", "out", "media_root", "cache", "seed", "config")
    dataset, out, media_root, cache, seed, path = (args.pop(name) for name in places)
    settings = load_yaml(path) if path else {}
    settings.update({name: value for name, value in args.items() if value is not None})
    if isinstance(settings.get("modalities"), str):
        settings["modalities"] = settings["modalities"].split(",")
    config = build(EmbedMediaConfig, settings, str(path or "llmrec embed media"))
    run(config, dataset, out, media_root=media_root, cache=cache, seed=seed)
