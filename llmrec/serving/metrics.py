"""What the service has counted, in the text format that Prometheus reads."""

from __future__ import annotations

from llmrec.serving.bundle import Bundle

CONTENT_TYPE = "text/plain; version=0.0.4"
# counted since the service began; the others are as they are now
COUNTERS = {
    "hits": "Histories of which a beginning was remembered.",
    "misses": "Histories of which nothing was remembered.",
    "evictions": "Histories forgotten to make room.",
    "tokens_read": "Tokens of histories the model read.",
    "tokens_reused": "Tokens of histories that were remembered.",
}
GAUGES = {"entries": "Histories remembered.", "bytes": "Memory they take."}


def prometheus_text(bundle: Bundle) -> str:
    """Figures of the history caches, a few lines each; empty for a bundle without any.

    The model and each adapter keep one; what is said is true of all together.
    """
    caches = [bundle.recommender_of(name).cache for name in (None, *bundle.adapters)]
    counted = [cache.metrics for cache in caches if cache is not None]
    if not counted:
        return ""
    figures = {name: sum(one[name] for one in counted) for name in counted[0]}
    lines = []
    for name, said in COUNTERS.items():
        lines += _metric(f"llmrec_history_cache_{name}_total", "counter", said, figures[name])
    for name, said in GAUGES.items():
        lines += _metric(f"llmrec_history_cache_{name}", "gauge", said, figures[name])
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, said: str, value: int) -> list[str]:
    return [f"# HELP {name} {said}", f"# TYPE {name} {kind}", f"{name} {value}"]
