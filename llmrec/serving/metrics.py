"""What the history caches have counted, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmrec.serving.bundle import Bundle

# since the service began; the others are as they are now
COUNTERS = {
    "hits": "Histories of which a beginning was cached.",
    "misses": "Histories of which nothing was cached.",
    "evictions": "Histories evicted to make room.",
    "tokens_read": "Tokens of histories that the model read.",
    "tokens_reused": "Tokens of histories that were cached.",
}
GAUGES = {"entries": "Histories cached.", "bytes": "Memory they take."}


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
