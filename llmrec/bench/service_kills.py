"""``kill -9`` of a service that takes events, again and again: is anything lost or counted twice?

Run as a program it opens a bundle once and forks: each child is a whole service with a store of its
own connections, so that fifty kills do not load fifty bundles.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.bench.http_load import Connection
from llmrec.errors import LlmrecError

CLIENTS = 4
BATCH = 5
SHORTEST, LONGEST = 0.15, 0.6  # seconds under load before a kill


@dataclass
class Sent:
    """What clients know.

    Attributes:
        acknowledged: ids of events that the service said are stored.
        numbers: how many were sent.
    """

    acknowledged: set[str] = field(default_factory=set)
    numbers: int = 0


@dataclass
class Forks:
    """Services that are forked from one that has opened the bundle."""

    parent: subprocess.Popen[str]
    port: int

    def start(self) -> int:
        """Start a service; its process id, once it answers."""
        assert self.parent.stdin is not None and self.parent.stdout is not None
        print("fork", file=self.parent.stdin, flush=True)
        line = self.parent.stdout.readline().strip()
        if not line.isdigit():
            raise LlmrecError(f"no service was forked: {line}")
        return int(line)


@contextmanager
def forks(bundle: Path, store: str, log: Path) -> Iterator[Forks]:
    """A process that forks services of a bundle and a store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", __name__, str(bundle), store, str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (
        open(log, "w") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env=environment,
        ) as parent,
    ):
        try:
            yield Forks(parent, port)
        finally:
            parent.kill()


async def kill_often(forked: Forks, items: list[str], kills: int, seed: int = 0) -> Sent:
    """Kill a service under load so many times."""
    rng, sent = random.Random(seed), Sent()
    url = f"http://127.0.0.1:{forked.port}"
    for _ in range(kills):
        pid = await asyncio.to_thread(forked.start)
        await _answers(url)
        clients = [asyncio.create_task(_send(url, items, sent)) for _ in range(CLIENTS)]
        await asyncio.sleep(rng.uniform(SHORTEST, LONGEST))
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*clients)
    return sent


async def _answers(url: str) -> None:
    for _ in range(600):
        async with Connection(url) as connection:
            if (await connection.ask("GET", "/healthz"))[0] == 200:
                return
        await asyncio.sleep(0.05)
    raise LlmrecError("a forked service does not answer")


async def _send(url: str, items: list[str], sent: Sent) -> None:
    """Batches until the service dies; every other one is sent twice, as a shop does that got no
    answer."""
    async with Connection(url) as connection:
        while True:
            first = sent.numbers
            sent.numbers += BATCH
            batch = [
                {
                    "event_id": f"kill-{number}",
                    "user_id": f"kill-user-{number % 7}",
                    "item_id": items[number % len(items)],
                    "type": "click",
                }
                for number in range(first, first + BATCH)
            ]
            for _ in range(1 + first // BATCH % 2):
                status, _ = await connection.ask("POST", "/v1/events", {"events": batch})
                if status != 200:
                    return
                sent.acknowledged |= {one["event_id"] for one in batch}


def wrong_events(store: str, sent: Sent) -> int:
    """Acknowledged events that are not stored, and stored ones beyond the first of an id."""
    from llmrec.serving.store.database import Store

    with Store(store) as opened, opened.read() as connection:
        rows = connection.exec_driver_sql("SELECT event_id FROM events")
        stored = Counter(str(row[0]) for row in rows)
    lost = sent.acknowledged - set(stored)
    return len(lost) + sum(count - 1 for count in stored.values())


def main() -> None:
    """Fork a service for each line that comes in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("store")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    import llmrec.serving.app  # noqa: F401  each fork would import it anew
    from llmrec.serving.bundle import Bundle

    bundle = Bundle(given.bundle, verify=False)
    for _line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _serve(bundle, given.store, given.port)
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, 0)  # the port is free again when the next one starts


def _serve(bundle: Any, store: str, port: int) -> None:
    import uvicorn

    from llmrec.serving.app import create_app
    from llmrec.serving.live import LiveHistories
    from llmrec.serving.recommender import Recommender
    from llmrec.serving.store.database import Store

    live = LiveHistories(Store(store), bundle)
    recommender = Recommender(bundle, histories=live.history)
    uvicorn.run(
        create_app(recommender, live), host="127.0.0.1", port=port, access_log=False,
        log_level="warning",
    )  # fmt: skip


if __name__ == "__main__":
    main()
