"""The service while many ask at once."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import PATIENT, LiveService, live_service
from tiny_shop import TinyRun

from llmrec.errors import ConfigError
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.settings import ServiceConfig

SMALL = ServiceConfig(**PATIENT, waiting=2, batch=1)


class Gate:
    """Holds up a recommender's batches."""

    def __init__(self, recommender: Recommender) -> None:
        self._answer, self.begun, self.open = (
            recommender.answer_each,
            threading.Event(),
            threading.Event(),
        )
        recommender.answer_each = self  # type: ignore[method-assign, assignment]

    def __call__(self, requests: Sequence[RecommendRequest]) -> Any:
        self.begun.set()
        assert self.open.wait(30)
        return self._answer(requests)


@pytest.fixture
def busy(tiny_run: TinyRun, tmp_path: Path) -> Iterator[LiveService]:
    """One request is being answered and two wait, which is all that may."""
    path = tmp_path / "store.sqlite"
    with live_service(tiny_run.bundle("atomic"), path, SMALL) as it, ThreadPoolExecutor(3) as pool:
        gate = Gate(it.recommender)
        pool.submit(it.recommend)
        assert gate.begun.wait(30)
        waiting = [pool.submit(it.recommend) for _ in range(2)]
        while it.client.get("/readyz").status_code == 200:
            time.sleep(0.01)
        yield it
        gate.open.set()
        assert all(len(one.result()["recommendations"]) == 10 for one in waiting)


def test_what_is_too_much_is_told_to_come_again(busy: LiveService) -> None:
    answer = busy.client.post("/v1/recommendations", json={})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["code"] == "busy"
    assert busy.client.get("/healthz").json()["status"] == "ok"
    assert busy.client.get("/readyz").status_code == 503


def test_what_takes_too_long_is_given_up(tiny_run: TinyRun, tmp_path: Path) -> None:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as service:
        gate = Gate(service.recommender)
        headers = {"X-Deadline-Ms": "30"}
        answer = service.client.post("/v1/recommendations", json={}, headers=headers)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert service.client.get("/healthz").status_code == 200
        gate.open.set()
        assert service.recommend()["recommendations"]
        headers = {"X-Deadline-Ms": "soon"}
        answer = service.client.post("/v1/recommendations", json={}, headers=headers)
        assert answer.status_code == 400
    assert SMALL.deadline_within("999999999") == SMALL.deadline_ms / 1000


def test_together_each_gets_its_own_answer(tiny_run: TinyRun, tmp_path: Path) -> None:
    path, config = tmp_path / "store.sqlite", ServiceConfig(**PATIENT, batch_wait_ms=50, batch=16)
    with live_service(tiny_run.bundle("semantic"), path, config) as service:
        items = service.bundle.item_ids

        def body(number: int) -> dict[str, Any]:
            more: dict[str, Any] = [
                {},
                {"n": 60},
                {"query": service.bundle.titles[number]},
                {"candidates": items[number : number + 6]},
                {"where": {"in_stock": True}, "exclude_history": False},
                {"similar_to": items[number]},
                {"where": {"colour": "red"}},
            ][number % 7]
            return {"history": items[number : number + 1 + number % 3]} | more

        def ask(number: int) -> httpx.Response:
            return service.client.post("/v1/recommendations", json=body(number))

        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(ask, range(42)))
        sizes = service.client.get("/metrics").text
        assert 'llmrec_batch_size_bucket{le="2.0"} 42.0' not in sizes
        alone = Recommender(service.bundle, histories=lambda _: None)
        for number, answer in enumerate(together):
            request = body(number)
            if number % 7 == 6:
                assert answer.status_code == 400
                assert answer.json()["error"]["param"] == "where"
                continue
            expected = alone.answer(RecommendRequest(**request)).recommendations
            found = answer.json()["recommendations"]
            assert [one["item_id"] for one in found] == [one.item_id for one in expected]
            scores = [one["score"] for one in found]
            assert scores == pytest.approx([one.score for one in expected], abs=1e-4)


def test_one_wrong_request_does_not_stop_the_others(atomic: Bundle) -> None:
    recommender = Recommender(atomic)
    requests = [RecommendRequest([], n) for n in (3, 5)]
    requests.insert(1, RecommendRequest([], 4, allow=["nothing"]))
    requests.insert(2, RecommendRequest([3], 4))  # type: ignore[list-item]
    first, unknown, wrong, last = recommender.answer_each(requests)
    assert isinstance(wrong, ConfigError)
    assert "'nothing' is not in the catalogue" in str(unknown)
    assert len(first.recommendations) == 3  # type: ignore[union-attr]
    assert len(last.recommendations) == 5  # type: ignore[union-attr]
