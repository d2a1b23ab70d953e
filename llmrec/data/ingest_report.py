"""What ``llmrec ingest`` says on the terminal: what it kept and dropped, and what looks odd."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from llmrec.data.catalogue import CatalogueWriter
from llmrec.data.drops import WARN_ABOVE
from llmrec.data.event_reader import EventReader
from llmrec.data.settings import IngestConfig
from llmrec.data.source import Source
from llmrec.errors import DataError

_SHOWN = 5  # values a line


def refuse_losses(config: IngestConfig, reader: EventReader, catalogue: CatalogueWriter) -> None:
    """Stop where most of a log would be dropped though no setting says so.

    Raises:
        DataError: with the reasons, the commonest values and what to set.
    """
    lost = reader.drops.unasked
    if lost <= config.max_dropped * reader.read:
        return
    reasons = "; ".join(reader.drops.lines(_fixes(config, reader, catalogue)))
    raise DataError(
        f"{config.events}: {lost:,} of {reader.read:,} events would be dropped: {reasons}; set "
        "max_dropped: 1 if this is as it should be"
    )


def print_report(
    config: IngestConfig,
    source: Source,
    reader: EventReader,
    catalogue: CatalogueWriter,
    counts: Mapping[str, Any],
    odd: Iterable[str],
) -> None:
    """Print the summary of a run; what needs a look goes to stderr, as a warning.

    Args:
        odd: what looks odd about the order of events.
    """
    drops, kept = reader.drops, counts["events"] + counts["other_events"]
    print(
        f"ingest: {kept:,} of {reader.read:,} events, {counts['users']:,} users, "
        f"{counts['items']:,} items"
    )
    many = drops.unasked > WARN_ABOVE * reader.read
    if many:
        share = drops.unasked / reader.read
        _warn(f"{drops.unasked:,} of {reader.read:,} events ({share:.1%}) were dropped")
    for line in drops.lines(_fixes(config, reader, catalogue)):
        (_warn if many else _say)(f"dropped {line}")
    undescribed, others = counts.get("users_not_described"), counts.get("users_not_in_log")
    if undescribed or others:
        _say(
            f"of {undescribed:,} users of the log nothing is known; {others:,} users that are "
            "described are not in the log"
        )
    untitled = counts["items_without_title"]
    if untitled:
        line = f"{untitled:,} of {counts['items']:,} items have no title; their item_id stands in"
        (_warn if untitled > WARN_ABOVE * counts["items"] else _say)(line)
    for line in [*_met(source, reader), *odd, *_of_items(catalogue)]:
        _warn(line)
    if not counts["test"]:
        _warn(f"split: {config.split} leaves no event to test on")


def _say(line: str) -> None:
    print(f"ingest: {line}")


def _warn(line: str) -> None:
    print(f"ingest: warning: {line}", file=sys.stderr)


def _met(source: Source, reader: EventReader) -> Iterable[str]:
    """What was met while reading the files."""
    for reading in (source.item_reading, source.event_reading, source.user_reading):
        yield from reading.notices()
    if reader.times.late:
        place, text = reader.times.first_late
        yield f"{reader.times.late:,} events lie in the future (the first: {place}: {text})"
    if reader.bad_times:
        yield f"{reader.bad_times:,} times are zero, negative or infinite: not known"
    if reader.bad_ratings:
        yield f"{reader.bad_ratings:,} ratings are no finite number: not known"


def _of_items(catalogue: CatalogueWriter) -> Iterable[str]:
    for field, values in catalogue.unreadable.items():
        yield f"{values.total():,} {field} cannot be read ({_shown(values)})"
    if len(catalogue.currencies) > 1:
        yield (
            f"prices are in several currencies ({_shown(catalogue.currencies)}); the numbers are "
            "kept as they are, each currency as an attribute"
        )


def _shown(values: Counter[str]) -> str:
    return ", ".join(f"{value!r} {n:,}" for value, n in values.most_common(_SHOWN))


def _fixes(config: IngestConfig, reader: EventReader, catalogue: CatalogueWriter) -> dict[str, str]:
    """What to do about dropped events, by reason."""
    missing = "event_reading: {missing: [...]} says what counts as none"
    fixes = {"no_user": missing, "no_item": missing, "duplicate": "duplicates: keep keeps them"}
    types = reader.drops.values.get("unknown_type")
    if types:
        example = types.most_common(1)[0][0]
        fixes["unknown_type"] = (
            f"known are {', '.join(config.types)}; name others, such as "
            f"type_names: {{{example}: ...}}, or declare them in own_types"
        )
    some = ", ".join(map(repr, list(catalogue.index)[:3]))
    fixes["unknown_item"] = f"the item file has {some}; unknown_items: add keeps them"
    return fixes
