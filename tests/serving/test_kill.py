"""A killed server has stored every event that it acknowledged, each once."""

import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
from live_service import an_event
from server_process import ServerProcess, server_process
from tiny_shop import TinyRun

from llmrec.serving.bundle import Bundle
from llmrec.serving.store.database import Store

USERS = 3


def send_until_it_dies(
    server: ServerProcess, items: list[str], numbers: Iterator[int], acknowledged: set[str]
) -> None:
    """Batches of five, the last one sent twice; adds the ids that were acknowledged."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while True:
            rows = [next(numbers) for _ in range(5)]
            batch = [an_event(r, f"u{r % USERS}", items[r % len(items)]) for r in rows]
            for _ in range(1 + rows[0] % 2):
                try:
                    answer = client.post("/v1/events", json={"events": batch})
                except httpx.TransportError:
                    return
                assert answer.status_code == 200
                acknowledged |= {one["event_id"] for one in answer.json()["results"]}


def test_kills(tiny_run: TinyRun, atomic: Bundle, tmp_path: Path) -> None:
    path, acknowledged, numbers = tmp_path / "store.sqlite", set[str](), count()
    flags = ("--store", f"sqlite:///{path}", "--no-verify")
    stored: list[tuple[str, str]] = []
    for run in range(2):
        with server_process(tiny_run.bundle("atomic"), *flags) as server:
            answer = httpx.post(f"{server.url}/v1/recommendations", json={"user": "u1"}, timeout=60)
            assert answer.json()["history_given"] == sum(user == "u1" for _, user in stored)
            arguments = (server, atomic.item_ids, numbers, acknowledged)
            threads = [
                threading.Thread(target=send_until_it_dies, args=arguments) for _ in range(4)
            ]
            before = len(acknowledged)
            for thread in threads:
                thread.start()
            while len(acknowledged) < before + 100:
                time.sleep(0.01)
            time.sleep(0.013 * run)
            server.kill()
            for thread in threads:
                thread.join()
        with Store(f"sqlite:///{path}") as store, store.read() as connection:
            rows = connection.exec_driver_sql("SELECT event_id, user_id FROM events")
            stored = [tuple(row) for row in rows]  # type: ignore[misc]
        assert acknowledged <= {event_id for event_id, _ in stored}
        assert len(stored) == len({event_id for event_id, _ in stored})
