"""The operations over REST, below ``/ucp``, and the profile that announces them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse

from llmrec.serving.store.database import StoreError
from llmrec.serving.ucp import schemas
from llmrec.serving.ucp.protocol import (
    IdempotencyConflictError,
    InvalidRequestError,
    Json,
    RequestTooLargeError,
    profile,
)
from llmrec.serving.ucp.tools import Tools, meta

PREFIX, WELL_KNOWN = "/ucp", "/.well-known/ucp"
CARTS = f"{PREFIX}/carts"
_AGENT = re.compile(r'profile="([^"]+)"')
Agent = Annotated[str, Header(alias="UCP-Agent", description='profile="URL"')]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


def ucp_router(tools: Tools) -> APIRouter:
    """The routes; the protocol has a document of its own for them."""
    router = APIRouter(include_in_schema=False)

    @router.get(WELL_KNOWN)
    def well_known(request: Request) -> JSONResponse:
        headers = {"Cache-Control": "max-age=300", "Vary": "Host"}
        return JSONResponse(profile(str(request.base_url).rstrip("/")), headers=headers)

    @router.post(f"{PREFIX}/catalog/search")
    def search(agent: Agent, body: Annotated[Json, _body(schemas.SEARCH_REQUEST)]) -> JSONResponse:
        return call("search_catalog", agent, catalog=body)

    @router.post(f"{PREFIX}/catalog/lookup")
    def lookup(agent: Agent, body: Annotated[Json, _body(schemas.LOOKUP_REQUEST)]) -> JSONResponse:
        return call("lookup_catalog", agent, catalog=body)

    @router.post(f"{PREFIX}/catalog/product")
    def found(agent: Agent, body: Annotated[Json, _body(schemas.PRODUCT_REQUEST)]) -> JSONResponse:
        return call("get_product", agent, catalog=body)

    @router.post(f"{PREFIX}/catalog/recommend")
    def likely(
        agent: Agent, body: Annotated[Json, _body(schemas.RECOMMEND_REQUEST)]
    ) -> JSONResponse:
        return call("llmrec_recommend", agent, catalog=body)

    @router.post(CARTS, status_code=201)
    def create(
        agent: Agent, body: Annotated[Json, _body(schemas.CART_REQUEST)], key: Key = None
    ) -> JSONResponse:
        return call("create_cart", agent, key, 201, cart=body)

    @router.get(f"{CARTS}/{{cart_id}}")
    def cart(agent: Agent, cart_id: str) -> JSONResponse:
        return call("get_cart", agent, id=cart_id)

    @router.put(f"{CARTS}/{{cart_id}}")
    def update(
        agent: Agent,
        cart_id: str,
        body: Annotated[Json, _body(schemas.CART_REQUEST)],
        key: Key = None,
    ) -> JSONResponse:
        return call("update_cart", agent, key, id=cart_id, cart=body)

    @router.post(f"{CARTS}/{{cart_id}}/cancel")
    def cancel(
        agent: Agent, cart_id: str, key: Annotated[str, Header(alias="Idempotency-Key")]
    ) -> JSONResponse:
        return call("cancel_cart", agent, key, id=cart_id)

    def call(
        name: str, agent: str, key: str | None = None, made: int = 200, **arguments: Any
    ) -> JSONResponse:
        named = _AGENT.search(agent)
        if named is None:
            return _failed(400, "invalid_request", 'UCP-Agent: write  profile="URL"')
        about = {"meta": meta(named[1], key)}
        status, answer = _answer(lambda: tools.call(name, about | arguments))
        failed = status != 200 or answer.get("ucp", {}).get("status") == "error"
        return JSONResponse(answer, status if failed else made)

    return router


def _answer(work: Callable[[], Json]) -> tuple[int, Json]:
    try:
        return 200, work()
    except RequestTooLargeError as problem:
        return 400, _problem("request_too_large", str(problem))
    except IdempotencyConflictError as problem:
        return 409, _problem("idempotency_conflict", str(problem))
    except InvalidRequestError as problem:
        return 400, _problem("invalid_request", str(problem))
    except StoreError:
        return 503, _problem("unavailable", "the store cannot be used now; try again later")


def _failed(status: int, code: str, content: str) -> JSONResponse:
    return JSONResponse(_problem(code, content), status)


def _problem(code: str, content: str) -> Json:
    return {"code": code, "content": content}


def _body(schema: Json) -> Any:
    return Body(json_schema_extra=schema)
