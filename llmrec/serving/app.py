"""``llmrec serve BUNDLE``: recommendations over an OpenAI-compatible API.

    llmrec serve runs/demo/models/atomic/bundle --port 8000

The official ``openai`` client sends words, a history in ``extra_body``, or both::

    client.chat.completions.create(
        model="llmrec", messages=[{"role": "user", "content": "something warm for winter"}],
        extra_body={"history": ["item-17", "item-3"], "n": 5})

The answer is text, and a structured ``recommendations`` list of real items beside it. With empty
words the history alone decides. ``/v1/completions`` and ``/v1/recommendations`` read the same
fields and give the same items. ``model`` may name an adapter of the bundle.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException

from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError, ConfigError, LlmrecError
from llmrec.serving import openai_api as api
from llmrec.serving.bundle import Bundle
from llmrec.serving.events_api import events_router
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.history import dataset_attributes, dataset_histories
from llmrec.serving.live import LiveHistories
from llmrec.serving.metrics import HistoryCacheCollector
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendResponse
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.store.database import Store, StoreError, default_url

ALIASES = ("", "llmrec")  # other names of whatever model is served
OUR_FAULT = "the service failed; its log says why"
LOG = logging.getLogger(__name__)
FILTER_FIELDS = tuple(field.name for field in dataclasses.fields(CatalogFilter))


class UnknownModelError(LlmrecError):
    """A request names a model that is not served."""


def serve(
    bundle: Path,
    /,
    dataset: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    beams: int = 50,
    cache_mib: int = 256,
    calibrated: bool = True,
    verify: bool = True,
    store: str | None = None,
    rating_scale: tuple[float, float] = (1.0, 5.0),
) -> None:
    """Serve a bundle over an OpenAI-compatible API.

    Args:
        bundle: folder of llmrec bundle.
        dataset: folder of llmrec ingest whose users a request may name.
        host: address to listen on.
        port: to listen on.
        beams: beam width for semantic IDs.
        cache_mib: memory for the histories of users who come back, in MiB; 0 for none.
        calibrated: let the bundle's click model rank, where it has one.
        verify: check the sha256 of every file of the bundle first.
        store: URL of the database of events and people, such as postgresql://user@host/shop; an
            SQLite file beside the bundle where none is named.
        rating_scale: the lowest and the highest rating of an event.
    """
    import uvicorn

    opened_bundle = Bundle(bundle, beams=beams, cache_mib=cache_mib, verify=verify)
    opened = None if dataset is None else Dataset(dataset)
    live = LiveHistories(
        Store(store or default_url(bundle)),
        opened_bundle,
        None if opened is None else dataset_histories(opened),
        None if opened is None else dataset_attributes(opened),
    )
    recommender = Recommender.load(
        opened_bundle, histories=live.history, attributes=live.attributes, calibrated=calibrated
    )
    opened_bundle.open_text_encoder()
    app = create_app(recommender, live, ServiceConfig(rating_scale=rating_scale))
    uvicorn.run(app, host=host, port=port)


def create_app(
    recommender: Recommender,
    live: LiveHistories | None = None,
    config: ServiceConfig | None = None,
) -> FastAPI:
    """The service over a recommender.

    Args:
        live: the histories that the recommender reads, for a service that takes events.
        config: settings.
    """
    config = config or ServiceConfig()
    app = FastAPI(title="llmrec")
    _add_error_handlers(app)
    bundle, registry = recommender.bundle, CollectorRegistry()
    registry.register(HistoryCacheCollector(bundle))
    cards = model_cards(bundle)

    def model_name(name: str) -> str:
        name = bundle.model_name if name in ALIASES else name
        if name not in cards:
            known = ", ".join(map(repr, cards))
            raise UnknownModelError(f"model: {name!r} is not served here; there is {known}")
        return name

    def answer(body: api.RecommendFields) -> tuple[dict[str, str], RecommendResponse]:
        name = model_name(body.model)
        request = body.recommend_request(name if name in bundle.adapters else None)
        head = {"model": name, "catalog_version": bundle.catalog_version}
        return head, recommender.answer(request)

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    def healthz() -> dict[str, str]:
        return {
            "status": "ok",
            "model": bundle.model_name,
            "catalog_version": bundle.catalog_version,
        }

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": list(cards.values())}

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        return cards[model_name(name)]

    @app.get("/metrics")
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    # Not async: FastAPI runs them in a pool of threads, so requests are answered side by side.
    @app.post("/v1/chat/completions", response_model=None)
    def chat(body: api.ChatBody) -> dict[str, Any] | StreamingResponse:
        head, response = answer(body)
        if body.stream:
            return _stream(api.chat_chunks(head, response, body.stream_options.include_usage))
        return api.chat_completion(head, response)

    @app.post("/v1/completions", response_model=None)
    def completions(body: api.CompletionBody) -> dict[str, Any] | StreamingResponse:
        head, response = answer(body)
        if body.stream:
            return _stream(api.text_chunks(head, response, body.stream_options.include_usage))
        return api.text_completion(head, response)

    @app.post("/v1/recommendations")
    def recommendations(body: api.ListBody) -> dict[str, Any]:
        head, response = answer(body)
        return head | response.as_dict()

    if live is not None:
        catalog = {"model": bundle.model_name, "catalog_version": bundle.catalog_version}
        app.include_router(events_router(live, catalog, config.rating_scale))
    return app


def model_cards(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Entries of ``/v1/models`` by name: the bundle's model, and one for each of its adapters."""
    own = {"object": "model", "owned_by": "llmrec"}
    cards: dict[str, dict[str, Any]] = {
        bundle.model_name: {"id": bundle.model_name, "created": 0, **own}
    }
    for name, adapter in bundle.adapters.items():
        cards[name] = {
            "id": name,
            "created": int(datetime.fromisoformat(adapter.created).timestamp()),
            **own,
            "parent": bundle.model_name,
            "version": adapter.version,
            "task": adapter.task,
        }
    return cards


