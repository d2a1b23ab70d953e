"""Raw files -> dataset folder: ``llmrec ingest RECIPE.yaml --out DIR``.

Reads any of :data:`llmrec.data.settings.FORMATS`, filters, orders and splits, and writes the folder
that :mod:`llmrec.data.dataset` describes. It streams: texts stay on disk and an event costs 33
bytes of memory. Filters run in this order, and the manifest counts what each dropped: no user or
item, unknown type, unknown item, rating, no time, exact duplicate, repeated item, k-core.

All types of event are kept in one dataset. Those in ``event_types`` alone make the catalogue, the
sequences and their splits, so these are the same whatever other types a log holds.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.config import as_dict
from llmrec.data import splitting
from llmrec.data.catalogue import CatalogueWriter
from llmrec.data.dataset import OTHER_TYPE, SPLIT_CODES
from llmrec.data.event_reader import EventReader
from llmrec.data.event_table import EventTable
from llmrec.data.external_sort import ExternalSort
from llmrec.data.settings import FORMATS, IngestConfig
from llmrec.data.source import Source
from llmrec.errors import DataError
from llmrec.stage import Manifest, StageRun, file_hash, run_stage

Counts = dict[str, Any]


def run(config: IngestConfig, out: Path, seed: int = 0) -> Path:
    """Make a dataset folder out of raw items and events, unless it is up to date.

    Args:
        config: what to read and how.
        out: folder to write.
        seed: orders events of one user that share a timestamp.

    Raises:
        DataError: if the data cannot be read or nothing is left of it.
        ArtifactError: if ``out`` cannot be written.
    """
    source: Source = importlib.import_module(FORMATS[config.format]).open_source(config)
    inputs = {str(path): _hash(path) for path in source.files}
    manifest = Manifest("ingest", as_dict(config), inputs, seed=seed)
    return run_stage(out, manifest, lambda stage: _ingest(config, source, stage, seed))


def _ingest(config: IngestConfig, source: Source, stage: StageRun, seed: int) -> None:
    counts, spill = stage.counts, stage.folder / "spill"
    spill.mkdir()
    catalogue = _read_items(config, source, spill / "items")
    texts = ExternalSort(spill)
    reader = _read_events(config, source, catalogue, texts)
    counts["events_read"] = reader.read
    events = reader.table()
    user_codes, item_codes = reader.users.order(), reader.items.order()
    events.user, _ = splitting.compact(events.user, len(user_codes), user_codes)
    events.item, _ = splitting.compact(events.item, len(item_codes), item_codes)
    times_known = _sort(events, config, reader, counts)

    others = events.remove(~reader.is_learned(events.kind))
    _filter(events, config, reader)
    if not len(events):
        raise DataError(_nothing_left(config, reader, len(others)))
    if times_known:
        events.take(splitting.shuffle_ties(events.user, events.time, seed))
    split = _split(events, config)
    counts |= {name: int((split == code).sum()) for name, code in SPLIT_CODES.items()}
    if times_known:
        counts["ties"] = _count_ties(events, split)

    drop_unseen = config.drop_unseen_items
    if drop_unseen is None:
        drop_unseen = source.drop_unseen_items
    # of items that only events name, those without a kept event are never catalogue rows
    always = np.arange(0 if drop_unseen else catalogue.described)
    events.user, users = splitting.compact(events.user, len(user_codes))
    events.item, items = splitting.compact(events.item, len(item_codes), always)
    counts |= {"events": len(events), "users": len(users), "items": len(items)}
    counts["items_without_events"] = len(items) - len(np.unique(events.item))

    in_catalogue = np.isin(others.item, items)
    reader.dropped["not_in_catalogue"] = int((~in_catalogue).sum())
    others.take(np.flatnonzero(in_catalogue))
    if len(others):
        others.user, users = splitting.compact(others.user, len(user_codes), users)
        others.item, _ = splitting.compact(others.item, len(item_codes), items)
        events.append(others)
        split = np.append(split, np.full(len(others), OTHER_TYPE, split.dtype))
        order = splitting.time_order(events.user, events.time if times_known else events.row)
        events.take(order)
        split = split[order]
    counts["other_events"] = len(others)
    counts["users_without_sequence"] = len(users) - counts["users"]

    catalogue.write(stage.folder / "items.parquet", item_codes[items])
    user_ids = list(reader.users.index)
    names = pa.array([user_ids[code] for code in user_codes[users]], pa.string())
    pq.write_table(pa.table({"user_id": names}), stage.folder / "users.parquet")
    events.write(stage.folder / "events.parquet", split, texts)
    shutil.rmtree(spill)
    counts |= {
        "dropped": {reason: n for reason, n in reader.dropped.items() if n},
        "unknown_types": dict(reader.unknown_types),
        "times_unusable": reader.bad_times,
        "ratings_unusable": reader.bad_ratings,
        **catalogue.counts,
    }


def _read_items(config: IngestConfig, source: Source, spill: Path) -> CatalogueWriter:
    keep_first = (config.duplicate_items or source.duplicate_items) == "first"
    catalogue = CatalogueWriter(spill, config.list_separator, keep_first, config.media_files)
    if source.items is not None:
        for item in source.items():
            catalogue.add(item)
        if not catalogue.index:
            raise DataError(f"{config.items}: holds no items; check the file")
    catalogue.end()
    return catalogue


def _read_events(
    config: IngestConfig, source: Source, catalogue: CatalogueWriter, texts: ExternalSort
) -> EventReader:
    reader = EventReader(config, source, catalogue.index, texts)
    for chunk in source.events():
        reader.add(chunk)
    if not reader.read:
        raise DataError(f"{config.events}: holds no events; check the file")
    return reader


def _sort(events: EventTable, config: IngestConfig, reader: EventReader, counts: Counts) -> bool:
    """Sort by user, then time, without exact duplicates; return whether times are known."""
    learned = reader.is_learned(events.kind)
    timeless = np.isnan(events.time)
    if timeless[learned].all():
        if config.split == "global-time" and learned.any():
            raise DataError(
                f"{config.events}: no event has a usable time; "
                "set split: leave-one-out, which then follows the order of the file"
            )
        counts["order"] = "no times in the data: the order of the file was kept"
        events.take(splitting.time_order(events.user, events.row))
        return False
    counts["order"] = "by time; events of one user at one time are shuffled"
    reader.dropped["no_time"] = int(timeless.sum())
    if timeless.any():
        events.take(np.flatnonzero(~timeless))
    events.take(splitting.time_order(events.user, events.time))
    if config.duplicates != "keep":
        e = events
        equal = splitting.exact_duplicates(e.user, e.item, e.kind, e.time, e.rating)
        reader.dropped["duplicate"] = int(equal.sum())
        events.take(np.flatnonzero(~equal))
    return True


def _filter(events: EventTable, config: IngestConfig, reader: EventReader) -> None:
    """Drop repeated items and what is outside the k-core."""
    if config.duplicates == "first-per-item":
        first = splitting.first_per_item(events.user, events.item)
        reader.dropped["repeated_item"] = int((~first).sum())
        events.take(np.flatnonzero(first))
    if config.k_core > 1:
        core = splitting.k_core(events.user, events.item, config.k_core)
        reader.dropped["outside_core"] = int((~core).sum())
        events.take(np.flatnonzero(core))


def _split(events: EventTable, config: IngestConfig) -> np.ndarray:
    if config.split == "leave-one-out":
        return splitting.leave_one_out(events.user)
    split = splitting.global_time(events.time, config.validation_share, config.test_share)
    shares = {"train": 1.0, "validation": config.validation_share, "test": config.test_share}
    for name, share in shares.items():
        if share > 0 and not (split == SPLIT_CODES[name]).any():
            raise DataError(
                f"{config.events}: split: global-time leaves no {name} events of "
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


def _nothing_left(config: IngestConfig, reader: EventReader, others: int) -> str:
    reasons = reader.dropped | {"not_in_event_types": others}
    dropped = ", ".join(f"{n} {reason}" for reason, n in reasons.items() if n)
    fix = "lower k_core" if reasons.get("outside_core") else "check the columns and the filters"
    return f"{config.events}: no events left of {reader.read} (dropped: {dropped}); {fix}"


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
