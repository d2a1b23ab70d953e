"""What someone who comes back costs: a history that is known, and one more event.

Both kinds of item ID, one user and a batch. Cold reads the whole history; warm goes on from
what a :class:`~llmrec.generation.history_cache.HistoryCache` holds of its first part.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from llmrec.bench.agreement import same_as
from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.worker import use_threads
from llmrec.bench.workload import BASE_TOKENS, RETURNING_EVENTS, random_llama
from llmrec.generation.beam_search import decode_slots
from llmrec.generation.history_cache import HistoryCache
from llmrec.generation.llm import Llm, make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.types import Histories

START = 1  # the token every prompt begins with
CACHE_BYTES = 2**34


def measure_returning(config: DecodeBenchConfig, semantic: ItemIds) -> list[dict[str, Any]]:
    """Rows of the result file: one each for semantic and atomic IDs, and one user and a batch."""
    use_threads(config.threads)
    rows = []
    for ids in (semantic, ItemIds.atomic(config.items)):
        llm = _llm(config, ids)
        for batch in sorted({1, config.batch}):
            row = _measure(config, llm, batch)
            rows.append(row)
            print(
                f"returning: {ids.kind} IDs, batch {batch}: {row['cold_ms']:.1f} ms cold, "
                f"{row['warm_ms']:.1f} ms warm ({row['speedup']:.2f} times)",
                flush=True,
            )
    return rows


def returning_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Flat metrics: those of one user with semantic IDs, and of each row by its name."""
    metrics: dict[str, float] = {
        "returning_speedup": rows[0]["speedup"],
        "returning_speedup_prefill": rows[0]["speedup_prefill"],
        "returning_identical": float(all(row["identical_items"] for row in rows)),
    }
    for row in rows:
        name = f"{row['ids']},{row['batch']}"
        metrics[f"returning_speedup@{name}"] = row["speedup"]
        metrics[f"returning_speedup_prefill@{name}"] = row["speedup_prefill"]
    return metrics


def _llm(config: DecodeBenchConfig, ids: ItemIds) -> Llm:
    """A random recommender that says a whole history and one more event."""
    vocabulary = Vocabulary.of(BASE_TOKENS, (), ids)
    encoder = HistoryEncoder(vocabulary, ids, [START], RETURNING_EVENTS + 1)
    model = random_llama(config.size, vocabulary.size, encoder.max_tokens(), config.seed)
    model = model.to(config.device, getattr(torch, config.dtype))
    return make_llm(model, encoder, ids, batch_size=config.batch, beams=config.beams)


def _measure(config: DecodeBenchConfig, llm: Llm, batch: int) -> dict[str, Any]:
    rng = np.random.default_rng(config.seed + 2)
    events = rng.integers(llm.n_items, size=(batch, RETURNING_EVENTS + 1))
    whole = Histories.from_lists(events.tolist())
    known = Histories.from_lists(events[:, :-1].tolist())

    def recommend() -> Any:
        return llm.recommend(whole, config.n, exclude_history=False)

    seconds: dict[str, list[float]] = {name: [] for name in ("cold", "warm", "read", "go_on")}
    identical = True
    for turn in range(config.repeats + 1):  # the first one warms up
        llm.cache = None
        cold, cold_seconds = _timed(config, recommend)
        llm.cache = _remembering(llm, known)
        warm, warm_seconds = _timed(config, recommend)
        identical &= bool(same_as(warm, cold, config.tolerance).all())
        read = _timed(config, lambda: _read(llm, None, whole, config))[1]
        cache = _remembering(llm, known)
        go_on = _timed(config, lambda cache=cache: _read(llm, cache, whole, config))[1]
        if turn:
            for name, value in zip(seconds, (cold_seconds, warm_seconds, read, go_on), strict=True):
                seconds[name].append(value)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "ids": llm.ids.kind,
        "batch": batch,
        "events_known": RETURNING_EVENTS,
        "cold_ms": round(1000 * medians["cold"], 3),
        "warm_ms": round(1000 * medians["warm"], 3),
        "cold_prefill_ms": round(1000 * medians["read"], 3),
        "warm_prefill_ms": round(1000 * medians["go_on"], 3),
        "speedup": round(medians["cold"] / medians["warm"], 3),
        "speedup_prefill": round(medians["read"] / medians["go_on"], 3),
        "identical_items": identical,
        "seconds": {name: [round(v, 6) for v in values] for name, values in seconds.items()},
    }


def _remembering(llm: Llm, histories: Histories) -> HistoryCache:
    """A cache that knows these histories and nothing else."""
    cache = HistoryCache(CACHE_BYTES)
    cache.prefill(llm.engine, llm.prompts(histories), 0)
    return cache


def _read(
    llm: Llm, cache: HistoryCache | None, histories: Histories, config: DecodeBenchConfig
) -> None:
    """Read prompts as a request does, without the search."""
    llm.cache = cache
    llm.prefill(llm.prompts(histories), decode_slots(llm.trie, config.beams))


def _timed(config: DecodeBenchConfig, work: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    if config.device == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - started
