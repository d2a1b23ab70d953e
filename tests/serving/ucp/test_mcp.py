"""The tools through the official client: in memory, over HTTP, over stdio; and over REST."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import an_event, live_service
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from server import served
from tiny_shop import TinyRun
from ucp_schemas import Schemas
from ucp_shop import ABOUT, Shop

from llmrec.serving.app import create_app
from llmrec.serving.guard import OPEN, needed_scope
from llmrec.serving.ucp.mcp_server import mcp_server

AGENT = {"UCP-Agent": 'profile="https://agent.example/profile.json"'}


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


def test_the_tools_are_served_over_http_and_rest_beside_each_other(
    tiny_run: TinyRun, tmp_path: Path, ucp: Schemas
) -> None:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as service:
        ids = service.bundle.item_ids[:3]
        app = create_app(service.recommender, service.live)
        with served(app) as url:
            body = {"history": ids, "signals": {"io.github.llmrec.user_id": "anna"}}
            arguments = ABOUT | {"catalog": body}
            _, [found] = asked(f"{url}/mcp", ("llmrec_recommend", arguments))
            ucp.check(found, "shopping/catalog_search.json#/$defs/search_response")
            shown = found.pop("recommendation_id")
            with httpx.Client(base_url=url, headers=AGENT, timeout=60) as http:
                same = http.post("/ucp/catalog/recommend", json=body).json()
                assert same.pop("recommendation_id") != shown
                assert same == found
                rest(http, found["products"][0]["id"], ucp)
                profile = http.get("/.well-known/ucp").json()
                ucp.check(profile, "discovery/profile.json#/$defs/business_profile")
                endpoint = profile["ucp"]["services"]["dev.ucp.shopping"][1]["endpoint"]
                assert endpoint == f"{url}/mcp"
        event = an_event(1, "anna", found["products"][0]["id"], recommendation_id=shown)
        assert service.send(event).json()["stored"] == 1


def rest(http: httpx.Client, item: str, ucp: Schemas) -> None:
    """A cart is made, read and cancelled; what is wrong has the status of the protocol."""
    lines = {"line_items": [{"item": {"id": item}, "quantity": 2}]}
    made = http.post("/ucp/carts", json=lines)
    assert made.status_code == 201
    ucp.check(made.json(), "shopping/cart.json")
    cart = f"/ucp/carts/{made.json()['id']}"
    assert http.get(cart).json()["line_items"] == made.json()["line_items"]
    key = {"Idempotency-Key": "k1"}
    assert http.put(cart, json=lines, headers=key).status_code == 200
    other = {"line_items": [{"item": {"id": item}, "quantity": 3}]}
    assert http.put(cart, json=other, headers=key).status_code == 409
    assert http.post(f"{cart}/cancel").status_code == 400
    assert http.post(f"{cart}/cancel", headers={"Idempotency-Key": "k2"}).status_code == 200
    missing = http.get(cart)
    assert missing.status_code == 200
    ucp.check(missing.json(), "shopping/types/error_response.json")
    wrong = http.post("/ucp/catalog/search", json={"query": 3})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_request")
    many = http.post("/ucp/catalog/lookup", json={"ids": [str(i) for i in range(101)]})
    assert (many.status_code, many.json()["code"]) == (400, "request_too_large")
    nobody = http.post("/ucp/catalog/product", json={"id": item}, headers={"UCP-Agent": "me"})
    assert nobody.status_code == 400


def test_an_agent_starts_the_command_and_talks_to_it(tiny_run: TinyRun, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'store.sqlite'}"
    command = ["-m", "llmrec", "mcp", str(tiny_run.bundle("atomic")), "--store", store]
    started = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    names, [found] = asked(started, ("llmrec_recommend", ABOUT | {"catalog": {"history": []}}))
    assert "create_cart" in names
    assert len(found["products"]) == 10


def test_what_changes_something_needs_a_key_that_may() -> None:
    assert needed_scope("POST", "/ucp/catalog/search") == "read"
    assert needed_scope("POST", "/ucp/carts") == needed_scope("POST", "/mcp") == "events"
    assert "/.well-known/ucp" in OPEN
