"""``POST /v1/events``: stored once, counted once, and in the next recommendation."""

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ask_bundle import recommend
from live_service import WHEN, LiveService, an_event, live_service
from tiny_shop import TinyRun

from llmrec.data.item_graph import ItemGraph
from llmrec.types import Histories


@pytest.fixture
def service(tiny_run: TinyRun, tmp_path: Path) -> Iterator[LiveService]:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite", busy_seconds=0.2) as it:
        yield it


def edges_of(service: LiveService, *histories: list[str]) -> np.ndarray:
    """What histories alone make of the item graph."""
    graph = service.bundle.prior.scorer.graph  # type: ignore[union-attr]
    rows = [[service.bundle.index[item] for item in history] for history in histories]
    fitted = ItemGraph.fit(Histories.from_lists(rows), graph.n_items, graph.config)
    return np.array(fitted.matrix().toarray())


def outcomes(answer: Any) -> list[str]:
    return [result["outcome"] for result in answer.json()["results"]]


def test_the_next_recommendation_reflects_it(service: LiveService) -> None:
    items = service.bundle.item_ids
    service.bundle.prior.weight = 1.0  # type: ignore[union-attr]
    cold = service.recommend(user="anna")
    assert cold["notes"] == ["user: 'anna' is not known and is taken as new"]
    for row in range(3):
        assert service.send(an_event(row, "anna", items[row])).status_code == 200
        found = service.recommend(user="anna")
        assert found["history_given"] == row + 1
        history = [{"item_id": items[r], "timestamp": WHEN + 60 * r} for r in range(row + 1)]
        expected = recommend(service.bundle, history)
        assert [one["item_id"] for one in found["recommendations"]] == [
            one.item_id for one in expected
        ]
        assert items[row] not in [one["item_id"] for one in found["recommendations"]]
    assert [one["item_id"] for one in cold["recommendations"]] != [one.item_id for one in expected]


def test_the_item_graph_counts_each_event_once(service: LiveService) -> None:
    items, before = service.bundle.item_ids, service.edges()
    first = service.send(an_event(0, "anna", items[5]), an_event(3, "anna", items[9]))
    assert outcomes(first) == ["stored", "stored"]
    late = an_event(1, "anna", items[7])
    again = service.send(an_event(3, "anna", items[9]), late, late, an_event(2, "ben", items[1]))
    assert outcomes(again) == ["duplicate", "stored", "duplicate", "stored"]
    assert again.json()["stored"] == again.json()["duplicate"] == 2
    anna = [items[5], items[7], items[9]]
    assert (service.edges() == before + edges_of(service, anna, [items[1]])).all()


def test_a_return_is_no_sign_of_interest(service: LiveService) -> None:
    items, before = service.bundle.item_ids, service.edges()
    service.send(
        an_event(0, "anna", items[0], "purchase"),
        an_event(1, "anna", items[0], "return"),
        an_event(2, "anna", items[4], "cart"),
        an_event(3, "anna", items[4], "after_service", text="a new zip"),
        {"event_id": "s", "user_id": "anna", "type": "search", "text": "warm socks"},
    )
    assert (service.edges() == before + edges_of(service, [items[0], items[4]])).all()
    found = service.recommend(user="anna")
    assert (found["history_given"], found["history_read"]) == (3, 2)


def test_one_wrong_event_does_not_stop_the_others(service: LiveService) -> None:
    items = service.bundle.item_ids
    answer = service.send(
        an_event(0, "anna", items[0]), an_event(1, "anna", "nothing"), an_event(2, "anna", items[1])
    )
    assert answer.status_code == 200
    body = answer.json()
    assert (body["stored"], body["refused"]) == (2, 1)
    assert [one["status"] for one in body["results"]] == [201, 422, 201]
    assert body["results"][1]["error"] == {
        "message": "item_id: 'nothing' is not in the catalogue",
        "param": "events[1].item_id",
        "code": "unknown_item",
    }
    assert body["catalog_version"] == service.bundle.catalog_version
    assert service.recommend(user="anna")["history_given"] == 2