def _stream(chunks: Any) -> StreamingResponse:
    return StreamingResponse(api.server_sent_events(chunks), media_type="text/event-stream")


def _add_error_handlers(app: FastAPI) -> None:
    """Every error leaves in OpenAI's shape; what the caller can fix is a 400."""

    @app.exception_handler(ConfigError)
    @app.exception_handler(CatalogError)
    def wrong_input(_request: Request, error: LlmrecError) -> JSONResponse:
        message = str(error)
        return _error(400, message, param=_field(message.partition(":")[0]))

    @app.exception_handler(api.UnknownFieldError)
    def unknown_field(_request: Request, error: LlmrecError) -> JSONResponse:
        message = str(error)
        return _error(400, message, param=message.partition(":")[0])

    @app.exception_handler(UnknownModelError)
    def unknown_model(_request: Request, error: LlmrecError) -> JSONResponse:
        return _error(404, str(error), param="model", code="model_not_found")

    @app.exception_handler(RequestValidationError)
    def wrong_shape(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            place, reason = first["loc"][-1], first["ctx"]["error"]
            return _error(400, f"body: is no JSON: {reason} at character {place}")
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        reason = first["msg"].removeprefix("Value error, ")
        return _error(400, f"{where or 'body'}: {reason}", param=where or None)

    @app.exception_handler(HTTPException)
    def no_such_path(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(StoreError)
    def no_store(_request: Request, error: LlmrecError) -> JSONResponse:
        LOG.error("%s", error)
        return _error(503, "the store cannot be used now; nothing was stored", code="no_store")

    @app.exception_handler(LlmrecError)  # its message names paths of this machine
    def broken_bundle(_request: Request, error: LlmrecError) -> JSONResponse:
        LOG.error("%s", error)
        return _error(500, OUR_FAULT)

    @app.exception_handler(Exception)  # the server's log gets the traceback
    def our_fault(_request: Request, error: Exception) -> JSONResponse:
        return _error(500, OUR_FAULT)


def _field(place: str) -> str | None:
    """The request's field that a message begins with, or None."""
    name = re.split(r"[.\[]", place, maxsplit=1)[0]
    if name in api.BODY_FIELDS:
        return place
    return f"where.{place}" if name in FILTER_FIELDS else None


def _error(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": body}, status_code=status)
