"""What ``/openapi.json`` says beside what FastAPI finds out: errors, keys, fields that may be null.

Every route gives its errors in one shape, and says which; a body with a field that is not in the
document is refused.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from llmrec.serving.guard import OPEN
from llmrec.version import __version__

Json = dict[str, Any]

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "server_error"]},
                "param": {"type": ["string", "null"], "description": "the field that is wrong"},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
ERRORS = {
    "400": "A field is wrong; `error.param` names it.",
    "401": "No API key that is good.",
    "403": "The key has not the scope.",
    "404": "There is no such model, person or item.",
    "413": "The body is too large.",
    "414": "The URL is too large.",
    "429": "Too many requests wait, or of one key; `Retry-After` says when to come again.",
    "431": "The header is too large.",
    "500": "The service failed; its log says why.",
    "503": "The store cannot be used, or the service is about to end.",
    "504": "There was no answer within the deadline.",
}
HEALTHY = ("414", "431", "503")  # errors of the open paths
RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def describe(app: FastAPI) -> None:
    """Let an app's document say what it does."""

    def document() -> Json:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=__version__, routes=app.routes)
            app.openapi_schema = completed(found)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def completed(document: Json) -> Json:
    """A document with the errors of every operation, and how to show a key."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own; ours is ERROR
        schemas.pop(name, None)
    schemas["Error"] = ERROR
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, is_open=path in OPEN)
    return document


def _complete(operation: Json, is_open: bool) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status in HEALTHY if is_open else ERRORS:
        responses.setdefault(status, _error(status))
    if not is_open:
        operation["security"] = [{}, {"key": []}]  # none while the store has no key


def _error(status: str) -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: Json = {"description": ERRORS[status], "content": content}
    if status == "429":
        found["headers"] = RETRY
    return found
