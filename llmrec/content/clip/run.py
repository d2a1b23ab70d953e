"""``llmrec train clip``: a CLIP for a shop, from its own pictures and words; no hub is needed.

    llmrec train clip --dataset runs/shop/dataset --media-root data/media --out runs/clip

By default two pretrained towers that pip brought, EfficientNet-Lite0 and MiniLM, are locked and
only their projections learn (LiT, Zhai et al. 2022): seconds after one pass over the pictures.
``--size vit-micro`` learns everything from nothing instead, for pictures unlike any photograph, and
for a tower that a LLaVA can take over. Where a CLIP of millions of pictures can be had, it knows
more: ``llmrec embed media --image-model ViT-B-32:laion2b_s34b_b79k``.

The folder is one that open_clip opens, and ``--image-model`` takes; ``metrics.jsonl`` has the loss
and the validation of each epoch, ``loss.png`` draws them, ``skipped.jsonl`` lists the pictures that
could not be used, with reasons.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.config import as_dict
from llmrec.content.clip.settings import LIT, ClipConfig
from llmrec.content.features.media import scan_media
from llmrec.content.features.models import weights_hash
from llmrec.content.media.download import MediaLimits
from llmrec.content.media.source import FileStamps, MediaSource
from llmrec.content.schema import Schema, load_schema
from llmrec.data.dataset import Dataset
from llmrec.data.item_lists import left_out_items
from llmrec.errors import CatalogError, ConfigError
from llmrec.jsonl import write_jsonl
from llmrec.loop.plot import plot_log
from llmrec.stage import Manifest, StageRun, input_hashes, run_stage

STAGE = "train-clip"
_SPEED_SETTINGS = ("device", "workers")


def run(
    config: ClipConfig,
    dataset: Path,
    out: Path,
    *,
    media_root: Path | None = None,
    leave_out: Path | None = None,
    seed: int = 0,
) -> Path:
    """Train a CLIP on the pictures of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        media_root: where paths of the catalogue start.
        leave_out: file of items that are not used (:func:`read_item_list`).
        seed: of everything drawn.

    Raises:
        CatalogError: if there are no pictures, or too few that can be used.
        ConfigError: if the schema or a path is wrong.
        DataError: if the list of items to leave out cannot be read or names an unknown one.
    """
    shop = Dataset(dataset)
    left_out = left_out_items(shop, leave_out)
    source = MediaSource.beside(out, media_root, MediaLimits())
    scan_media(Path(dataset) / "items.parquet", ("image",), media_root)  # for what it refuses
    rows, values = _with_pictures(shop, left_out, media_root, config.views)
    stamps = FileStamps(media_root)
    for value in values:
        stamps.add("image", value)
    settings = {k: v for k, v in as_dict(config).items() if k not in _SPEED_SETTINGS}
    inputs = input_hashes(dataset=dataset, leave_out=leave_out) | {"files": stamps.hexdigest()}
    if config.size == LIT:
        inputs["image_tower"] = weights_hash(config.lit.image_tower)
        inputs["text_tower"] = weights_hash(config.lit.text_tower)
    schema = known_schema(config, shop)
    if schema is not None:
        settings["schema"] = schema.as_dict()

    def work(run: StageRun) -> None:
        _train(run, config, shop, schema, rows, values, source, seed, Path(out))
        run.counts["left_out"] = int(left_out.sum())
        print(_summary(run.counts))

    return run_stage(out, Manifest(STAGE, settings, inputs, seed=seed), work, resume=True)


def known_schema(config: ClipConfig, shop: Dataset) -> Schema | None:
    """The schema's fields that texts name; None where the catalogue has none of them.

    Raises:
        ConfigError: if a field is not in the schema.
    """
    schema = load_schema(config.schema)
    unknown = [name for name in config.fields if name not in schema.fields]
    if unknown:
        raise ConfigError(
            f"fields: {unknown[0]!r} is not in the schema {config.schema!r}; it has "
            f"{', '.join(schema.names)}"
        )
    fields = {}
    for name in config.fields:
        try:
            one = Schema({name: schema.fields[name]}).resolved(shop)
        except ConfigError:  # a catalogue without this field: its titles are left
            continue
        fields[name] = one.fields[name]
    return Schema(fields) if fields else None


def _train(
    run: StageRun,
    config: ClipConfig,
    shop: Dataset,
    schema: Schema | None,
    rows: np.ndarray,
    values: list[Any],
    source: MediaSource,
    seed: int,
    out: Path,
) -> None:
    from llmrec.content.clip.kinds import prepare
    from llmrec.content.clip.texts import Texts
    from llmrec.content.clip.training import ClipTrainer

    work = run.folder / "work"
    work.mkdir(exist_ok=True)
    learner = prepare(config, values, source, work, seed)
    skipped = learner.skipped
    items = [shop.item(int(row)) for row in rows]
    known = [schema.known(item) if schema else {} for item in items]
    texts = Texts([item.title for item in items], known, config.fields, config.title_share)
    usable = texts.described
    usable[list(skipped)] = False
    train, validation = _split(np.flatnonzero(usable), rows, config.validation_share, seed)
    if len(train) < 2:
        raise CatalogError(
            f"{shop.folder}: {len(train)} pictures can be learned from, 2 are needed; "
            f"{len(skipped)} could not be used"
        )
    config = replace(config, batch_size=min(config.batch_size, len(train)))
    trainer = ClipTrainer(
        learner.clip,
        learner.tokenize,
        learner.pictures,
        texts,
        train,
        validation,
        config,
        seed,
        work / "checkpoint",
    )
    log = trainer.run().log
    learner.save(run.folder, out)
    write_jsonl(run.folder / "metrics.jsonl", log)
    accuracies = [name for name in log[-1] if name.startswith("accuracy_")]
    panels = {"loss": ["loss"], "validation accuracy": accuracies}
    plot_log(log, run.folder / "loss.png", panels, x="epoch")
    reasons = [
        {"item": items[row].item_id, "field": "image", "reason": reason}
        for row, reason in sorted(skipped.items())
    ]
    write_jsonl(run.folder / "skipped.jsonl", reasons)
    run.counts.update(trained_on=len(train), validated_on=len(validation), skipped=len(skipped))
    run.counts.update(log[-1])
    shutil.rmtree(work)


def _with_pictures(
    shop: Dataset, left_out: np.ndarray, root: Path | None, views: int
) -> tuple[np.ndarray, list[Any]]:
    """Item and source of every picture to learn from, an item's own one first."""
    rows, values = [], []
    for row, value in enumerate(shop.items["image"].to_pylist()):
        if value and not left_out[row]:
            found = [value, *_further_views(value, root, views)]
            rows += [row] * len(found)
            values += found
    return np.array(rows, dtype=int), values


def _further_views(value: Any, root: Path | None, views: int) -> list[str]:
    if not isinstance(value, str) or "://" in value or root is None:
        return []
    own = Path(value)
    named = [str(own.with_name(f"{own.stem}-{n}{own.suffix}")) for n in range(2, views + 1)]
    return list(takewhile(lambda name: (root / name).is_file(), named))


def _split(
    pictures: np.ndarray, rows: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures to learn from and to validate on; all of an item are on one side.

    Args:
        pictures: int, those that can be used.
        rows: int, the item of every picture.
    """
    drawn = np.random.default_rng(seed).permutation(np.unique(rows[pictures]))
    held_out = np.isin(rows[pictures], drawn[: int(len(drawn) * share)])
    return pictures[~held_out], pictures[held_out]


def _summary(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    right = ", ".join(
        f"{name.removeprefix('accuracy_')} {value:.0%}"
        for name, value in counts.items()
        if name.startswith("accuracy_")
    )
    skipped = f", {counts['skipped']} skipped (see skipped.jsonl)" if counts["skipped"] else ""
    return f"{STAGE}: {counts['trained_on']} pictures{skipped}; right in validation: {right or '-'}"
