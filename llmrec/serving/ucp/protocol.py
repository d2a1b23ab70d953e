"""Names, envelopes and messages of the protocol."""

from __future__ import annotations

from typing import Any

from llmrec.errors import LlmrecError

Json = dict[str, Any]

VERSION = "2026-04-08"
SHOPPING = "dev.ucp.shopping"
SEARCH = f"{SHOPPING}.catalog.search"
LOOKUP = f"{SHOPPING}.catalog.lookup"
CART = f"{SHOPPING}.cart"
VENDOR = "io.github.llmrec"
RECOMMEND = f"{VENDOR}.recommend"
USER_SIGNAL = f"{VENDOR}.user_id"  # of the platform's signals: who the buyer is, in the shop's log
_SPECIFICATION = f"https://ucp.dev/{VERSION}"
_PAGES = {
    SEARCH: ("specification/catalog/search", "schemas/shopping/catalog_search.json"),
    LOOKUP: ("specification/catalog/lookup", "schemas/shopping/catalog_lookup.json"),
    CART: ("specification/cart", "schemas/shopping/cart.json"),
}


class InvalidRequestError(LlmrecError):
    """A request that is none: what is missing or wrong, by its place."""


class RequestTooLargeError(InvalidRequestError):
    """A request for more than is answered at once."""


class IdempotencyConflictError(InvalidRequestError):
    """A key was used before, for another request."""


def envelope(*capabilities: str, failed: bool = False) -> Json:
    """The protocol's part of an answer."""
    active = {name: [{"version": VERSION}] for name in capabilities}
    status = "error" if failed else "success"
    return {"version": VERSION, "status": status, "capabilities": active}


def info(code: str, content: str) -> Json:
    """What an agent may tell."""
    return {"type": "info", "code": code, "content": content}


def warning(code: str, content: str) -> Json:
    """What an agent must tell."""
    return {"type": "warning", "code": code, "content": content}


def error(code: str, content: str, severity: str = "unrecoverable", path: str = "") -> Json:
    """What went wrong.

    Args:
        severity: ``recoverable`` where another request may do.
        path: JSONPath of the part that it is about.
    """
    found = {"type": "error", "code": code, "content": content, "severity": severity}
    return found | ({"path": path} if path else {})


def failure(capability: str, *messages: Json) -> Json:
    """The answer where there is nothing to answer with."""
    return {"ucp": envelope(capability, failed=True), "messages": list(messages)}


def profile(base_url: str) -> Json:
    """What ``/.well-known/ucp`` says.

    Args:
        base_url: of the service, without a slash at its end.
    """
    services = [
        {"version": VERSION, "transport": "rest", "endpoint": f"{base_url}/ucp"}
        | {"schema": f"{_SPECIFICATION}/services/shopping/rest.openapi.json"},
        {"version": VERSION, "transport": "mcp", "endpoint": f"{base_url}/mcp"}
        | {"schema": f"{_SPECIFICATION}/services/shopping/mcp.openrpc.json"},
    ]
    spec = {"spec": f"{_SPECIFICATION}/specification/overview"}
    capabilities: Json = {
        name: [
            {"version": VERSION}
            | {"spec": f"{_SPECIFICATION}/{page}", "schema": f"{_SPECIFICATION}/{schema}"}
        ]
        for name, (page, schema) in _PAGES.items()
    }
    capabilities[RECOMMEND] = [{"version": VERSION, "extends": SEARCH}]
    return {
        "ucp": {
            "version": VERSION,
            "services": {SHOPPING: [service | spec for service in services]},
            "capabilities": capabilities,
            "payment_handlers": {},
        }
    }
