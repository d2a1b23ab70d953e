"""API keys of a store: of each a hash, so that whoever reads the store cannot use them.

A key is ``llmrec_ID_SECRET``. Its secret has 256 random bits, so one round of SHA-256 hides it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from llmrec.errors import ConfigError
from llmrec.serving.store.tables import API_KEYS

# ADMIN stands for all of them
READ, EVENTS, CATALOGUE, ADMIN = SCOPES = ("read", "events", "catalogue", "admin")
_PREFIX = "llmrec"
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        key_id: names it.
        name: what its owner calls it.
        created, revoked: seconds since 1970 UTC; None for one that is still good.
    """

    key_id: str
    name: str
    secret_hash: str
    scopes: tuple[str, ...]
    created: float
    revoked: float | None = None

    def may(self, scope: str) -> bool:
        """Whether it is good for a scope."""
        return self.revoked is None and (scope in self.scopes or ADMIN in self.scopes)


def create(connection: Connection, name: str, scopes: Sequence[str]) -> tuple[ApiKey, str]:
    """Make and store a key.

    Returns:
        it, and its text, which is kept nowhere.

    Raises:
        ConfigError: for a scope that there is not, or none.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        wrong = f"{unknown[0]!r} is no scope" if unknown else "give at least one"
        raise ConfigError(f"--scopes: {wrong}; there is {', '.join(SCOPES)}")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = ApiKey(key_id, name, _hash(secret), tuple(dict.fromkeys(scopes)), time.time())
    connection.execute(API_KEYS.insert(), vars(key) | {"scopes": list(key.scopes)})
    return key, f"{_PREFIX}_{key_id}_{secret}"


def every(connection: Connection) -> list[ApiKey]:
    """All keys, revoked ones too, in the order in which they were made."""
    rows = connection.execute(select(API_KEYS).order_by(API_KEYS.c.created)).mappings()
    return [ApiKey(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]


def revoke(connection: Connection, key_id: str) -> bool:
    """End a key; False if there is none of that id that is still good."""
    good = (API_KEYS.c.key_id == key_id) & API_KEYS.c.revoked.is_(None)
    ended = connection.execute(update(API_KEYS).where(good).values(revoked=time.time()))
    return ended.rowcount > 0


def find(keys: dict[str, ApiKey], text: str) -> ApiKey | None:
    """The key of a text, or None; in a time that does not tell how much of it was right.

    Args:
        keys: by id.
    """
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    key = keys.get(key_id) if prefix == _PREFIX else None
    right = hmac.compare_digest(_hash(secret), _NOBODY if key is None else key.secret_hash)
    return key if right and secret else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
