"""Events of a store: what people did, each once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, cast, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from llmrec.serving.store.tables import EVENTS
from llmrec.types import EVENT_TYPES

# Beside what models are trained on: the words of a search, and what came after a purchase, such
# as a repair. They are kept, but are no part of a history.
SEARCH, AFTER_SERVICE = "search", "after_service"
STORED_TYPES = (*EVENT_TYPES, SEARCH, AFTER_SERVICE)
PURCHASE = "purchase"
HOUR = 3600.0
_AT_ONCE = 10_000  # rows that are read together
_OF_HISTORY = (EVENTS.c.item_id, EVENTS.c.type, EVENTS.c.timestamp, EVENTS.c.rating)
# statements that are made once, since to make one takes as long as to run it
_ADD = {
    dialect: insert(EVENTS)
    .on_conflict_do_nothing(index_elements=[EVENTS.c.event_id])
    .returning(EVENTS.c.event_id)
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_OF_USER = (
    select(*_OF_HISTORY)
    .where(EVENTS.c.user_id == bindparam("user_id"), EVENTS.c.type.in_(EVENT_TYPES))
    .order_by(EVENTS.c.timestamp.desc(), EVENTS.c.number.desc())
)
_NEWEST_OF_USER = _OF_USER.limit(bindparam("newest"))


@dataclass(frozen=True)
class StoredEvent:
    """One thing a user did.

    Attributes:
        event_id: the shop's own; an event of the same one is not stored again.
        type: one of :data:`STORED_TYPES`.
        timestamp: seconds since 1970 UTC.
        item_id: None for a search.
        text: of a review, or the words of a search.
        recommendation_id: of the list that the item was chosen from.
        revenue: of a purchase, what was paid; None where it is not known.
    """

    event_id: str
    user_id: str
    type: str
    timestamp: float
    item_id: str | None = None
    rating: float | None = None
    text: str = ""
    session: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    recommendation_id: str | None = None
    revenue: float | None = None


def add(connection: Connection, events: Sequence[StoredEvent]) -> set[str]:
    """Store events whose ids are new.

    Args:
        events: of different ids.

    Returns:
        ids of those that were stored.
    """
    if not events:
        return set()
    return set(connection.scalars(_ADD[connection.dialect.name], [asdict(e) for e in events]))


def of_user(connection: Connection, user_id: str, newest: int | None = None) -> list[Any]:
    """Item, type, timestamp and rating of the events of a history, oldest first.

    Args:
        newest: at most so many.
    """
    given = {"user_id": user_id, "newest": newest}
    rows = connection.execute(_OF_USER if newest is None else _NEWEST_OF_USER, given)
    return list(rows)[::-1]


def of_users(connection: Connection) -> Iterator[tuple[str, list[Any]]]:
    """Every user's events, as :func:`of_user` has them."""
    order = EVENTS.c.user_id, EVENTS.c.timestamp, EVENTS.c.number
    every = select(EVENTS.c.user_id, *_OF_HISTORY).where(EVENTS.c.type.in_(EVENT_TYPES))
    rows = connection.execution_options(yield_per=_AT_ONCE).execute(every.order_by(*order))
    for user_id, own in groupby(rows, lambda row: row.user_id):
        yield user_id, list(own)


def newest(connection: Connection) -> int:
    """The number of the event that came last; 0 for none."""
    return connection.scalar(select(func.max(EVENTS.c.number))) or 0


def since(connection: Connection, number: int) -> list[Any]:
    """Number, id and user of the events that came after one."""
    columns = EVENTS.c.number, EVENTS.c.event_id, EVENTS.c.user_id
    return list(connection.execute(select(*columns).where(EVENTS.c.number > number)))


def users(connection: Connection) -> set[str]:
    """Everybody who has events."""
    return set(connection.scalars(select(EVENTS.c.user_id).distinct()))


def counts(connection: Connection, user_id: str) -> dict[str, int]:
    """How many events of each type a user has."""
    of = select(EVENTS.c.type, func.count()).where(EVENTS.c.user_id == user_id)
    return {name: count for name, count in connection.execute(of.group_by(EVENTS.c.type))}


def people_by_hour(
    connection: Connection, since: float, until: float
) -> list[tuple[str, int, int]]:
    """Item, hour since 1970 and how many people chose it in that hour."""
    hour = cast(EVENTS.c.timestamp / HOUR, Integer)  # PostgreSQL rounds, SQLite cuts
    people = func.count(EVENTS.c.user_id.distinct())
    chosen = EVENTS.c.type.in_([name for name in EVENT_TYPES if name != "return"])
    within = EVENTS.c.timestamp.between(since, until)
    found = (
        select(EVENTS.c.item_id, hour, people)
        .where(within, chosen)
        .group_by(EVENTS.c.item_id, hour)
    )
    return [tuple(row) for row in connection.execute(found)]


def bought_with(connection: Connection, item_ids: Sequence[str], seconds: float) -> dict[str, int]:
    """People who bought an item within some seconds of one of others, by item."""
    own, beside = EVENTS.alias("own"), EVENTS.alias("beside")
    near = func.abs(beside.c.timestamp - own.c.timestamp) <= seconds
    pairs = own.join(beside, (beside.c.user_id == own.c.user_id) & near)
    found = (
        select(beside.c.item_id, func.count(own.c.user_id.distinct()))
        .select_from(pairs)
        .where(own.c.item_id.in_(item_ids), own.c.type == PURCHASE)
        .where(beside.c.type == PURCHASE, beside.c.item_id.not_in(item_ids))
        .group_by(beside.c.item_id)
    )
    return {item_id: count for item_id, count in connection.execute(found)}


def users_before(connection: Connection, time: float) -> list[str]:
    """Users who have events before a time."""
    old = select(EVENTS.c.user_id).where(EVENTS.c.timestamp < time).distinct()
    return list(connection.scalars(old))


def remove(connection: Connection, user_id: str) -> int:
    """Remove a user's events; how many they were."""
    return connection.execute(delete(EVENTS).where(EVENTS.c.user_id == user_id)).rowcount


def remove_before(connection: Connection, time: float) -> int:
    """Remove the events before a time; how many they were."""
    return connection.execute(delete(EVENTS).where(EVENTS.c.timestamp < time)).rowcount
