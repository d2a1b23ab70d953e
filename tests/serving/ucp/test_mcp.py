"""The tools through the protocol's own client, in memory and over HTTP."""

import asyncio
from typing import Any

import httpx
import pytest
from conftest import ABOUT, Shop
from fastapi import FastAPI
from mcp.client import Client
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.shared.exceptions import MCPError
from server import served
from starlette.routing import Route

from llmrec.serving.ucp.mcp_server import http_manager, mcp_server


def asked(target: Any, *calls: tuple[str, dict[str, Any]]) -> tuple[list[str], list[Any]]:
    """Names of the tools, and the structured answer to each call."""

    async def ask() -> tuple[list[str], list[Any]]:
        async with Client(target) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            results = [await client.call_tool(*call) for call in calls]
            return names, [result.structured_content for result in results]

    return asyncio.run(ask())


def test_an_agent_sees_the_tools_and_gets_their_answers(shop_: Shop) -> None:
    arguments = ABOUT | {"catalog": {"ids": shop_.ids[:2]}}
    names, [found] = asked(mcp_server(shop_.tools), ("lookup_catalog", arguments))
    assert names == list(shop_.tools.all)
    assert found == shop_.tools.call("lookup_catalog", arguments)


def test_a_wrong_call_is_an_error_of_the_protocol(shop_: Shop) -> None:
    async def ask() -> None:
        async with Client(mcp_server(shop_.tools)) as client:
            with pytest.raises(MCPError, match="'meta' is a required property") as caught:
                await client.call_tool("get_product", {"catalog": {"id": "x"}})
            assert caught.value.code == -32602

    asyncio.run(ask())


def test_the_tools_are_served_over_http(shop_: Shop) -> None:
    manager = http_manager(shop_.tools, "127.0.0.1")
    app = FastAPI(lifespan=lambda _app: manager.run())
    app.router.routes.append(Route("/mcp", endpoint=StreamableHTTPASGIApp(manager)))
    with served(app) as url:
        arguments = ABOUT | {"catalog": {"id": shop_.ids[0]}}
        _, [found] = asked(f"{url}/mcp", ("get_product", arguments))
        assert found["product"]["id"] == shop_.ids[0]
        foreign = httpx.post(f"{url}/mcp", json={}, headers={"Host": "evil.example"})
        assert foreign.status_code == 421
