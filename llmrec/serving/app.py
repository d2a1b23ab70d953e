"""The app of ``llmrec serve``: recommendations over an OpenAI-compatible API.

The official ``openai`` client sends words, a history in ``extra_body``, or both::

    client.chat.completions.create(
        model="llmrec", messages=[{"role": "user", "content": "something warm for winter"}],
        extra_body={"history": ["item-17", "item-3"], "n": 5})

The answer is text, and a structured ``recommendations`` list of real items beside it. With empty
words the history alone decides. ``/v1/completions`` and ``/v1/recommendations`` read the same
fields and give the same items. ``model`` may name an adapter of the bundle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from llmrec.serving import openai_api as api
from llmrec.serving.answering import Answered, Answering, Asked, as_json
from llmrec.serving.batching import Batcher
from llmrec.serving.bundle import Bundle
from llmrec.serving.catalogue.following import following
from llmrec.serving.catalogue.live import LiveCatalogue
from llmrec.serving.catalogue_api import catalogue_router
from llmrec.serving.error_handlers import UnknownModelError, add_error_handlers, error_response
from llmrec.serving.events_api import events_router
from llmrec.serving.guard import Guard, KeyRing
from llmrec.serving.json_logs import RequestIds
from llmrec.serving.live import LiveHistories
from llmrec.serving.metrics import ServiceMetrics, Timed
from llmrec.serving.page_api import Pictures, page_router
from llmrec.serving.recommender import Recommender
from llmrec.serving.retention import forgetting
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.tracing import Traced, tracer_of
from llmrec.serving.users_api import users_router

ALIASES = ("", "llmrec")  # other names of whatever model is served
DEADLINE = "x-deadline-ms"  # header: when an answer is no longer wanted
USUAL = ServiceConfig()


def create_app(
    recommender: Recommender,
    live: LiveHistories | None = None,
    config: ServiceConfig | None = None,
    pictures: Pictures | None = None,
    people: Sequence[str] = (),
) -> FastAPI:
    """The service over a recommender.

    Args:
        live: the histories that the recommender reads, for a service that takes events.
        config: settings.
        pictures: that the page shows.
        people: names that the page offers.
    """
    config = config or USUAL
    bundle = recommender.bundle
    measured = ServiceMetrics(bundle)
    cards = model_cards(bundle)

    def head() -> dict[str, Any]:
        version = recommender.bundle.catalog_version
        return {"model": bundle.model_name, "catalog_version": version}

    batcher: Batcher[Asked, Answered] = Batcher(
        Answering(recommender, live, config.variant, measured.answered),
        most=config.batch,
        wait_seconds=config.batch_wait_ms / 1000,
        waiting=config.waiting,
        observe=measured.batches.observe,
    )
    measured.watch_queue(lambda: batcher.queued)
    catalogue = None
    if live is not None and bundle.is_changeable:
        catalogue = LiveCatalogue(live.store, live, recommender, batcher.wait_between)

    looks: list[Callable[[], object]] = [] if live is None else [live.follow]
    looks += [] if catalogue is None else [catalogue.sync]

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with forgetting(live, config.keep_days), following(looks):
            yield
        batcher.close(config.shutdown_seconds)

    app = FastAPI(title="llmrec", lifespan=lifespan)
    add_error_handlers(app)
    ring = None if live is None else KeyRing(live.store)
    app.add_middleware(Guard, config=config, ring=ring)
    app.add_middleware(Timed, requests=measured.requests)
    if config.tracing:
        app.add_middleware(Traced, tracer=tracer_of())
    app.add_middleware(RequestIds, log=config.log_format == "json")

    def model_name(name: str) -> str:
        name = bundle.model_name if name in ALIASES else name
        if name not in cards:
            known = ", ".join(map(repr, cards))
            raise UnknownModelError(f"model: {name!r} is not served here; there is {known}")
        return name

    async def answer(
        http: Request, body: api.RecommendFields, logged: bool = False
    ) -> tuple[dict[str, str], Answered]:
        name = model_name(body.model)
        request = body.recommend_request(name if name in bundle.adapters else None)
        seconds = config.deadline_within(http.headers.get(DEADLINE))
        asked = Asked(request, name, logged)
        answered = await batcher.ask(asked, seconds, http.is_disconnected)
        return head() | {"model": name}, answered

    # async: it is answered whatever the threads and the model are doing
    @app.get("/healthz")
    @app.head("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"} | head()

    @app.get("/readyz")
    @app.head("/readyz", include_in_schema=False)
    def readyz() -> JSONResponse:
        if not batcher.is_alive or batcher.queued >= config.waiting:
            return error_response(503, "requests are not taken now", code="busy")
        if live is not None:
            live.store.check()
        return JSONResponse({"status": "ready"} | head())

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": list(cards.values())}

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        return cards[model_name(name)]

    @app.get("/metrics")
    def metrics() -> PlainTextResponse:
        found = generate_latest(measured.registry)
        return PlainTextResponse(found, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.post("/v1/chat/completions")
    async def chat(http: Request, body: api.ChatBody) -> Response:
        about, answered = await answer(http, body)
        if body.stream:
            usage = body.stream_options.include_usage
            return _stream(api.chat_chunks(about, answered.response, usage))
        return JSONResponse(api.chat_completion(about, answered.response))

    @app.post("/v1/completions")
    async def completions(http: Request, body: api.CompletionBody) -> Response:
        about, answered = await answer(http, body)
        if body.stream:
            usage = body.stream_options.include_usage
            return _stream(api.text_chunks(about, answered.response, usage))
        return JSONResponse(api.text_completion(about, answered.response))

    @app.post("/v1/recommendations")
    async def recommendations(http: Request, body: api.ListBody) -> JSONResponse:
        about, answered = await answer(http, body, logged=True)
        return JSONResponse(about | as_json(answered))

    if live is not None and catalogue is not None:
        app.include_router(catalogue_router(catalogue, head))
        app.include_router(events_router(live, head, config.rating_scale, measured.events))
        app.include_router(users_router(live, head, batcher))
    app.include_router(page_router(pictures or Pictures(bundle, None), people))
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
