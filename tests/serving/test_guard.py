"""API keys, limits of what comes in, and a rate for each key."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import PATIENT, LiveService, an_event, live_service
from tiny_shop import TinyRun

from llmrec.cli import main
from llmrec.serving import guard
from llmrec.serving.guard import RateLimiter
from llmrec.serving.server import own_names
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.store import keys

CONFIG = ServiceConfig(**PATIENT, rate=1000, burst=1000, max_body=4096)


@pytest.fixture
def service(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveService]:
    monkeypatch.setattr(guard, "FRESH_SECONDS", 0.0)
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite", CONFIG) as running:
        yield running


def a_key(service: LiveService, *scopes: str) -> str:
    with service.store.write() as connection:
        return keys.create(connection, "test", scopes)[1]


def ask(
    service: LiveService, key: str, method: str = "GET", path: str = "/v1/models", **more: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return service.client.request(method, path, headers=headers, **more)


def test_without_keys_it_is_open_and_says_so(
    service: LiveService, caplog: pytest.LogCaptureFixture
) -> None:
    assert service.client.get("/v1/models").status_code == 200
    [warning] = [one for one in caplog.get_records("setup") if one.name == guard.__name__]
    assert "WHOEVER REACHES THIS SERVICE" in warning.message
    a_key(service, "read")
    assert service.client.get("/v1/models").status_code == 401


def test_a_page_of_another_host_is_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = ServiceConfig(**PATIENT, allowed_hosts=own_names("127.0.0.1"))
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite", config) as service:
        for path in ("/mcp", "/v1/models", "/healthz", "/ui"):
            refused = service.client.get(path, headers={"host": "rebound.example:8000"})
            assert refused.status_code == 421, path
        assert "--allowed-hosts" in refused.json()["error"]["message"]
        for host in ("localhost:9000", "LOCALHOST", "[::1]:8000"):
            assert service.client.get("/v1/models", headers={"host": host}).status_code == 200
    assert own_names("0.0.0.0") == own_names("shop.example") == ()


def test_each_path_needs_its_scope(service: LiveService) -> None:
    by_scope = {scope: a_key(service, scope) for scope in keys.SCOPES}
    event = {"events": [an_event(0, "anna", service.bundle.item_ids[0])]}
    requests: list[tuple[str, str, str, Any]] = [
        ("read", "GET", "/v1/models", None),
        ("read", "GET", "/metrics", None),
        ("read", "GET", "/openapi.json", None),
        ("read", "POST", "/v1/recommendations", {}),
        ("read", "POST", "/v1/completions", {"prompt": ""}),
        ("events", "POST", "/v1/events", event),
        ("events", "GET", "/v1/users/anna", None),
        ("events", "PATCH", "/v1/users/anna", {}),
        ("admin", "DELETE", "/v1/users/anna", None),
    ]
    for needed, method, path, body in requests:
        refused = service.client.request(method, path, json=body)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == "invalid_api_key"
        for scope, key in by_scope.items():
            answer = ask(service, key, method, path, json=body)
            expected = 200 if scope in (needed, "admin") else 403
            assert answer.status_code == expected, (scope, method, path)
    assert guard.needed_scope("POST", "/v1/catalog/items") == "catalogue"
    for path in ("/healthz", "/readyz"):
        assert service.client.get(path).status_code == 200
    assert service.client.get("/nothing").status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key + "x",
        lambda key: key.replace("llmrec_", "other_"),
        lambda key: key.rpartition("_")[0] + "_" if key.count("_") == 2 else key[:20],
        lambda key: "llmrec_nobody_" + key.split("_", 2)[2],
        lambda key: "llmrec_nobody_",
        lambda key: "\xff",
    ],
)
def test_a_key_that_is_nearly_right(service: LiveService, changed: Any) -> None:
    key = a_key(service, "admin")
    assert ask(service, key).status_code == 200
    headers = {"authorization": f"Bearer {changed(key)}".encode("latin-1")}
    assert service.client.get("/v1/models", headers=headers).status_code == 401
    plain = {"authorization": f"Basic {key}"}
    assert service.client.get("/v1/models", headers=plain).status_code == 401


def test_the_command_line(
    service: LiveService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", f"sqlite:///{tmp_path / 'store.sqlite'}"]
    assert main(["keys", "list", *store]) == 0
    assert "there are none" in capsys.readouterr().err
    assert main(["keys", "create", "shop", "--scopes", "read", "events", *store]) == 0
    printed = capsys.readouterr()
    key = printed.out.strip()
    assert re.fullmatch(r"llmrec_[0-9a-f]{12}_[\w-]{43}", key)
    key_id = key.split("_")[1]
    assert ask(service, key).status_code == 200
    with service.store.read() as connection:
        assert key.split("_", 2)[2] not in str(
            connection.exec_driver_sql("SELECT * FROM api_keys").all()
        )
    assert main(["keys", "list", *store]) == 0
    listed = capsys.readouterr().out
    assert key_id in listed and "read,events" in listed and "good" in listed
    assert main(["keys", "revoke", key_id, *store]) == 0
    assert ask(service, key).status_code == 401
    assert main(["keys", "revoke", key_id, *store]) == 2
    assert main(["keys", "list", *store]) == 0
    assert "revoked" in capsys.readouterr().out
    assert service.client.get("/v1/models").status_code == 401  # not open again
    assert main(["keys", "create", "shop", "--scopes", "write", *store]) == 2
    assert "'write' is no scope" in capsys.readouterr().err


def test_keys_hold_while_the_store_is_gone(service: LiveService, tmp_path: Path) -> None:
    key = a_key(service, "read")
    assert ask(service, key).status_code == 200
    (tmp_path / "store.sqlite").unlink()
    assert ask(service, key).status_code == 200
    assert service.client.get("/v1/models").status_code == 401
    assert service.client.get("/readyz").status_code == 503
    assert service.client.get("/healthz").status_code == 200


def test_a_rate() -> None:
    now = [0.0]
    limiter = RateLimiter(2.0, 3, lambda: now[0])
    assert [limiter.wait_seconds("a") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert limiter.wait_seconds("b") == 0
    now[0] = 0.5
    assert [limiter.wait_seconds("a") for _ in range(2)] == [0, 0.5]
    now[0] = 100.0
    assert [limiter.wait_seconds("a") == 0 for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_key_that_asks_too_often(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = ServiceConfig(**PATIENT, rate=0.01, burst=2)
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite", config) as service:
        key, other = a_key(service, "read"), a_key(service, "read")
        time.sleep(guard.FRESH_SECONDS)
        assert [ask(service, key).status_code for _ in range(3)] == [200, 200, 429]
        refused = ask(service, key)
        assert refused.json()["error"]["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        assert ask(service, other).status_code == 200


def post(service: LiveService, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    plain = {"content-type": "application/json"}
    return service.client.post("/v1/recommendations", content=body, headers=plain | headers)


def test_what_is_too_large(service: LiveService) -> None:
    assert post(service, b" " * 4094 + b"{}").status_code == 200
    for body in (b" " * 4095 + b"{}", iter([b" " * 2048] * 3)):
        refused = post(service, body)
        assert refused.status_code == 413
        assert "body: has more than 4096 bytes" in refused.json()["error"]["message"]
    assert post(service, b"{}", x="y" * 20_000).status_code == 431
    assert service.client.get(f"/v1/models?a={'b' * 9000}").status_code == 414
    assert service.client.get(f"/v1/users/{'b' * 9000}").status_code == 414


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[" * 2000 + "]" * 2000, "body"),
        ('{"a":' * 600 + "1" + "}" * 600, "body: has more than 16 lists and objects"),
        ('{"where": {"a": ' + "[" * 15 + "]" * 15 + "}}", "body: has more than 16"),
        (json.dumps({"context": {"a": "b"}, "more": 1}), "more: is no field"),
        (json.dumps({"user": "x" * 257}), "user: a name has at most 256"),
        (json.dumps({"user": "\0"}), "user: '\\x00' holds a NUL"),
    ],
)
def test_what_is_too_deep_or_unknown(service: LiveService, body: str, message: str) -> None:
    refused = post(service, body.encode())
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]


def test_lists_that_are_too_long(tiny_run: TinyRun, tmp_path: Path) -> None:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as service:
        for name in ("history", "history_times", "candidates", "exclude", "allow"):
            body = json.dumps({name: ["1"] * 10_001}).encode()
            refused = post(service, body)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == name
        refused = post(service, json.dumps({"query": "a" * 10_001}).encode())
        assert "query: has 10001 characters" in refused.json()["error"]["message"]
