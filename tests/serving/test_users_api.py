"""People are known by what they did and by what the shop says of them, and can be forgotten."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_service import PATIENT, WHEN, LiveService, an_event, live_service
from tiny_shop import TinyRun

from llmrec.bench.random_shop import RandomShop
from llmrec.serving.bundle import Bundle
from llmrec.serving.settings import ServiceConfig

NEW = ["user: 'anna' is not known and is taken as new"]


@pytest.fixture
def service(tiny_run: TinyRun, tmp_path: Path) -> Iterator[LiveService]:
    opened = Bundle(tiny_run.bundle("atomic"), cache_mib=8)
    known = {"anna": opened.item_ids[100:103], "ben/2": opened.item_ids[:2]}
    said = {"anna": {"membership": "silver", "location": "Oslo"}}
    with live_service(
        opened, tmp_path / "store.sqlite", known=known, attributes=lambda user: said.get(user, {})
    ) as running:
        yield running


def test_what_is_known(service: LiveService) -> None:
    items = service.bundle.item_ids
    assert service.client.get("/v1/users/nobody").status_code == 404
    service.send(an_event(0, "anna", items[0]), an_event(1, "anna", items[1], "view"))
    service.recommend(user="anna")
    found = service.client.get("/v1/users/anna").json()
    assert found["events"] == {"click": 1, "view": 1}
    assert found["history"][:3] == items[100:103]
    assert [one["item_id"] for one in found["history"][3:]] == items[:2]
    assert found["recommendations"] == 1
    assert found["dataset_attributes"] == {"membership": "silver", "location": "Oslo"}
    assert (found["profile"], found["membership"]) == ({}, None)
    assert found["catalog_version"] == service.bundle.catalog_version
    assert service.client.get("/v1/users/ben%2F2").json()["history"] == items[:2]


def test_a_profile(service: LiveService) -> None:
    url = "/v1/users/anna"
    put = service.client.put(url, json={"profile": {"age": 30, "location": "Bergen"}})
    assert put.status_code == 200
    assert service.live.attributes("anna") == {
        "membership": "silver",  # the dataset's
        "location": "Bergen",
        "age": "30",
    }
    body = {"profile": {"age": None, "size": "M"}, "membership": "gold"}
    assert service.client.patch(url, json=body).json()["membership"] == "gold"
    service.client.patch(url, json={"profile": {"size": "L"}})
    found = service.client.get(url).json()
    assert (found["profile"], found["membership"]) == ({"location": "Bergen", "size": "L"}, "gold")
    assert service.client.put(url, json={}).json()["profile"] == {}
    assert service.live.attributes("anna")["membership"] == "silver"


@pytest.mark.parametrize(
    ("user", "body", "message"),
    [
        ("anna", {"colour": "red"}, "colour"),
        ("anna", {"profile": {"a": ["b"]}}, "profile.a"),
        ("anna", {"profile": {"a": "x" * 1001}}, "profile.a"),
        ("anna", {"membership": 3}, "membership"),
        ("x" * 257, {}, "user"),
        ("a%00", {}, "user"),
    ],
)
def test_a_wrong_profile(
    service: LiveService, user: str, body: dict[str, Any], message: str
) -> None:
    for method in ("PUT", "PATCH"):
        answer = service.client.request(method, f"/v1/users/{user}", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(message)


def test_forgetting(service: LiveService) -> None:
    items, before = service.bundle.item_ids, service.edges()
    ben = [an_event(row, "ben/2", items[row]) for row in (3, 4)]
    service.send(*ben)
    with_ben = service.edges()
    service.send(*(an_event(row, "anna", items[row * 2]) for row in range(10, 20)))
    service.client.put("/v1/users/anna", json={"membership": "gold"})
    service.recommend(user="anna", n=3)
    [cache] = service.bundle.history_caches()
    assert cache.metrics["entries"] > 0
    assert (service.edges() != with_ben).any()
    removed = service.client.delete("/v1/users/anna")
    assert removed.status_code == 200
    assert removed.json()["removed"] == {
        "events": 10,
        "profiles": 1,
        "recommendations": 1,
        "conversations": 0,
    }
    assert (service.edges() == with_ben).all()
    assert cache.metrics["entries"] == 0
    assert service.client.get("/v1/users/anna").status_code == 404
    assert service.live.attributes("anna") == {}
    with service.store.read() as connection:
        for table in ("events", "users", "recommendations", "recommended_items"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert "anna" not in str(rows)
            assert len(rows) == (2 if table == "events" else 0)
    cold = service.recommend(user="anna")
    assert (cold["notes"], cold["history_given"]) == (NEW, 0)
    service.send(an_event(50, "anna", items[0]))  # somebody new
    assert service.recommend(user="anna")["history_given"] == 1
    assert (service.edges() == with_ben).all()  # nothing before it to follow
    service.client.delete("/v1/users/ben%2F2")
    assert (service.edges() == before).all()


def test_somebody_forgotten_stays_so(tiny_run: TinyRun, tmp_path: Path) -> None:
    for expected in (2, 0, 0):
        with live_service(
            tiny_run.bundle("atomic"), tmp_path / "store.sqlite", known={"anna": ["x", "y"]}
        ) as service:
            found = service.live.history("anna")
            assert len(found or ()) == expected
            service.client.delete("/v1/users/anna")


def test_what_is_too_old(tiny_run: TinyRun, tmp_path: Path) -> None:
    folder, path = tiny_run.bundle("atomic"), tmp_path / "store.sqlite"
    with live_service(folder, path) as service:
        items, fresh = service.bundle.item_ids, service.edges()
        now = time.time()
        old = [an_event(row, "anna", items[row]) for row in range(3)]
        new = [an_event(row, "anna", items[row], timestamp=now - 9000 + row) for row in (3, 4)]
        service.send(*old, *new)
        service.recommend(user="anna")
    with live_service(folder, path, ServiceConfig(**PATIENT, keep_days=1)) as service:
        history: Any = service.live.history("anna")
        assert [one["item_id"] for one in history] == items[3:5]
        kept = service.edges()
        assert service.client.get("/v1/users/anna").json()["recommendations"] == 1
    with live_service(folder, path) as service:
        assert (service.edges() == kept).all()
        assert np.count_nonzero(kept - fresh) == 2
        service.live.forget_before(time.time() + 1)
        assert service.live.history("anna") is None
        assert service.client.get("/v1/users/anna").status_code == 404
        assert (service.edges() == fresh).all()


def test_a_click_model_reads_the_profile(shop: RandomShop, tmp_path: Path) -> None:
    with live_service(shop.bundle, tmp_path / "store.sqlite") as service:
        history = [{"item_id": service.bundle.item_ids[0], "timestamp": WHEN}]
        plain = {"user": "anna", "history": history, "now": WHEN + 60}
        without = service.recommend(**plain)["recommendations"]
        given = service.recommend(**plain, context={"device": "mobile"})["recommendations"]
        service.client.put("/v1/users/anna", json={"profile": {"device": "mobile"}})
        assert service.recommend(**plain)["recommendations"] == given != without