@pytest.mark.parametrize(
    ("field", "value", "message", "place"),
    [
        ("timestamp", WHEN + 1e9, "more than a day in the future", "timestamp"),
        ("timestamp", math.nan, "no time", "timestamp"),
        ("timestamp", -1, "no time", "timestamp"),
        ("timestamp", WHEN * 1000, "not a time in seconds", "timestamp"),
        ("timestamp", "yesterday", "is no time", "timestamp"),
        ("timestamp", [], "valid number", "timestamp"),
        ("rating", math.nan, "rating: nan is not between 1 and 5", "rating"),
        ("rating", math.inf, "is not between", "rating"),
        ("rating", 0.5, "is not between", "rating"),
        ("rating", 5.5, "is not between", "rating"),
        ("rating", "good", "valid number", "rating"),
        ("type", "like", "'like' is not one of view, click", "type"),
        ("type", "search", "a search has none", "item_id"),
        ("type", "rating", "an event of type rating needs one", "rating"),
        ("item_id", None, "a click needs one", "item_id"),
        ("revenue", 3.0, "revenue: only a purchase has one", "revenue"),
        ("user_id", "", "at least 1 character", "user_id"),
        ("user_id", "a\0", "holds a NUL character", "user_id"),
        ("user_id", "\ud800", "unicode", "user_id"),
        ("user_id", "x" * 257, "at most 256", "user_id"),
        ("event_id", None, "valid string", "event_id"),
        ("event_id", "\ud800", "unicode", "event_id"),
        ("context", {"device": ["phone"]}, "is neither text nor number", "context.device"),
        ("context", {str(row): 1 for row in range(51)}, "at most 50", "context"),
        ("context", {"device": math.nan}, "is no number", "context.device"),
        ("colour", "red", "Extra inputs are not permitted", "colour"),
    ],
)
def test_a_wrong_field(
    service: LiveService, field: str, value: Any, message: str, place: str
) -> None:
    event = an_event(0, "anna", service.bundle.item_ids[0]) | {field: value}
    headers = {"content-type": "application/json"}
    body = json.dumps({"events": [event, an_event(1, "anna", service.bundle.item_ids[0])]})
    answer = service.client.post("/v1/events", content=body, headers=headers)
    assert answer.status_code == 200
    refused, stored = answer.json()["results"]
    assert (refused["status"], stored["status"]) == (422, 201)
    assert message in refused["error"]["message"]
    assert refused["error"]["param"] == f"events[0].{place}"
    assert service.recommend(user="anna")["history_given"] == 1


def test_all_wrong(service: LiveService) -> None:
    answer = service.send(an_event(0, "anna", "nothing"), {}, 7)  # type: ignore[arg-type]
    assert answer.status_code == 422
    assert outcomes(answer) == ["refused"] * 3
    params = [result["error"]["param"] for result in answer.json()["results"]]
    assert params == ["events[0].item_id", "events[1].event_id", "events[2]"]


def test_a_clock_a_little_ahead_and_none_at_all(service: LiveService) -> None:
    items = service.bundle.item_ids
    ahead = an_event(0, "anna", items[0], timestamp=time.time() + 3600)
    without = {k: v for k, v in an_event(1, "anna", items[1]).items() if k != "timestamp"}
    written = an_event(2, "anna", items[2], timestamp="2025-06-15T12:00:00+02:00")
    assert outcomes(service.send(ahead, without, written)) == ["stored"] * 3
    history: Any = service.live.history("anna")
    assert [one["item_id"] for one in history] == [items[2], items[0], items[1]]
    assert all(time.time() - 600 < one["timestamp"] <= time.time() for one in history[1:])


@pytest.mark.parametrize(
    "body",
    [{}, {"events": []}, {"events": [{}] * 1001}, {"events": [], "more": 1}, [1], {"events": "x"}],
)
def test_a_wrong_batch(service: LiveService, body: Any) -> None:
    answer = service.client.post("/v1/events", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_locked_store_acknowledges_nothing(service: LiveService, tmp_path: Path) -> None:
    items, before = service.bundle.item_ids, service.edges()
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = service.send(an_event(0, "anna", items[0]), an_event(1, "anna", items[1]))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_store"
    other.close()
    assert (service.edges() == before).all()
    assert service.recommend(user="anna")["history_given"] == 0
    assert outcomes(service.send(an_event(0, "anna", items[0]))) == ["stored"]


def test_a_store_that_is_gone(service: LiveService, tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").unlink()
    assert service.send(an_event(0, "anna", service.bundle.item_ids[0])).status_code == 503
    assert service.client.post("/v1/recommendations", json={"user": "anna"}).status_code == 503
    assert service.client.post("/v1/recommendations", json={"history": []}).status_code == 200


def test_a_service_that_starts_again_counts_what_is_stored(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    folder, path = tiny_run.bundle("atomic"), tmp_path / "store.sqlite"
    with live_service(folder, path) as service:
        items, fresh = service.bundle.item_ids, service.edges()
        events = [an_event(row, f"u{row % 4}", items[row * 7 % 50]) for row in range(40)]
        service.send(*events)
        counted, found = service.edges(), service.recommend(user="u1")
    assert (counted != fresh).any()
    with live_service(folder, path) as service:
        assert (service.edges() == counted).all()
        assert service.recommend(user="u1")["recommendations"] == found["recommendations"]
        assert outcomes(service.send(*events)) == ["duplicate"] * 40
        assert (service.edges() == counted).all()


def test_stored_events_follow_those_of_the_dataset(tiny_run: TinyRun, tmp_path: Path) -> None:
    path, known = tmp_path / "store.sqlite", {"anna": ["x", "y"]}
    with live_service(tiny_run.bundle("atomic"), path, known=known) as service:
        items, before = service.bundle.item_ids, service.edges()
        known["anna"] = items[:2]
        service.send(an_event(0, "anna", items[2]), an_event(1, "anna", items[3]))
        both = edges_of(service, items[:4]) - edges_of(service, items[:2])
        assert (service.edges() == before + both).all()
        assert service.recommend(user="anna")["history_given"] == 4
