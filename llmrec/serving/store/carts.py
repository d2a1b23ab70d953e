"""Carts of a store, and answers to requests that may come again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select

from llmrec.serving.store.tables import CARTS, REPLIES


def put(connection: Connection, cart_id: str, cart: dict[str, Any], until: float) -> None:
    """Store a cart in place of what was there.

    Args:
        until: seconds since 1970 UTC, after which it is no longer there.
    """
    connection.execute(delete(CARTS).where(CARTS.c.cart_id == cart_id))
    connection.execute(CARTS.insert(), {"cart_id": cart_id, "cart": cart, "until": until})


def find(connection: Connection, cart_id: str, now: float) -> dict[str, Any] | None:
    """A cart; None where there is none, or none any longer."""
    mine = (CARTS.c.cart_id == cart_id) & (CARTS.c.until > now)
    found: dict[str, Any] | None = connection.scalar(select(CARTS.c.cart).where(mine))
    return found


def remove(connection: Connection, cart_id: str) -> None:
    """Remove a cart, if there is one."""
    connection.execute(delete(CARTS).where(CARTS.c.cart_id == cart_id))


def remove_expired(connection: Connection, now: float) -> None:
    """Remove carts and replies whose time is over."""
    for table in (CARTS, REPLIES):
        connection.execute(delete(table).where(table.c.until <= now))


def put_reply(
    connection: Connection, key: str, digest: str, reply: dict[str, Any], until: float
) -> None:
    """Keep the answer to a request under the key that it came with."""
    row = {"key": key, "digest": digest, "reply": reply, "until": until}
    connection.execute(delete(REPLIES).where(REPLIES.c.key == key))
    connection.execute(REPLIES.insert(), row)


def find_reply(connection: Connection, key: str, now: float) -> tuple[str, dict[str, Any]] | None:
    """The digest of the request of a key, and its answer; None for a new key."""
    mine = (REPLIES.c.key == key) & (REPLIES.c.until > now)
    row = connection.execute(select(REPLIES.c.digest, REPLIES.c.reply).where(mine)).first()
    return None if row is None else (row.digest, row.reply)
