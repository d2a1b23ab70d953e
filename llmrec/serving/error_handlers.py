"""Every error leaves in OpenAI's shape; what the caller can fix is a status below 500."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from llmrec.errors import CatalogError, ConfigError, LlmrecError
from llmrec.generation.vllm_server import VllmServerError
from llmrec.serving import openai_api as api
from llmrec.serving.batching import BusyError, ClientGoneError, DeadlineError
from llmrec.serving.catalogue_api import UnknownItemError
from llmrec.serving.experiments.live import ExperimentConflictError, UnknownExperimentError
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.limits import MAX_NAME
from llmrec.serving.openai_fields import UnknownFieldError
from llmrec.serving.service import UnknownModelError
from llmrec.serving.store.database import StoreError
from llmrec.serving.users_api import UnknownUserError

MAX_MESSAGE = 500  # characters: what is wrong may be long
OUR_FAULT = "the service failed; its log says why"
CLIENT_GONE = 499  # as nginx has it
LOG = logging.getLogger(__name__)
# of bodies, for messages that begin with one
FIELDS = {
    *api.BODY_FIELDS,
    *(
        "image",
        "audio",
        "input",
        "documents",
        "dimensions",
        "file",
        "language",
        "max_output_tokens",
        "name",
        "metric",
        "control",
        "tuned_for",
        "variants",
    ),
}
FILTER_FIELDS = tuple(field.name for field in dataclasses.fields(CatalogFilter))


def add_error_handlers(app: FastAPI) -> None:
    """What each exception is answered with."""

    @app.exception_handler(ConfigError)
    @app.exception_handler(CatalogError)
    def wrong_input(_request: Request, error: LlmrecError) -> JSONResponse:
        message = str(error)
        return error_response(400, message, param=_field(message.partition(":")[0]))

    @app.exception_handler(UnknownFieldError)
    def unknown_field(_request: Request, error: LlmrecError) -> JSONResponse:
        message = str(error)
        return error_response(400, message, param=message.partition(":")[0])

    @app.exception_handler(UnknownModelError)
    def unknown_model(_request: Request, error: LlmrecError) -> JSONResponse:
        return error_response(404, str(error), param="model", code="model_not_found")

    @app.exception_handler(RequestValidationError)
    def wrong_shape(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            place, reason = first["loc"][-1], first["ctx"]["error"]
            return error_response(400, f"body: is no JSON: {reason} at character {place}")
        where = ".".join(str(part) for part in first["loc"][1:])  # after body or query
        reason = first["msg"].removeprefix("Value error, ")
        return error_response(400, f"{where or 'body'}: {reason}", param=where or None)

    @app.exception_handler(HTTPException)
    def no_such_path(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(
            error.status_code,
            f"{request.method} {request.url.path[:MAX_NAME]}: {error.detail}",
            headers=_headers(request, error),
        )

    @app.exception_handler(UnknownUserError)
    def unknown_user(_request: Request, error: LlmrecError) -> JSONResponse:
        return error_response(404, str(error), param="user", code="user_not_found")

    @app.exception_handler(UnknownItemError)
    def unknown_item(_request: Request, error: LlmrecError) -> JSONResponse:
        return error_response(404, str(error), param="item_id", code="not_found")

    @app.exception_handler(UnknownExperimentError)
    def unknown_experiment(_request: Request, error: LlmrecError) -> JSONResponse:
        return error_response(404, str(error), param="name", code="not_found")

    @app.exception_handler(ExperimentConflictError)
    def conflicting(_request: Request, error: LlmrecError) -> JSONResponse:
        message = str(error)
        return error_response(409, message, param=_field(message.partition(":")[0]))

    @app.exception_handler(BusyError)
    def busy(_request: Request, error: BusyError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)}
        return error_response(429, str(error), code="busy", headers=headers)

    @app.exception_handler(DeadlineError)
    def too_late(_request: Request, error: LlmrecError) -> JSONResponse:
        return error_response(504, str(error), code="deadline_exceeded")

    @app.exception_handler(ClientGoneError)  # nobody reads it; metrics count it
    def gone(_request: Request, error: LlmrecError) -> JSONResponse:
        return error_response(CLIENT_GONE, str(error), code="client_gone")

    @app.exception_handler(StoreError)
    def no_store(_request: Request, error: LlmrecError) -> JSONResponse:
        LOG.error("%s", error)
        return error_response(
            503, "the store cannot be used now; nothing was stored", code="no_store"
        )

    @app.exception_handler(VllmServerError)
    def no_engine(_request: Request, error: LlmrecError) -> JSONResponse:
        LOG.error("%s", error)
        message = "the language model cannot be reached now; try again later"
        return error_response(503, message, code="no_engine", headers={"Retry-After": "5"})

    @app.exception_handler(LlmrecError)  # its message names paths of this machine
    def broken_bundle(_request: Request, error: LlmrecError) -> JSONResponse:
        LOG.error("%s", error)
        return error_response(500, OUR_FAULT)

    @app.exception_handler(Exception)  # the server's log gets the traceback
    def our_fault(_request: Request, error: Exception) -> JSONResponse:
        return error_response(500, OUR_FAULT)


def _headers(request: Request, error: HTTPException) -> Mapping[str, str] | None:
    """Of an error; a path's methods are those of all its routes."""
    if error.status_code != 405:
        return error.headers
    methods = set[str]()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return {"Allow": ", ".join(sorted(methods))}


def _field(place: str) -> str | None:
    """The request's field that a message begins with, or None."""
    name = re.split(r"[.\[]", place, maxsplit=1)[0]
    if name in FIELDS:
        return place
    return f"where.{place}" if name in FILTER_FIELDS else None


def error_response(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error in OpenAI's shape.

    Args:
        param: the field that is wrong.
    """
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}..."
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": body}, status_code=status, headers=headers)
