"""A span for each request, part of the caller's trace, with nobody's name."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from llmrec.serving.json_logs import RequestIds
from llmrec.serving.tracing import Traced, tracer_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def spans() -> Any:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    return memory.InMemorySpanExporter()


def test_a_span_says_what_was_asked_and_nobodys_name(spans: Any) -> None:
    tracer, app = tracer_of(spans), FastAPI()
    app.add_middleware(Traced, tracer=tracer)
    app.add_middleware(RequestIds)

    @app.get("/users/{name}")
    def user(name: str) -> dict[str, str]:
        if name == "broken":
            raise RuntimeError("broken")
        return {"name": name}

    client = TestClient(app, raise_server_exceptions=False)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-Id": "r-1"}
    assert client.get("/users/anna", headers=headers).headers["x-request-id"] == "r-1"
    assert client.get("/users/broken").status_code == 500
    assert len(client.get("/nothing").headers["x-request-id"]) == 32
    tracer.span_processor.force_flush()
    first, second, third = spans.get_finished_spans()
    assert f"{first.context.trace_id:032x}" == TRACE != f"{second.context.trace_id:032x}"
    assert first.name == second.name == "GET /users/{name}"
    assert dict(first.attributes) == {
        "http.request.method": "GET",
        "http.route": "/users/{name}",
        "http.response.status_code": 200,
        "llmrec.request_id": "r-1",
    }
    assert second.attributes["http.response.status_code"] == 500
    assert third.name == "GET none"
    assert not first.events and "anna" not in first.to_json()
