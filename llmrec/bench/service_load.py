"""How fast a service answers few and many, and how soon it knows what happened."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from llmrec.bench.http_load import Connection, Timings, keep_asking

LIST = "/v1/recommendations"
EVENTS = 8  # of a history
N = 10
MANY = 64  # requests in flight
WARM_UP = 1.5  # seconds
HEALTH_PAUSE = 0.02  # seconds between two looks at /healthz

Body = dict[str, Any]


async def item_ids(url: str, key: str = "") -> list[str]:
    """Items that a service recommends, 100 at most."""
    async with Connection(url, key) as connection:
        found = await connection.ask_json("POST", LIST, {"n": 100, "calibrated": False})
    return [one["item_id"] for one in found["recommendations"]]


def bodies(items: list[str], seed: int = 0, **more: Any) -> Callable[[], tuple[str, str, Body]]:
    """Requests of strangers, each with a history of its own."""
    rng = random.Random(seed)

    def one() -> tuple[str, str, Body]:
        return "POST", LIST, {"history": rng.sample(items, EVENTS), "n": N} | more

    return one


async def throughput(url: str, seconds: float, key: str = "", **more: Any) -> dict[str, float]:
    """Lists a second one at a time and :data:`MANY` at a time, and ``/healthz`` meanwhile.

    Args:
        more: fields of each request.
    """
    items = await item_ids(url, key)
    found: dict[str, float] = {}
    for in_flight in (1, MANY):
        health = asyncio.create_task(
            keep_asking(
                url, lambda: ("GET", "/healthz", None), 1, seconds,
                warm_up=WARM_UP, pause=HEALTH_PAUSE,
            )
        )  # fmt: skip
        asked = bodies(items, in_flight, **more)
        took = await keep_asking(url, asked, in_flight, seconds, key, WARM_UP)
        found |= _figures(took, in_flight)
        found[f"healthz_p99_ms@{in_flight}"] = (await health).percentile_ms(99)
    found["throughput_64_over_1"] = found["per_second@64"] / found["per_second@1"]
    return found


def _figures(took: Timings, in_flight: int) -> dict[str, float]:
    good = sum(n for status, n in took.statuses.items() if 200 <= status < 300)
    return {
        f"per_second@{in_flight}": took.per_second,
        f"p50_ms@{in_flight}": took.percentile_ms(50),
        f"p95_ms@{in_flight}": took.percentile_ms(95),
        f"not_answered@{in_flight}": float(sum(took.statuses.values()) - good),
    }


async def overhead_ms(url: str, requests: int, **more: Any) -> float:
    """What HTTP, JSON, the queue and the log of lists add to a recommender's own time, p50.

    That time is the one that each answer states, so that both are of the same request.
    """
    items = await item_ids(url)
    asked, added = bodies(items, 7, **more), []
    async with Connection(url) as connection:
        for _ in range(requests):
            method, path, body = asked()
            started = time.perf_counter()
            status, text = await connection.ask(method, path, body)
            wall = (time.perf_counter() - started) * 1000
            if status == 200:
                added.append(wall - json.loads(text)["timings_ms"]["total"])
    return statistics.median(added)


async def reflection(url: str, events: int, users: int = 50, **more: Any) -> dict[str, float]:
    """Whether the next list reflects each event, and how soon after the event was stored.

    One event and one list at a time; each event is of the next user.
    """
    items, rng = await item_ids(url), random.Random(3)
    took, missed, count = [], 0, dict.fromkeys(range(users), 0)
    async with Connection(url) as connection:
        for number in range(events):
            user = number % users
            event = {
                "event_id": f"reflect-{number}",
                "user_id": f"reflect-user-{user}",
                "item_id": rng.choice(items),
                "type": "click",
            }
            await connection.ask_json("POST", "/v1/events", {"events": [event]})
            count[user] += 1
            started = time.perf_counter()
            body = {"user": event["user_id"], "n": N} | more
            found = await connection.ask_json("POST", LIST, body)
            took.append(time.perf_counter() - started)
            shown = {one["item_id"] for one in found["recommendations"]}
            known = found["history_given"] == min(count[user], 1000)
            missed += not known or event["item_id"] in shown
    return {
        "event_to_answer_p50_ms": statistics.median(took) * 1000,
        "events_not_reflected": float(missed),
        "events_sent": float(events),
    }


async def vllm_per_second(
    url: str, model: str, prompts: list[list[int]], levels: int, seconds: float
) -> float:
    """Lists a second of a vLLM server's own beam search, :data:`MANY` at a time.

    Args:
        prompts: token ids.
        levels: tokens of an item ID.
    """
    rng = random.Random(5)

    def one() -> tuple[str, str, Body]:
        return "POST", "/v1/completions", {
            "model": model,
            "prompt": rng.choice(prompts),
            "use_beam_search": True,
            "n": N,
            "max_tokens": levels,
            "temperature": 0,
        }  # fmt: skip

    took = await keep_asking(url, one, MANY, seconds, warm_up=2 * WARM_UP)
    if not took.per_second:
        raise ConnectionError(f"vLLM's beam search answered nothing: {dict(took.statuses)}")
    return took.per_second
