"""How many recommendations a running service gives a second, with few and with many in flight.

    python serving/load_test.py http://127.0.0.1:8000 --in-flight 1 64 --seconds 10

Each request has a history of its own: items of the service's own lists, in changing order. Prints a
line of JSON for each number of requests in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time

import httpx

PATH = "/v1/recommendations"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--events", type=int, default=8, help="of each history")
    parser.add_argument("--key", default="none", help="API key of scope read")
    arguments = parser.parse_args()
    limits = httpx.Limits(max_connections=max(arguments.in_flight))
    headers = {"authorization": f"Bearer {arguments.key}"}
    async with httpx.AsyncClient(
        base_url=arguments.url, headers=headers, limits=limits, timeout=60
    ) as client:
        answer = await client.post(PATH, json={"n": 100})
        items = [one["item_id"] for one in answer.raise_for_status().json()["recommendations"]]
        for in_flight in arguments.in_flight:
            found = await measure(client, items, in_flight, arguments.seconds, arguments.events)
            print(json.dumps(found), flush=True)


async def measure(
    client: httpx.AsyncClient, items: list[str], in_flight: int, seconds: float, events: int
) -> dict[str, float]:
    """Ask for some seconds, so many requests at a time."""
    rng, took, until = random.Random(0), list[float](), time.perf_counter() + seconds
    statuses: dict[int, int] = {}

    async def ask() -> None:
        while time.perf_counter() < until:
            body = {"history": rng.sample(items, events), "n": 10}
            started = time.perf_counter()
            status = (await client.post(PATH, json=body)).status_code
            took.append(time.perf_counter() - started)
            statuses[status] = statuses.get(status, 0) + 1

    async def watch() -> float:
        """The slowest answer of /healthz meanwhile, in seconds."""
        slowest = 0.0
        while time.perf_counter() < until:
            started = time.perf_counter()
            await client.get("/healthz")
            slowest = max(slowest, time.perf_counter() - started)
            await asyncio.sleep(0.1)
        return slowest

    began = time.perf_counter()
    slowest, *_ = await asyncio.gather(watch(), *(ask() for _ in range(in_flight)))
    wall = time.perf_counter() - began
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    return {
        "in_flight": in_flight,
        "requests_per_second": round(statuses.get(200, 0) / wall, 2),
        "not_answered": sum(count for status, count in statuses.items() if status != 200),
        "p50_ms": round(cuts[49] * 1000, 1),
        "p99_ms": round(cuts[98] * 1000, 1),
        "slowest_healthz_ms": round(slowest * 1000, 1),
    }


if __name__ == "__main__":
    asyncio.run(main())
