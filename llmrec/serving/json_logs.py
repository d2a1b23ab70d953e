"""Logs as a line of JSON each, with the id of the request that they belong to.

``llmrec serve --log-format json``. Neither content nor names are logged: of a request its id,
method, route, status and milliseconds.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

REQUEST_ID: ContextVar[str | None] = ContextVar("llmrec_request_id", default=None)
HEADER = b"x-request-id"
LOG = logging.getLogger("llmrec.requests")
FIELDS = ("method", "route", "status", "ms")  # of a request
_GOOD = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class JsonFormatter(logging.Formatter):
    """A line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, request, and what is known of a failure."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := REQUEST_ID.get()) is not None:
            line["request_id"] = request_id
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


JSON_LOGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": f"{__name__}.JsonFormatter"}},
    "handlers": {
        "json": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "stream": "ext://sys.stderr",
        }
    },
    "root": {"handlers": ["json"], "level": "WARNING"},
    "loggers": {
        "uvicorn": {"level": "INFO"},
        "uvicorn.error": {"level": "INFO"},
        "llmrec": {"level": "INFO", "handlers": ["json"], "propagate": False},
    },
}


class RequestIds:
    """Gives each request an id, or takes that of the caller, and says it in the answer.

    Args:
        app: behind it.
        log: whether a line is logged for each request.
    """

    def __init__(self, app: Any, log: bool = False) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        # no secret, and a system call would let go of the interpreter
        request_id = given if _GOOD.fullmatch(given) else b"%032x" % random.getrandbits(128)
        token = REQUEST_ID.set(request_id.decode())
        status, started = 500, time.perf_counter()  # what an exception becomes

        async def with_id(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            await send(message)

        try:
            await self._app(scope, receive, with_id)
        finally:
            if self._log:
                self._write(scope, status, started)
            REQUEST_ID.reset(token)
        return None

    def _write(self, scope: Any, status: int, started: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        ms = round((time.perf_counter() - started) * 1000, 2)
        about = {"method": scope["method"], "route": route, "status": status, "ms": ms}
        LOG.info("request", extra=about)
