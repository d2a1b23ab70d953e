"""Everything at once for a while: what goes wrong, and whether memory settles."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from llmrec.bench.http_load import NOT_ANSWERED, Connection
from llmrec.bench.service_load import bodies, item_ids
from llmrec.bench.service_process import ServiceProcess

WARM_UP = 0.25  # share of the time after which memory is compared with
SAMPLE_SECONDS = 1.0
EXPECTED = {*range(200, 300), 400, 404, 405, 408, 413, 415, 422, 429}

Ask = tuple[str, str, Any]


async def soak(service: ServiceProcess, seconds: float) -> dict[str, float]:
    """Mixed load: lists, events, catalogue writes, chat and search, and clients that misbehave.

    What a client did wrong itself is no error.
    """
    items = await item_ids(service.url)
    routes = await _routes(service.url)
    until, statuses = time.perf_counter() + seconds, Counter[int]()
    began = time.perf_counter()
    samples: list[tuple[float, float]] = []

    async def polite(make: Callable[[random.Random], Ask], seed: int) -> None:
        rng = random.Random(seed)
        async with Connection(service.url) as connection:
            while time.perf_counter() < until:
                status, _ = await connection.ask(*make(rng))
                statuses[status] += 1
                await asyncio.sleep(0.005)

    async def watch() -> None:
        while time.perf_counter() < until:
            await asyncio.sleep(SAMPLE_SECONDS)
            samples.append((time.perf_counter() - began, service.rss_mib()))

    async with asyncio.TaskGroup() as group:
        for seed, make in enumerate(_mix(items, routes)):
            group.create_task(polite(make, seed))
        for misbehave in (_half_body, _deaf, _garbage):
            group.create_task(_until(misbehave, service.url, until))
        group.create_task(watch())
    before = [mib for at, mib in samples if WARM_UP * seconds <= at < 2 * WARM_UP * seconds]
    after = [mib for at, mib in samples if at >= (1 - WARM_UP) * seconds]
    warm, end = sum(before) / len(before), sum(after) / len(after)
    errors = sum(n for status, n in statuses.items() if status not in EXPECTED)
    return {
        "soak_errors": float(errors),
        "soak_rss_growth": end / warm - 1,
        "soak_seconds": seconds,
        "soak_requests": float(sum(statuses.values())),
        "soak_rss_mib": end,
    } | {f"soak_status_{status}": float(n) for status, n in sorted(statuses.items())}


async def _routes(url: str) -> set[str]:
    async with Connection(url) as connection:
        return set((await connection.ask_json("GET", "/openapi.json"))["paths"])


def _mix(items: list[str], routes: set[str]) -> list[Callable[[random.Random], Ask]]:
    """What the polite ones ask, a client each."""
    strangers = bodies(items)

    def person(rng: random.Random) -> str:
        return f"soak-{rng.randrange(500)}"

    def listed(rng: random.Random) -> Ask:
        return "POST", "/v1/recommendations", {"user": person(rng), "n": 10}

    def events(rng: random.Random) -> Ask:
        batch = [
            {
                "event_id": f"soak-{rng.random()}",
                "user_id": person(rng),
                "item_id": rng.choice(items),
                "type": rng.choice(["view", "click", "cart", "purchase"]),
            }
            for _ in range(5)
        ]
        return "POST", "/v1/events", {"events": batch}

    def chat(rng: random.Random) -> Ask:
        words = rng.choice(["something warm", "a gift", "for summer"])
        message = {"role": "user", "content": words}
        return "POST", "/v1/chat/completions", {"model": "llmrec", "messages": [message]}

    def write(rng: random.Random) -> Ask:
        item = f"soak-item-{rng.randrange(20)}"
        price = rng.randrange(5, 90)
        one = {"item_id": item, "title": f"thing {item}", "price": price, "in_stock": True}
        return "PUT", "/v1/catalog/items", {"items": [one]}

    def search(rng: random.Random) -> Ask:
        return "POST", "/v1/search", {"query": rng.choice(["red shoes", "lamp"]), "n": 5}

    mix = [lambda _rng: strangers(), lambda _rng: strangers(), listed, listed, events, chat]
    mix += [write] if "/v1/catalog/items" in routes else []
    return mix + ([search] if "/v1/search" in routes else [])


async def _until(misbehave: Callable[[str, int], Any], url: str, until: float) -> None:
    parts = urlsplit(url)
    while time.perf_counter() < until:
        try:
            await misbehave(parts.hostname or "127.0.0.1", parts.port or 80)
        except OSError:
            await asyncio.sleep(0.1)


async def _half_body(host: str, port: int) -> None:
    """Says a length, sends half of it and goes."""
    _, writer = await asyncio.open_connection(host, port)
    head = "POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode() + b'{"history": [')
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()


async def _deaf(host: str, port: int) -> None:
    """Asks for much and reads nothing."""
    _, writer = await asyncio.open_connection(host, port)
    for _ in range(20):
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(2)
    writer.close()


async def _garbage(host: str, port: int) -> None:
    """Sends what is no HTTP, and what is no JSON."""
    _, writer = await asyncio.open_connection(host, port)
    writer.write(random.randbytes(200) + b"\r\n\r\n")
    await asyncio.sleep(0.05)
    writer.close()
    async with Connection(f"http://{host}:{port}") as connection:
        status, _ = await connection.ask("POST", "/v1/events", b'{"events": [{]')
        assert status in (400, 429, NOT_ANSWERED)
    await asyncio.sleep(0.05)
