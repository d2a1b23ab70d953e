"""Raw files -> dataset folder: ``llmrec ingest RECIPE.yaml --out DIR``.

Reads any of :data:`llmrec.data.settings.FORMATS`, filters, orders and splits, and writes the folder
that :mod:`llmrec.data.dataset` describes. It streams: texts stay on disk and an event costs 34
bytes of memory. Filters run in this order, and the manifest counts what each dropped: no user or
item, unknown type, unknown item, unreadable, rating, no time, exact duplicate, repeated item,
k-core. Where most of a log would be dropped without being asked for, it stops.

All types of event are kept in one dataset. Those in ``event_types`` alone make the catalogue, the
sequences and their splits, so these are the same whatever other types a log holds.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmrec.config import as_dict
from llmrec.data import splitting
from llmrec.data.archives import archive_of
from llmrec.data.catalogue import CatalogueWriter
from llmrec.data.columns import WholeNumbers, identifiers
from llmrec.data.dataset import OTHER_TYPE, SPLIT_CODES
from llmrec.data.event_order import name_ranks, order_events, take_baskets
from llmrec.data.event_reader import EventReader
from llmrec.data.event_table import EventTable
from llmrec.data.external_sort import ExternalSort
from llmrec.data.ingest_report import print_report, refuse_losses
from llmrec.data.raw_files import strings
from llmrec.data.settings import BASKETS, FORMATS, IngestConfig
from llmrec.data.shops import apart_by_column, several_shops
from llmrec.data.source import Source
from llmrec.data.user_table import UserAttributes, with_users, write_users
from llmrec.errors import DataError
from llmrec.files import file_hash
from llmrec.stage import Manifest, StageRun, run_stage

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
    source = open_source(config)
    inputs = {str(path): _hash(path) for path in map(archive_of, source.files)}
    manifest = Manifest("ingest", as_dict(config), inputs, seed=seed)
    return run_stage(out, manifest, lambda stage: _ingest(config, source, stage, seed))


def open_source(config: IngestConfig) -> Source:
    """The raw data that the settings name."""
    found = several_shops(config, _open_one) if config.other_domains else _open_one(config)
    if config.ids_by_domain:
        found = apart_by_column(found)
    return found if config.users is None else with_users(found, config)


def _open_one(config: IngestConfig) -> Source:
    """The raw data of one shop."""
    found: Source = importlib.import_module(FORMATS[config.format]).open_source(config)
    return found


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
    times_known = _sort(events, config, reader)
    refuse_losses(config, reader, catalogue)

    others = events.remove(~reader.is_learned(events.kind))
    _filter(events, config, reader)
    if not len(events):
        raise DataError(_nothing_left(config, reader, len(others)))
    rank = partial(name_ranks, catalogue, item_codes)
    counts["order"], odd = order_events(
        events, times_known, config.order or source.order, rank, seed
    )
    # when events happened; without times, rising with the order that they now have
    by_row = np.lexsort((events.row, events.user))
    when = events.time if times_known else events.row[by_row].astype(np.float64)
    if config.split == BASKETS:
        when, counts["baskets"], strange = take_baskets(events, when, times_known, config)
        odd += strange
    split = _split(events, config, seed)
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
    reader.drops.count("not_in_catalogue", ~in_catalogue)
    others.take(np.flatnonzero(in_catalogue))
    if len(others):
        others.user, users = splitting.compact(others.user, len(user_codes), users)
        others.item, _ = splitting.compact(others.item, len(item_codes), items)
        if others.basket is not None:
            others.basket[:] = -1
        when = np.append(when, others.time if times_known else others.row)
        events.append(others)
        split = np.append(split, np.full(len(others), OTHER_TYPE, split.dtype))
        order = splitting.time_order(events.user, when)
        events.take(order)
        split = split[order]
    counts["other_events"] = len(others)
    counts["users_without_sequence"] = len(users) - counts["users"]

    catalogue.write(stage.folder / "items.parquet", item_codes[items])
    user_ids = list(reader.users.index)
    names = [user_ids[code] for code in user_codes[users]]
    described = None
    if source.users is not None:
        missing = source.user_reading.options.missing
        described = UserAttributes(source.users(), reader.users.index, missing)
        counts |= described.counts
    write_users(stage.folder / "users.parquet", names, described)
    events.write(stage.folder / "events.parquet", split, texts, config.types)
    shutil.rmtree(spill)
    counts |= {
        "dropped": reader.drops.by_reason(),
        "unknown_types": dict(reader.drops.values.get("unknown_type", {})),
        "times_unusable": reader.bad_times,
        "times_in_future": reader.times.late,
        "ratings_unusable": reader.bad_ratings,
        "currencies": dict(catalogue.currencies),
        **catalogue.counts,
    }
    print_report(config, source, reader, catalogue, counts, odd)


def empty_catalogue(config: IngestConfig, source: Source, spill: Path) -> CatalogueWriter:
    """A catalogue that is to be written as the settings say.

    Args:
        spill: a file to keep the rows in until they are written.
    """
    keep_first = (config.duplicate_items or source.duplicate_items) == "first"
    return CatalogueWriter(
        spill,
        config.list_separator,
        keep_first,
        config.media_files,
        source.item_reading,
        WholeNumbers(partial(_item_ids, config)),
    )


def _read_items(config: IngestConfig, source: Source, spill: Path) -> CatalogueWriter:
    catalogue = empty_catalogue(config, source, spill)
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
    reader = EventReader(config, source, catalogue.index, texts, partial(open_source, config))
    for chunk in source.events():
        reader.add(chunk)
    reader.count_skipped()
    if not reader.read:
        raise DataError(f"{config.events}: holds no events; check the file")
    if config.timestamp_unit == "auto" and config.timestamp_format is None:
        reader.times.check()
    return reader


def _item_ids(config: IngestConfig) -> Iterator[pa.Array]:
    """The identifiers of the item file, read once more."""
    source = open_source(config)
    assert source.items is not None  # an item led here
    names = strings([item.fields.get("item_id") for item in source.items()])
    yield identifiers(names, source.item_reading.options.missing)


def _sort(events: EventTable, config: IngestConfig, reader: EventReader) -> bool:
    """Sort by user, then time, without exact duplicates; return whether times are known."""
    learned = reader.is_learned(events.kind)
    timeless = np.isnan(events.time)
    if timeless[learned].all():
        if config.split == "global-time" and learned.any():
            raise DataError(
                f"{config.events}: no event has a usable time; "
                "set split: leave-one-out, which then follows the order of the file"
            )
        # given splits of several files are in the order of time, whatever the files' names
        events.take(np.lexsort((events.row, events.split, events.user)))
        return False
    reader.drops.count("no_time", timeless)
    if timeless.any():
        events.take(np.flatnonzero(~timeless))
    events.take(splitting.time_order(events.user, events.time))
    if config.duplicates != "keep":
        e = events
        equal = splitting.exact_duplicates(e.user, e.item, e.kind, e.time, e.rating)
        reader.drops.count("duplicate", equal)
        events.take(np.flatnonzero(~equal))
    return True


def _filter(events: EventTable, config: IngestConfig, reader: EventReader) -> None:
    """Drop repeated items and what is outside the k-core."""
    if config.duplicates == "first-per-item":
        first = splitting.first_per_item(events.user, events.item)
        reader.drops.count("repeated_item", ~first)
        events.take(np.flatnonzero(first))
    if config.k_core > 1:
        core = splitting.k_core(events.user, events.item, config.k_core)
        reader.drops.count("outside_core", ~core)
        events.take(np.flatnonzero(core))


def _split(events: EventTable, config: IngestConfig, seed: int) -> np.ndarray:
    shares = {"train": 1.0, "validation": config.validation_share, "test": config.test_share}
    if config.split == "leave-one-out":
        return splitting.leave_out(events.user)
    if config.split == BASKETS:
        assert events.basket is not None
        return splitting.leave_out_baskets(events.user, events.basket)
    if config.split == "leave-k-out":
        return splitting.leave_out(events.user, config.leave_k)
    if config.split == "given":
        split, shares, fix = events.split, {"train": 1.0, "test": 1.0}, "check what it is given by"
    else:
        fix = "change validation_share and test_share, or use leave-one-out"
        both = config.validation_share, config.test_share
        if config.split == "random":
            split = splitting.at_random(len(events), *both, seed)
        else:
            split = splitting.global_time(events.time, *both)
    for name, share in shares.items():
        if share > 0 and not (split == SPLIT_CODES[name]).any():
            raise DataError(
                f"{config.events}: split: {config.split} leaves no {name} events of "
                f"{len(events)}; {fix}"
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
    reasons = reader.drops.by_reason() | {"not_in_event_types": others}
    dropped = ", ".join(f"{n} {reason}" for reason, n in reasons.items() if n)
    fix = "lower k_core" if reasons.get("outside_core") else "check the columns and the filters"
    return f"{config.events}: no events left of {reader.read} (dropped: {dropped}); {fix}"


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
