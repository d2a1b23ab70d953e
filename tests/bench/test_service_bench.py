"""The load test counts what a service does, and finds what it does wrong."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Response
from live_service import live_service
from server import served
from tiny_shop import TinyRun

from llmrec.bench import service_load
from llmrec.bench.http_load import Connection, keep_asking
from llmrec.bench.service import ServiceBench, ServiceBenchConfig
from llmrec.bench.service_kills import Sent, wrong_events
from llmrec.errors import ConfigError
from llmrec.serving.app import create_app
from llmrec.serving.store import events
from llmrec.serving.store.database import Store
from llmrec.serving.store.events import StoredEvent


@pytest.fixture(scope="module")
def url(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of the tiny shop."""
    path = tmp_path_factory.mktemp("load") / "store.sqlite"
    with (
        live_service(tiny_run.bundle("atomic"), path) as service,
        served(create_app(service.recommender, service.live)) as address,
    ):
        yield address


def test_few_and_many_are_timed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_load, "WARM_UP", 0.1)
    found = asyncio.run(service_load.throughput(url, 0.5))
    assert found["per_second@1"] > 0 and found["per_second@64"] > 0
    assert found["not_answered@1"] == found["not_answered@64"] == 0
    assert found["p50_ms@64"] <= found["p95_ms@64"] and found["healthz_p99_ms@64"] > 0
    assert found["throughput_64_over_1"] == found["per_second@64"] / found["per_second@1"]
    assert asyncio.run(service_load.overhead_ms(url, 5)) > 0


def test_every_event_is_looked_for(url: str) -> None:
    found = asyncio.run(service_load.reflection(url, 12, users=5))
    assert found["events_sent"] == 12 and found["events_not_reflected"] == 0
    assert found["event_to_answer_p50_ms"] > 0
    again = asyncio.run(service_load.reflection(url, 3, users=3))  # known events: nothing new
    assert again["events_not_reflected"] == 3


def test_answers_are_counted_by_their_status() -> None:
    app = FastAPI()
    answers = iter([200, 503] * 1000)

    @app.post("/it")
    def it(body: dict[str, Any]) -> Response:
        return Response(json.dumps(body), status_code=next(answers))

    async def ask(url: str) -> None:
        async with Connection(url) as connection:
            assert await connection.ask("POST", "/it", {"a": 1}) == (200, b'{"a": 1}')
            with pytest.raises(ConnectionError, match="POST /it: 503"):
                await connection.ask_json("POST", "/it", {"a": 1})
        took = await keep_asking(url, lambda: ("POST", "/it", {"a": 1}), 2, 0.2)
        assert abs(took.statuses[200] - took.statuses[503]) <= 2
        assert took.per_second == took.statuses[200] / took.wall

    with served(app) as url:
        asyncio.run(ask(url))
    gone = asyncio.run(keep_asking(url, lambda: ("GET", "/it", None), 1, 0.1))
    assert set(gone.statuses) == {0} and gone.per_second == 0


def test_lost_events_are_found(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite"
    with Store(url) as store, store.write() as connection:
        events.add(connection, [StoredEvent(f"kill-{n}", "u", "click", 1.0, "i") for n in (0, 1)])
    assert wrong_events(url, Sent({"kill-0", "kill-1"})) == 0
    assert wrong_events(url, Sent({"kill-0", "kill-7", "kill-8"})) == 2


def test_a_killed_service_is_followed_by_another(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = ServiceBenchConfig(parts=("kills",), kills=2)
    bench = ServiceBench(tiny_run.bundle("atomic"), tmp_path, config, [])
    found = {"lost_events": 0.0, "kills": 0.0, "events_acknowledged": 0.0}
    bench._kills_of(f"sqlite:///{tmp_path}/kills.sqlite", found)
    assert found["lost_events"] == 0 and found["kills"] == 2
    assert found["events_acknowledged"] > 0


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="parts: 'tea' is none of load, reflect"):
        ServiceBenchConfig(parts=("tea",))
