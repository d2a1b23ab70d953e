"""Changed and new items of a store, each as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, text

from llmrec.serving.store.tables import CATALOGUE_ITEMS


@dataclass(frozen=True)
class StoredItem:
    """What a shop says of an item while it is served.

    Attributes:
        revision: of the catalogue in which it last changed, from 1 on.
        fields: of a row of the catalogue, those that are other than the bundle has them; all that
            is known of an item that the bundle does not have.
        removed: whether it is no longer there.
        number: of an item that the bundle did not have, in the order in which they came; None for
            one that it had.
        codes: its item ID; None for one that the bundle had.
        ids_of: the item IDs that it is one of; others give it a new one.
    """

    item_id: str
    revision: int
    fields: dict[str, Any]
    removed: bool = False
    number: int | None = None
    codes: list[int] | None = None
    ids_of: str | None = None


def revision(connection: Connection) -> int:
    """Of the newest change; 0 where nothing was changed."""
    return connection.scalar(select(func.max(CATALOGUE_ITEMS.c.revision))) or 0


def since(connection: Connection, known: int) -> list[StoredItem]:
    """Items that changed after a revision, those with a number last and in its order."""
    newer = select(CATALOGUE_ITEMS).where(CATALOGUE_ITEMS.c.revision > known)
    rows = [StoredItem(**row) for row in connection.execute(newer).mappings()]
    return sorted(rows, key=lambda row: (row.number or 0, row.item_id))


def lock(connection: Connection) -> None:
    """Let no other transaction change the catalogue until this one ends."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        mode = "SHARE ROW EXCLUSIVE"
        connection.execute(text(f"LOCK TABLE {CATALOGUE_ITEMS.name} IN {mode} MODE"))


def put(connection: Connection, items: Sequence[StoredItem]) -> None:
    """Store items of different identifiers in place of what was there."""
    if not items:
        return
    ids = [item.item_id for item in items]
    for start in range(0, len(ids), 500):
        some = CATALOGUE_ITEMS.c.item_id.in_(ids[start : start + 500])
        connection.execute(delete(CATALOGUE_ITEMS).where(some))
    connection.execute(CATALOGUE_ITEMS.insert(), [vars(item) for item in items])
