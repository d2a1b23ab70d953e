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
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic_core import to_json
from starlette.routing import Route

from llmrec.serving import openai_api as api
from llmrec.serving.answer_schemas import LIST
from llmrec.serving.answering import as_json
from llmrec.serving.assistant.open import NAME, shop_assistant
from llmrec.serving.assistant.protocol import AssistantModel
from llmrec.serving.assistant_api import CARD, AssistantDoor
from llmrec.serving.audio_api import audio_router
from llmrec.serving.catalogue.following import following
from llmrec.serving.catalogue.live import LiveCatalogue
from llmrec.serving.catalogue_api import catalogue_router
from llmrec.serving.completions_api import completions_router
from llmrec.serving.embeddings_api import embeddings_router
from llmrec.serving.error_handlers import add_error_handlers, error_response
from llmrec.serving.events_api import events_router
from llmrec.serving.experiments.live import NO_FILE, LiveExperiments
from llmrec.serving.experiments.running import running
from llmrec.serving.experiments.variants import Variants
from llmrec.serving.experiments_api import experiments_router
from llmrec.serving.guard import Guard, KeyRing
from llmrec.serving.json_logs import RequestIds
from llmrec.serving.live import LiveHistories
from llmrec.serving.metrics import Timed
from llmrec.serving.openapi import describe
from llmrec.serving.page_api import Pictures, page_router
from llmrec.serving.recommender import Recommender
from llmrec.serving.responses_api import responses_router
from llmrec.serving.retention import forgetting
from llmrec.serving.search_api import search_router
from llmrec.serving.service import Service
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.tracing import Traced, tracer_of
from llmrec.serving.ucp.mcp_server import MCP, McpEndpoint
from llmrec.serving.ucp.products import Money
from llmrec.serving.ucp.rest import ucp_router
from llmrec.serving.ucp.service import shop_tools
from llmrec.serving.users_api import users_router

USUAL = ServiceConfig()


def create_app(
    recommender: Recommender,
    live: LiveHistories | None = None,
    config: ServiceConfig | None = None,
    pictures: Pictures | None = None,
    people: Sequence[str] = (),
    variants: Variants | None = None,
    minds: Sequence[AssistantModel] = (),
) -> FastAPI:
    """The service over a recommender.

    Args:
        live: the histories that the recommender reads, for a service that takes events.
        config: settings.
        pictures: that the page shows.
        people: names that the page offers.
        variants: of experiments.
        minds: who talks as the assistant, then who goes on where that one fails; none for no
            assistant.
    """
    config = config or USUAL
    others = [] if variants is None else list(variants.others.values())
    experiments = None
    if live is not None:
        variants = variants or Variants(NO_FILE, recommender)
        experiments = LiveExperiments(live.store, variants)
    service = Service(recommender, live, config, variants)
    head, batcher, measured = service.head, service.batcher, service.metrics
    catalogue, looks = None, list[Callable[[], object]]()
    if live is not None:
        looks.append(live.follow)
    if experiments is not None:
        looks.append(experiments.sync)
    if live is not None and service.bundle.is_changeable:
        catalogue, *more = (
            LiveCatalogue(live.store, live, one, batcher.wait_between, number)
            for number, one in enumerate((recommender, *others))
        )
        looks += [one.sync for one in (catalogue, *more)]

    agents, door = None, None
    if live is not None and catalogue is not None:
        money, rows = Money(config.currency), catalogue.rows
        tools = shop_tools(recommender, service.answer_from_thread, rows, live.store, money)
        agents = McpEndpoint(tools)
        if minds:
            assistant = shop_assistant(
                recommender, service.answer_from_thread, rows, live.store, config.currency,
                minds[0], live=live, fallback=minds[1] if len(minds) > 1 else None,
            )  # fmt: skip
            door = AssistantDoor(service, assistant, live.store)
            service.side.more_cards[NAME] = CARD

    def shown_experiments() -> list[dict[str, Any]]:
        return [] if variants is None or live is None else running(variants.config, live.store)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(forgetting(live, config.keep_days))
            await stack.enter_async_context(following(looks))
            if agents is not None:
                await stack.enter_async_context(agents.running())
            yield
        service.close()

    app = FastAPI(title="llmrec", lifespan=lifespan)
    add_error_handlers(app)
    ring = None if live is None else KeyRing(live.store)
    app.add_middleware(Guard, config=config, ring=ring)
    app.add_middleware(Timed, requests=measured.requests)
    if config.tracing:
        app.add_middleware(Traced, tracer=tracer_of())
    app.add_middleware(RequestIds, log=config.log_format == "json")

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
        return {"object": "list", "data": list((service.cards | service.side.cards).values())}

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        return service.side.cards.get(name) or service.cards[service.model_name(name)]

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        found = generate_latest(measured.registry)
        return PlainTextResponse(found, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.post("/v1/recommendations", responses=LIST)
    async def recommendations(http: Request, body: api.ListBody) -> Response:
        about, answered = await service.answer(http, body)
        # most answers of a service are these, and json takes four times as long
        return Response(to_json(about | as_json(answered)), media_type="application/json")

    app.include_router(completions_router(service, door))
    for router in (
        responses_router,
        search_router,
        embeddings_router,
        audio_router,
    ):
        app.include_router(router(service))
    if live is not None and catalogue is not None:
        app.include_router(catalogue_router(catalogue, head))
        app.include_router(events_router(live, head, config.rating_scale, measured.events))
        app.include_router(users_router(live, head, batcher))
    if live is not None and experiments is not None:
        app.include_router(experiments_router(experiments, live.store, head))
    if agents is not None:
        app.include_router(ucp_router(agents.tools))
        app.router.routes.append(Route(MCP, endpoint=agents))
    shown = pictures or Pictures(service.bundle, None)
    app.include_router(page_router(shown, people, shown_experiments))
    describe(app)
    return app
