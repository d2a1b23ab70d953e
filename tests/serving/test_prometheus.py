"""``/metrics`` counts what the history cache does, in Prometheus' text format."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from ask_bundle import recommend
from live_service import an_event, live_service
from tiny_shop import TinyRun

from llmrec.cli import run_command
from llmrec.serving import server
from llmrec.serving.bundle import Bundle

PREFIX = "llmrec_history_cache_"
LINE = re.compile(rf"(# (HELP|TYPE) )?{PREFIX}[a-z_]+ .+")


def figures(url: str) -> dict[str, int]:
    response = httpx.get(f"{url}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in response.text.splitlines() if PREFIX in line]
    assert all(LINE.fullmatch(line) for line in lines), lines
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    kinds = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    for name, _ in pairs:
        assert kinds[name] == ("counter" if name.endswith("_total") else "gauge")
    return {name.removeprefix(PREFIX): int(float(value)) for name, value in pairs}


def ask(url: str, history: list[str]) -> list[str]:
    body = {"messages": [{"role": "user", "content": ""}], "history": history}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    return [found["item_id"] for found in answer["recommendations"]]


@pytest.fixture
def command(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``llmrec serve`` with some flags, on a port of the tests' own; gives the address."""
    with ExitStack() as running:

        def start(*flags: str) -> str:
            made: list[Any] = []
            note = lambda opening, *_: made.append(server.open_app(opening))  # noqa: E731
            monkeypatch.setattr(server, "run_here", note)
            run_command(["serve", *flags, "--port", "0"])
            return running.enter_context(serve(made[0]))

        yield start


def test_people_who_come_back_are_counted(command: Any, atomic: Bundle) -> None:
    url = command(str(atomic.folder))
    assert set(figures(url).values()) == {0}
    history = atomic.item_ids[20:44]
    first = ask(url, history)
    once = figures(url)
    assert (once["hits_total"], once["misses_total"], once["entries"]) == (0, 1, 1)
    assert once["tokens_read_total"] > 0 == once["tokens_reused_total"]
    assert once["bytes"] > 0
    assert ask(url, history) == first == [f.item_id for f in recommend(atomic, history)]
    ask(url, [*history, atomic.item_ids[70]])
    later = figures(url)
    assert (later["hits_total"], later["misses_total"]) == (2, 1)
    assert later["tokens_reused_total"] > once["tokens_read_total"]
    assert later["evictions_total"] == 0


def test_a_small_cache_forgets(command: Any, semantic: Bundle) -> None:
    url = command(str(semantic.folder), "--cache-mib", "1", "--beams", "5")
    for start in range(0, 90, 2):
        ask(url, semantic.item_ids[start : start + 30])
    found = figures(url)
    assert 0 < found["bytes"] <= 2**20
    assert found["misses_total"] == 45
    assert found["entries"] + found["evictions_total"] == 45 > found["entries"]


def test_without_a_cache_there_is_nothing_to_count(url: str) -> None:
    assert figures(url) == {}


def test_requests_and_events_are_counted(tiny_run: TinyRun, tmp_path: Path) -> None:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as service:
        item = service.bundle.item_ids[0]
        service.send(an_event(0, "anna", item), an_event(0, "anna", item), an_event(1, "b", "x"))
        for _ in range(3):
            service.recommend()
        service.client.get("/v1/users/nobody/at-all")
        service.client.get("/nothing")
        lines = service.client.get("/metrics").text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    found = {name: float(value) for name, value in pairs}
    seconds = "llmrec_request_seconds_count"
    assert found[f'{seconds}{{method="POST",route="/v1/recommendations",status="200"}}'] == 3
    assert found[f'{seconds}{{method="POST",route="/v1/events",status="200"}}'] == 1
    route = "/v1/users/{user_id:path}"
    assert found[f'{seconds}{{method="GET",route="{route}",status="404"}}'] == 1
    assert found[f'{seconds}{{method="none",route="none",status="404"}}'] == 1
    for outcome in ("stored", "duplicate", "refused"):
        assert found[f'llmrec_events_total{{outcome="{outcome}"}}'] == 1
    assert (found["llmrec_batch_size_count"], found["llmrec_queue_length"]) == (3, 0)
