"""What stands before the routes: size limits, API keys, and a rate for each key."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from llmrec.serving import page_api
from llmrec.serving.error_handlers import error_response
from llmrec.serving.limits import MAX_NAME
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.store import keys
from llmrec.serving.store.database import Store, StoreError
from llmrec.serving.store.keys import ADMIN, CATALOGUE, EVENTS, READ, ApiKey

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOG = logging.getLogger(__name__)
# for whoever watches the service, and for agents that ask what it is
OPEN = ("/healthz", "/readyz", "/.well-known/ucp")
# whose bodies may bring a picture or a recording
MEDIA = (
    "/v1/audio/transcriptions",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/search",
)
EXPERIMENTS = "/v1/experiments"
FRESH_SECONDS = 1.0  # after which a new or revoked key is noticed
NO_KEYS = (
    "llmrec: warning: there are no API keys, so WHOEVER REACHES THIS SERVICE may read and change "
    "everything; make one with  llmrec keys create NAME --store %s"
)


def needed_scope(method: str, path: str) -> str:
    """What a key must be good for.

    >>> needed_scope("DELETE", "/v1/users/anna")
    'admin'
    """
    if path == page_api.PEOPLE or path.startswith(EXPERIMENTS):
        return ADMIN
    if path == "/v1/events":
        return EVENTS
    if path == "/mcp" or path.startswith("/ucp/carts"):
        return EVENTS
    if path.startswith("/v1/users/"):
        return ADMIN if method == "DELETE" else EVENTS
    return CATALOGUE if path.startswith("/v1/catalog") else READ


class KeyRing:
    """The keys of a store, looked up again every second."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, asyncio.Lock()
        self._keys: dict[str, ApiKey] = {}
        self._until = 0.0  # when they are to be looked up again
        self._fetch()
        if not self._keys:
            LOG.warning(NO_KEYS, store.name)

    async def keys(self) -> dict[str, ApiKey]:
        """By id, revoked ones too; where the store cannot be read, as they were."""
        async with self._lock:
            if time.monotonic() > self._until:
                try:
                    await asyncio.to_thread(self._fetch)
                except StoreError as error:
                    LOG.error("%s", error)
                    self._until = time.monotonic() + FRESH_SECONDS
        return self._keys

    def _fetch(self) -> None:
        with self._store.read() as connection:
            self._keys = {key.key_id: key for key in keys.every(connection)}
        self._until = time.monotonic() + FRESH_SECONDS


class RateLimiter:
    """A token bucket for each key: so many requests at once, refilled at a steady rate.

    Args:
        rate: requests a second.
        burst: requests at once.
        clock: seconds.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def wait_seconds(self, key_id: str) -> float:
        """0 for a request that may go on, which takes a token; else when there will be one."""
        now = self._clock()
        tokens, counted = self._buckets.get(key_id, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - counted) * self._rate)
        if tokens < 1:
            self._buckets[key_id] = tokens, now
            return (1 - tokens) / self._rate
        self._buckets[key_id] = tokens - 1, now
        return 0.0


class Guard:
    """Lets a request through to the app, or answers it with an error.

    Args:
        app: behind it.
        config: settings.
        ring: the keys; None asks for none.
    """

    def __init__(self, app: App, config: ServiceConfig, ring: KeyRing | None = None) -> None:
        self._app, self._config, self._ring = app, config, ring
        self._rate = RateLimiter(config.rate, config.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        refusal = self._too_large(scope) or self._misdirected(scope)
        if refusal is None and not _is_open(scope["path"]):
            refusal = await self._not_allowed(scope)
        if refusal is not None:
            return await refusal(scope, receive, send)
        return await self._app(scope, self._limited(receive, self._most_bytes(scope)), send)

    def _too_large(self, scope: Scope) -> Any:
        config = self._config
        header = sum(len(name) + len(value) for name, value in scope["headers"])
        if header > config.max_header:
            return error_response(431, f"header: has more than {config.max_header} bytes")
        if len(scope["query_string"]) + len(scope["path"]) > config.max_url:
            return error_response(414, f"URL: has more than {config.max_url} bytes")
        length = _header(scope, b"content-length")
        most = self._most_bytes(scope)
        if length.isdigit() and int(length[:20]) > most:
            return error_response(413, f"body: has more than {most} bytes")
        return None

    def _misdirected(self, scope: Scope) -> Any:
        """The answer to a request for a host that is not this one: a web page whose name was made
        to lead here would send it (DNS rebinding)."""
        allowed = self._config.allowed_hosts
        name = _host_name(_header(scope, b"host").decode("latin-1"))
        if not allowed or name in allowed:
            return None
        message = f"Host: {name[:MAX_NAME]!r} is not served here; start with --allowed-hosts NAME"
        return error_response(421, message, code="unknown_host")

    async def _not_allowed(self, scope: Scope) -> Any:
        known = {} if self._ring is None else await self._ring.keys()
        if not known:
            return None
        key = keys.find(known, _key_of(scope))
        if key is None or key.revoked is not None:
            message = "Authorization: no API key that is good; send it as  Bearer llmrec_..."
            challenge = {"WWW-Authenticate": "Bearer"}
            return error_response(401, message, code="invalid_api_key", headers=challenge)
        needed = needed_scope(scope["method"], scope["path"])
        if not key.may(needed):
            message = f"Authorization: the key {key.key_id} is not for {needed}"
            return error_response(403, message, code="insufficient_scope")
        wait = self._rate.wait_seconds(key.key_id)
        if wait:
            message = f"the key {key.key_id} is for {self._config.rate:g} requests a second"
            retry = {"Retry-After": str(math.ceil(wait))}
            return error_response(429, message, code="rate_limited", headers=retry)
        return None

    def _most_bytes(self, scope: Scope) -> int:
        return self._config.max_media if scope["path"] in MEDIA else self._config.max_body

    def _limited(self, receive: Receive, most: int) -> Receive:
        """Counts the bytes of a body that does not say its length."""
        total = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > most:
                raise HTTPException(413, f"body: has more than {most} bytes")
            return message

        return counted


def _key_of(scope: Scope) -> str:
    """The API key of a request, as OpenAI's clients or as agents send it; empty without one."""
    scheme, _, text = _header(scope, b"authorization").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return _header(scope, b"x-api-key").decode("latin-1").strip()


def _host_name(host: str) -> str:
    """
    >>> _host_name("Localhost:8000"), _host_name("[::1]:8000")
    ('localhost', '[::1]')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _is_open(path: str) -> bool:
    return path in OPEN or page_api.is_open(path)


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
