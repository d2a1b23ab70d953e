"""Several shops as one source: identifiers of items kept apart, customers brought together.

An item ``7`` of the shop ``food`` is ``food/7`` from here on, so that an identifier that two shops
use is two items. A customer is one person wherever the identifier is the same; where each shop has
its own, a table says who is who, and whoever is not in it is a customer of that shop alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data import raw_files
from llmrec.data.columns import WholeNumbers, as_texts, identifiers
from llmrec.data.raw_files import Chunk, files_at
from llmrec.data.reading import JoinedReading, Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import RawItem, Source
from llmrec.data.values import to_text
from llmrec.errors import DataError

_CUSTOMER_COLUMNS = ("domain", "user_id", "customer_id")
Open = Callable[[IngestConfig], Source]


def item_name(domain: str, item_id: str) -> str:
    """The identifier of an item of a shop among those of all shops.

    >>> item_name("food", "7")
    'food/7'
    """
    return f"{domain}/{item_id}"


def several_shops(config: IngestConfig, open_one: Open) -> Source:
    """The source of all shops that the settings name.

    Args:
        open_one: opens the files of one shop.

    Raises:
        DataError: if a file is missing.
    """
    parts = {config.domain: replace(config, domain="", other_domains={}, customers=None)}
    for name, files in config.other_domains.items():
        own = {key: value for key, value in vars(files).items() if value is not None}
        parts[name] = replace(parts[config.domain], **{"items": None, **own})
    sources = {name: open_one(part) for name, part in parts.items()}
    customers, more = _customers(config)
    readers: list[Callable[[], Iterable[RawItem]]] = []
    for name, source in sources.items():
        if source.items is None:
            raise DataError(
                f"other_domains.{name}: names no items; every shop needs an item file"
                if name != config.domain
                else "items: every shop needs an item file; the first one has none"
            )
        readers.append(partial(_items, name, source))
    events = [
        partial(_events, name, source, partial(open_one, parts[name]), customers)
        for name, source in sources.items()
    ]
    first = sources[config.domain]
    return replace(
        first,
        files=[*chain.from_iterable(source.files for source in sources.values()), *more],
        items=lambda: chain.from_iterable(read() for read in readers),
        events=lambda: chain.from_iterable(read() for read in events),
        item_reading=JoinedReading([source.item_reading for source in sources.values()]),
        event_reading=JoinedReading([source.event_reading for source in sources.values()]),
    )


def apart_by_column(source: Source) -> Source:
    """A source whose rows name their domain themselves, items kept apart by it."""
    events = source.events
    if source.items is None:
        raise DataError("ids_by_domain: needs an item file, whose rows name a domain")
    items = source.items
    return replace(
        source,
        items=lambda: map(_named_by_itself, items()),
        events=lambda: map(_events_by_column, events()),
    )


def _items(domain: str, source: Source) -> Iterator[RawItem]:
    assert source.items is not None
    for item in source.items():
        yield _in_domain(item, domain)


def _named_by_itself(item: RawItem) -> RawItem:
    domain = to_text(item.fields.get("domain"))
    if not domain:
        raise DataError(
            f"{item.path}: row {item.row}: names no domain; with ids_by_domain every item has one "
            "(item_columns: {domain: ...} names its column)"
        )
    return _in_domain(item, domain)


def _in_domain(item: RawItem, domain: str) -> RawItem:
    item_id = to_text(item.fields.get("item_id"))
    if not item_id:  # refused later, where every missing identifier is
        return item
    whole = item_id.removesuffix(".0") if item_id.removesuffix(".0").isdigit() else item_id
    return replace(
        item, fields={**item.fields, "item_id": item_name(domain, whole), "domain": domain}
    )


def _events(
    domain: str,
    source: Source,
    again: Callable[[], Source],
    customers: Mapping[tuple[str, str], str] | None,
) -> Iterator[Chunk]:
    missing = source.event_reading.options.missing

    def column(name: str) -> Iterator[pa.Array]:
        return (identifiers(chunk.columns[name], missing) for chunk in again().events())

    whole = {name: WholeNumbers(partial(column, name)) for name in ("user_id", "item_id")}
    for chunk in source.events():
        users, items = (
            whole[name].shortened(identifiers(chunk.columns[name], missing))
            for name in ("user_id", "item_id")
        )
        if customers is not None:
            users = _renamed(users, domain, customers)
        items = _prefixed(pa.repeat(pa.scalar(domain), len(items)), items)
        yield Chunk(chunk.path, chunk.rows, {**chunk.columns, "user_id": users, "item_id": items})


def _events_by_column(chunk: Chunk) -> Chunk:
    domains = pc.utf8_trim_whitespace(as_texts(chunk.columns["domain"]))
    missing = pc.fill_null(pc.equal(domains, ""), True).to_numpy(zero_copy_only=False)
    if missing.any():
        row = int(chunk.rows[int(missing.argmax())])
        raise DataError(
            f"{chunk.path}: row {row}: names no domain; with ids_by_domain every event has one "
            "(event_columns: {domain: ...} names its column)"
        )
    items = _prefixed(domains, identifiers(chunk.columns["item_id"]))
    columns = {name: values for name, values in chunk.columns.items() if name != "domain"}
    return Chunk(chunk.path, chunk.rows, {**columns, "item_id": items})


def _prefixed(domains: pa.Array, items: pa.Array) -> pa.Array:
    """``domain/item`` of every row, null where there is no item."""
    return pc.binary_join_element_wise(domains, items, "/")


def _renamed(users: pa.Array, domain: str, customers: Mapping[tuple[str, str], str]) -> pa.Array:
    """Customers by the name that all shops share; one that is not in the table, by the shop's."""
    encoded = users.dictionary_encode()
    names = [
        None if name is None else customers.get((domain, name), f"{domain}/{name}")
        for name in encoded.dictionary.to_pylist()
    ]
    return pa.array(names, pa.string()).take(encoded.indices)


def _customers(config: IngestConfig) -> tuple[dict[tuple[str, str], str] | None, list[Path]]:
    """Customers by domain and the shop's identifier, and the files that say so.

    Raises:
        DataError: for a row of an unknown domain, or a customer of a shop that is two people.
    """
    if config.customers is None:
        return None, []
    files, reading = files_at(config.customers), Reading(config.user_reading)
    required = {name: "customers: needs it" for name in _CUSTOMER_COLUMNS}
    known = {config.domain, *config.other_domains}
    found: dict[tuple[str, str], str] = {}
    for path in files:
        for row, cells in raw_files.rows(path, list(_CUSTOMER_COLUMNS), required, reading):
            domain, user, customer = (to_text(cells.get(name)) for name in _CUSTOMER_COLUMNS)
            if domain not in known:
                raise DataError(
                    f"{path}: row {row}: domain {domain!r} is not one of {', '.join(sorted(known))}"
                )
            if found.setdefault((domain, user), customer) != customer:
                raise DataError(
                    f"{path}: row {row}: user {user!r} of {domain} is customer {customer!r} here "
                    f"and {found[domain, user]!r} before; keep one row"
                )
    return found, files
