"""Experiments of a store, as they were written over the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, text

from llmrec.serving.store.tables import EXPERIMENTS


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment, as it is or was.

    Attributes:
        definition: as it is written.
        created, ended: seconds since 1970 UTC; None for one that runs.
    """

    name: str
    definition: dict[str, Any]
    created: float
    ended: float | None = None


def every(connection: Connection) -> dict[str, StoredExperiment]:
    """By name, in the order in which they were made."""
    order = EXPERIMENTS.c.created, EXPERIMENTS.c.name
    rows = connection.execute(select(EXPERIMENTS).order_by(*order)).mappings()
    return {row["name"]: StoredExperiment(**row) for row in rows}


def lock(connection: Connection) -> None:
    """Let no other transaction change them until this one ends."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(text(f"LOCK TABLE {EXPERIMENTS.name} IN SHARE ROW EXCLUSIVE MODE"))


def put(connection: Connection, one: StoredExperiment) -> None:
    """Store an experiment in place of what was there."""
    connection.execute(delete(EXPERIMENTS).where(EXPERIMENTS.c.name == one.name))
    connection.execute(EXPERIMENTS.insert(), vars(one))
