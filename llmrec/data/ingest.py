"""Raw files -> dataset folder: ``llmrec ingest RECIPE.yaml``.

Reads any of the formats in :mod:`llmrec.data.sources`, filters, orders and splits, and writes the
folder that :mod:`llmrec.data.dataset` describes. It streams: texts stay on disk and an event costs
33 bytes of memory. Filters run in this order, and the manifest counts what each dropped: no user
or item, type, unknown item, rating, no time, exact duplicate, repeated item, k-core.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.config import as_dict, build, load_recipe
from llmrec.data import splitting
from llmrec.data.catalogue import Catalogue
from llmrec.data.event_log import EventLog, EventTable, Rules, write_events
from llmrec.data.settings import IngestConfig
from llmrec.data.sources import Source, open_source
from llmrec.data.text_spill import TextSpill
from llmrec.errors import ConfigError, DataError
from llmrec.stage import Manifest, StageRun, file_hash, run_stage

Counts = dict[str, Any]
_SPLITS = ("train", "validation", "test")  # by code


def run(config: IngestConfig, out: str | Path, seed: int = 0) -> Path:
    """Make the dataset folder ``out``, unless it is up to date.

    Args:
        seed: orders events of one user that share a timestamp.

    Raises:
        DataError: if the data cannot be read or nothing is left of it.
        ArtifactError: if ``out`` cannot be written.
    """
    source = open_source(config)
    inputs = {str(path): _hash(path) for path in source.files}
    manifest = Manifest("ingest", as_dict(config), inputs, seed=seed)
    return run_stage(out, manifest, lambda stage: _ingest(config, source, stage, seed))


def _ingest(config: IngestConfig, source: Source, stage: StageRun, seed: int) -> None:
    spill = stage.folder / "spill"
    spill.mkdir()
    catalogue = _read_items(config, source, spill / "items")
    texts = TextSpill(spill)
    log = _read_events(config, source, catalogue, texts)
    counts: Counts = {"events_read": log.read}
    events = log.table()
    times_known = _order(events, config, counts, log)
    _filter(events, config, times_known, log)
    if not len(events):
        raise DataError(_nothing_left(config, log))
    if times_known:
        events.take(splitting.shuffle_ties(events.user, events.time, seed))
    split = _split(events, config, times_known)
    if times_known:
        counts["ties"] = _count_ties(events, split)
    _write(events, split, config, source, catalogue, log, stage, texts, counts)
    shutil.rmtree(spill)


def _read_items(config: IngestConfig, source: Source, spill: Path) -> Catalogue:
    keep_first = source.from_amazon
    if config.duplicate_items is not None:
        keep_first = config.duplicate_items == "first"
    catalogue = Catalogue(spill, config.list_separator, keep_first, config.media_files)
    if source.items is not None:
        for item in source.items():
            catalogue.add(item)
        if not catalogue.index:
            raise DataError(f"{config.items}: holds no items; check the file")
    catalogue.end()
    return catalogue


def _read_events(
    config: IngestConfig, source: Source, catalogue: Catalogue, texts: TextSpill
) -> EventLog:
    rules = Rules(
        default_type=config.default_type or source.default_type,
        type_names=config.type_names,
        event_types=tuple(config.event_types),
        min_rating=config.min_rating,
        timestamp_unit=config.timestamp_unit,
        unknown_items="add" if source.items is None else config.unknown_items,
    )
    log = EventLog(rules, catalogue.index, texts)
    for chunk in source.events():
        log.add(chunk)
    if not log.read:
        raise DataError(f"{config.events}: holds no events; check the file")
    return log


def _order(events: EventTable, config: IngestConfig, counts: Counts, log: EventLog) -> bool:
    """Sort by user, then time; say whether times are known."""
    timeless = np.isnan(events.time)
    if timeless.all():
        if config.split == "global-time" and len(events):
            raise DataError(
                f"{config.events}: no event has a usable time; "
                "set split: leave-one-out, which then follows the order of the file"
            )
        counts["order"] = "no times in the data: the order of the file was kept"
        events.take(splitting.time_order(events.user, None))
        return False
    counts["order"] = "by time; events of one user at one time are shuffled"
    log.dropped["no_time"] = int(timeless.sum())
    if timeless.any():
        events.take(np.flatnonzero(~timeless))
    events.take(splitting.time_order(events.user, events.time))
    return True


def _filter(events: EventTable, config: IngestConfig, times_known: bool, log: EventLog) -> None:
    if config.duplicates != "keep" and times_known:
        e = events
        equal = splitting.exact_duplicates(e.user, e.item, e.kind, e.time, e.rating)
        log.dropped["duplicate"] = int(equal.sum())
        events.take(np.flatnonzero(~equal))
    if config.duplicates == "first-per-item":
        first = splitting.first_per_item(events.user, events.item)
        log.dropped["repeated_item"] = int((~first).sum())
        events.take(np.flatnonzero(first))
    if config.k_core > 1:
        core, _ = splitting.k_core(events.user, events.item, config.k_core)
        log.dropped["outside_core"] = int((~core).sum())
        events.take(np.flatnonzero(core))


def _split(events: EventTable, config: IngestConfig, times_known: bool) -> np.ndarray:
    if config.split == "leave-one-out":
        return splitting.leave_one_out(events.user)
    split = splitting.global_time(events.time, config.validation_share, config.test_share)
    shares = (1.0, config.validation_share, config.test_share)
    for code, share in enumerate(shares):
        if share > 0 and not (split == code).any():
            raise DataError(
                f"{config.events}: split: global-time leaves no {_SPLITS[code]} events of "
                f"{len(events)}; change validation_share and test_share, or use leave-one-out"
            )
    return split


def _count_ties(events: EventTable, split: np.ndarray) -> Counts:
    with_previous, with_any = splitting.ties(events.user, events.time)
    crossing = np.flatnonzero(with_previous)
    crossing = crossing[split[crossing] != split[crossing - 1]]
    users = len(np.unique(events.user))
    tied_users = len(np.unique(events.user[with_any]))
    return {
        "events": int(with_any.sum()),
        "events_share": round(float(with_any.mean()), 6),
        "users": tied_users,
        "users_share": round(tied_users / users, 6),
        "users_tied_across_splits": len(np.unique(events.user[crossing])),
    }


def _write(
    events: EventTable,
    split: np.ndarray,
    config: IngestConfig,
    source: Source,
    catalogue: Catalogue,
    log: EventLog,
    stage: StageRun,
    texts: TextSpill,
    counts: Counts,
) -> None:
    drop_unseen = config.drop_unseen_items
    if drop_unseen is None:
        drop_unseen = source.from_amazon
    events.user, users = splitting.compact(events.user, len(log.users))
    seen = len(np.unique(events.item))
    # of items that only events name, those without a kept event are never catalogue rows
    always = np.arange(0 if drop_unseen else catalogue.described)
    events.item, items = splitting.compact(events.item, len(catalogue.index), always)
    catalogue.write(stage.folder / "items.parquet", items)
    _write_users(stage.folder / "users.parquet", log.users, users)
    write_events(stage.folder / "events.parquet", events, split, texts)
    stage.counts.update(
        users=len(users),
        items=len(items),
        events=len(events),
        **{name: int((split == code).sum()) for code, name in enumerate(_SPLITS)},
        **counts,
        items_without_events=len(items) - seen,
        dropped={reason: n for reason, n in log.dropped.items() if n},
        unknown_types=dict(log.unknown_types),
        times_unusable=log.bad_times,
        ratings_unusable=log.bad_ratings,
        **catalogue.counts,
    )


def _write_users(path: Path, codes: dict[str, int], kept: np.ndarray) -> None:
    keep = np.zeros(len(codes), dtype=bool)
    keep[kept] = True
    names: Iterator[str] = (name for name, kept_user in zip(codes, keep, strict=True) if kept_user)
    pq.write_table(pa.table({"user_id": pa.array(names, pa.string())}), path)


def _nothing_left(config: IngestConfig, log: EventLog) -> str:
    dropped = ", ".join(f"{n} {reason}" for reason, n in log.dropped.items() if n)
    fix = "lower k_core" if log.dropped["outside_core"] else "check the columns and the filters"
    return f"{config.events}: no events left of {log.read} (dropped: {dropped}); {fix}"


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def main(argv: list[str]) -> None:
    """``llmrec ingest RECIPE.yaml`` or ``llmrec ingest --events FILE --out DIR``."""
    parser = argparse.ArgumentParser(
        prog="llmrec ingest", description="Turn raw items and events into a dataset folder."
    )
    parser.add_argument(
        "recipe", nargs="?", type=Path, help="YAML file; its ingest section is used"
    )
    parser.add_argument("--out", type=Path, help="folder to write (default: the run's dataset/)")
    parser.add_argument("--format", help="table, sequences, movielens or amazon-2014/2018/2023")
    parser.add_argument("--events", help="event file or folder")
    parser.add_argument("--items", help="item file or folder")
    parser.add_argument("--split", help="leave-one-out or global-time")
    parser.add_argument("--k-core", type=int, help="least events a user and an item must have")
    parser.add_argument("--seed", type=int, help="orders events with equal times (default: 0)")
    args = parser.parse_args(argv)
    section: Counts = {}
    seed, out, where = args.seed or 0, args.out, "llmrec ingest"
    if args.recipe:
        recipe, folder = load_recipe(args.recipe)
        section, where = recipe.get("ingest", {}), f"{args.recipe}: ingest"
        seed = recipe.get("seed", 0) if args.seed is None else args.seed
        out = out or folder / "dataset"
    if out is None:
        raise ConfigError("llmrec ingest: name the folder to write with --out")
    flags = {name: getattr(args, name) for name in ("format", "events", "items", "split", "k_core")}
    given = {name: value for name, value in flags.items() if value is not None}
    run(build(IngestConfig, {**section, **given}, where), out, seed)
