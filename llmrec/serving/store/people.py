"""People of a store: what the shop says of them, and who is to be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, select

from llmrec.serving.store.tables import FORGOTTEN, USERS


@dataclass(frozen=True)
class Profile:
    """What a shop says of a user.

    Attributes:
        profile: names and values, such as ``{"location": "Oslo"}``.
        membership: of the shop's programme, such as ``gold``.
    """

    profile: dict[str, Any] = field(default_factory=dict)
    membership: str | None = None

    def attributes(self) -> dict[str, str]:
        """Both as a click model reads them; what is null is unknown."""
        values = self.profile | {"membership": self.membership}
        return {name: str(value) for name, value in values.items() if value is not None}


def profile(connection: Connection, user_id: str) -> Profile | None:
    """What is known of a user; None for nothing."""
    columns = select(USERS.c.profile, USERS.c.membership)
    row = connection.execute(columns.where(USERS.c.user_id == user_id)).one_or_none()
    return None if row is None else Profile(row.profile, row.membership)


def put(connection: Connection, user_id: str, said: Profile) -> None:
    """Put a profile in place of what was known."""
    remove(connection, user_id)
    row = {"user_id": user_id, "profile": said.profile, "membership": said.membership}
    connection.execute(USERS.insert(), row)


def remove(connection: Connection, user_id: str) -> int:
    """Remove a user's profile; how many there were."""
    return connection.execute(delete(USERS).where(USERS.c.user_id == user_id)).rowcount


def forgotten(connection: Connection) -> set[str]:
    """Hashes of the people whose history in a dataset is not read any more."""
    return set(connection.scalars(select(FORGOTTEN.c.user_hash)))


def forget(connection: Connection, user_hash: str) -> None:
    """Keep the hash of one more."""
    connection.execute(delete(FORGOTTEN).where(FORGOTTEN.c.user_hash == user_hash))
    connection.execute(FORGOTTEN.insert(), {"user_hash": user_hash})
