"""What the service counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmrec.serving.bundle import Bundle
from llmrec.serving.request import RecommendResponse

# since the service began; the others are as they are now
COUNTERS = {
    "hits": "Histories of which a beginning was cached.",
    "misses": "Histories of which nothing was cached.",
    "evictions": "Histories evicted to make room.",
    "tokens_read": "Tokens of histories that the model read.",
    "tokens_reused": "Tokens of histories that were cached.",
}
GAUGES = {"entries": "Histories cached.", "bytes": "Memory they take."}
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHARES = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class HistoryCacheCollector(Collector):
    """Sums over the caches of the model and each adapter; nothing for a bundle without any."""

    def __init__(self, bundle: Bundle) -> None:
        self._caches = bundle.history_caches()

    def collect(self) -> Iterator[Metric]:
        counted = [cache.metrics for cache in self._caches]
        if not counted:
            return
        for kind, names in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for name, documentation in names.items():
                value = sum(one[name] for one in counted)
                yield kind(f"llmrec_history_cache_{name}", documentation, value=value)


class ServiceMetrics:
    """Counters of one service.

    Args:
        bundle: that it serves.

    Attributes:
        registry: all of them.
        requests: seconds by route and status.
        batches: requests that were answered together.
        steps, tokens, p_click: of lists, see :meth:`answered`.
        events: by what became of them.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(HistoryCacheCollector(bundle))
        self.requests = Histogram(
            "llmrec_request_seconds",
            "From a request to the end of its answer.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "llmrec_batch_size",
            "Requests that were answered together.",
            buckets=SIZES,
            registry=self.registry,
        )
        self.steps = Histogram(
            "llmrec_step_seconds",
            "Of the batch that a list came with, by step; total is all of it.",
            ("step",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "llmrec_tokens",
            "Tokens that the language model read (prompt) and wrote (completion).",
            ("kind",),
            registry=self.registry,
        )
        self.p_click = Histogram(
            "llmrec_p_click",
            "Probabilities of a click of what was shown; clicks are among the events.",
            buckets=SHARES,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.events = Counter(
            "llmrec_events", "Events that came in.", ("outcome",), registry=self.registry
        )
        self._queue = Gauge("llmrec_queue_length", "Requests that wait.", registry=self.registry)

    def answered(self, response: RecommendResponse) -> None:
        """Count what a list cost, and what it promises."""
        for step, ms in response.timings_ms.items():
            self.steps.labels(step).observe(ms / 1000)
        for kind in ("prompt", "completion"):
            self.tokens.labels(kind).inc(response.usage[f"{kind}_tokens"])
        for one in response.recommendations:
            if one.p_click is not None:
                self.p_click.observe(one.p_click)

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Show what a function says as the length of the queue."""
        self._queue.set_function(length)


class Timed:
    """Measures what an app answers.

    Args:
        app: behind it.
        requests: seconds by method, route and status; what no route answers is ``none``.
    """

    def __init__(self, app: Any, requests: Histogram) -> None:
        self._app, self._requests = app, requests

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, started = 500, time.perf_counter()  # what an exception becomes

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            # names of methods are the caller's: those of no route would be without end
            method = scope["method"] if route != "none" else "none"
            labels = self._requests.labels(method, route, str(status))
            labels.observe(time.perf_counter() - started)
        return None
