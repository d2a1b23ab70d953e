"""What conversations with the assistant have come to, by a hash of what was said in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select

from llmrec.serving.store.tables import CONVERSATIONS


def put(
    connection: Connection, key: str, user_id: str | None, state: dict[str, Any], until: float
) -> None:
    """Keep a state in place of what was there.

    Args:
        until: seconds since 1970 UTC, after which it is no longer there.
    """
    connection.execute(delete(CONVERSATIONS).where(CONVERSATIONS.c.key == key))
    row = {"key": key, "user_id": user_id, "state": state, "until": until}
    connection.execute(CONVERSATIONS.insert(), row)


def find(connection: Connection, key: str, now: float) -> dict[str, Any] | None:
    """A state; None where there is none, or none any longer."""
    mine = (CONVERSATIONS.c.key == key) & (CONVERSATIONS.c.until > now)
    found: dict[str, Any] | None = connection.scalar(select(CONVERSATIONS.c.state).where(mine))
    return found


def remove(connection: Connection, user_id: str) -> int:
    """Remove all of a person's; how many there were."""
    mine = CONVERSATIONS.c.user_id == user_id
    return int(connection.execute(delete(CONVERSATIONS).where(mine)).rowcount)


def remove_expired(connection: Connection, now: float) -> None:
    """Remove those whose time is over."""
    connection.execute(delete(CONVERSATIONS).where(CONVERSATIONS.c.until <= now))
