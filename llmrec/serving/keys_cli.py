"""``llmrec keys create | list | revoke``: who may use a service.

    llmrec keys create shop-backend --scopes read events --store sqlite:////shop/store.sqlite

A service asks for a key from the first one on; it learns of new and revoked ones within seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from llmrec.errors import ConfigError
from llmrec.serving.store import keys
from llmrec.serving.store.database import Store


def create(name: str, /, store: str, scopes: Sequence[str] = (keys.READ,)) -> None:
    """Make an API key and print it. It is shown this once.

    Args:
        name: what to call it in lists.
        store: URL of the service's database, as of llmrec serve.
        scopes: what it is for: read (recommendations), events (what people did and who they are),
            catalogue (items), admin (all of it, and forgetting people).
    """
    with Store(store) as opened, opened.write() as connection:
        key, text = keys.create(connection, name, scopes)
    print(text)
    print(f"keys: made {key.key_id} ({', '.join(key.scopes)}); keep it safe", file=sys.stderr)


def list_keys(store: str) -> None:
    """Print all API keys, without their secrets.

    Args:
        store: URL of the service's database, as of llmrec serve.
    """
    with Store(store) as opened, opened.read() as connection:
        found = keys.every(connection)
    for key in found:
        state = "good" if key.revoked is None else f"revoked {_date(key.revoked)}"
        print(f"{key.key_id}  {_date(key.created)}  {','.join(key.scopes):20}  {state}  {key.name}")
    if not found:
        print("keys: there are none, so the service asks nobody for one", file=sys.stderr)


def revoke(key_id: str, /, store: str) -> None:
    """End an API key.

    Args:
        key_id: as llmrec keys list prints it, the middle part of the key.
        store: URL of the service's database, as of llmrec serve.
    """
    with Store(store) as opened, opened.write() as connection:
        if not keys.revoke(connection, key_id):
            raise ConfigError(f"{key_id}: is no key that is good; llmrec keys list has them")
    print(f"keys: revoked {key_id}")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
