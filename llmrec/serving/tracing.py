"""A span of OpenTelemetry for each request; ``llmrec serve --tracing``.

Spans go where OpenTelemetry's own environment variables say, such as
``OTEL_EXPORTER_OTLP_ENDPOINT``; a request that brings a ``traceparent`` is part of that trace. A
span has the method, route, status and id of its request; no content, no names, and no words of an
exception, which may hold either.
"""

from __future__ import annotations

from typing import Any

from llmrec.errors import require
from llmrec.serving.json_logs import REQUEST_ID

SERVICE = "llmrec"


def tracer_of(exporter: Any = None) -> Any:
    """A tracer that exports.

    Args:
        exporter: of spans; None takes OTLP over HTTP.

    Raises:
        MissingExtraError: if OpenTelemetry is not installed.
    """
    require("opentelemetry.sdk", "tracing")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if exporter is None:
        require("opentelemetry.exporter.otlp.proto.http.trace_exporter", "tracing")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer(__name__)


class Traced:
    """Makes a span of each request.

    Args:
        app: behind it.
        tracer: of OpenTelemetry.
    """

    def __init__(self, app: Any, tracer: Any) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        with self._tracer.start_as_current_span(
            scope["method"], context=extract(headers), kind=SpanKind.SERVER
        ) as span:
            status = 500  # what an exception becomes

            async def noting(message: Any) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self._app(scope, receive, noting)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                span.set_attribute("llmrec.request_id", REQUEST_ID.get() or "")
        return None
