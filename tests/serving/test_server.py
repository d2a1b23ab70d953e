"""``llmrec serve`` as a process: what it says before it loads, how it stops, how it reloads."""

import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from server_process import server_process
from tiny_shop import TinyRun

from llmrec.errors import ArtifactError, ConfigError
from llmrec.serving import server
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender
from llmrec.serving.server import listening, self_check
from llmrec.serving.settings import ServiceConfig


def test_two_services_on_one_port_are_told_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "open_app", lambda _: pytest.fail("it was loaded"))
    with listening("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port: something listens on 127.0.0.1:{port}"):
            server.serve(tmp_path, port=port)
    with pytest.raises(ConfigError, match=r"--host: cannot listen on 203\.0\.113\.1:0"):
        listening("203.0.113.1", 0)
    with pytest.raises(ConfigError, match=r"--host: cannot listen on .*:99999"):
        listening("127.0.0.1", 99999)
    with pytest.raises(ArtifactError, match="manifest"):
        server.serve(tmp_path, port=0)
    with pytest.raises(ConfigError, match="--workers: -1 is no number"):
        server.serve(tmp_path, workers=-1)
    with pytest.raises(ConfigError, match="--workers: share one vLLM"):
        server.serve(tmp_path, workers=2, engine="vllm")
    with pytest.raises(ConfigError, match="log_format: 'xml' is neither text nor json"):
        ServiceConfig(log_format="xml")  # type: ignore[arg-type]


def test_a_bundle_that_recommends_nothing_does_not_serve(
    atomic: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = Recommender(atomic)
    self_check(recommender)
    nothing = recommender.recommend([], 5)
    nothing.recommendations.clear()
    monkeypatch.setattr(recommender, "recommend", lambda *_: nothing)
    with pytest.raises(ArtifactError, match=r"recommends nothing after \[\]; make it again"):
        self_check(recommender)


def test_arenas_are_limited_where_there_is_glibc() -> None:
    code = "from llmrec.serving.processes import limit_arenas; print(limit_arenas(1))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == str(platform.libc_ver()[0] == "glibc")


@pytest.fixture
def bundle(tiny_run: TinyRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.bundle("atomic"), tmp_path / "bundle"))


def test_requests_under_way_are_answered_when_it_is_to_stop(bundle: Path, tmp_path: Path) -> None:
    """And a log in JSON has a line for each, with its id, and nobody's name."""
    flags = ("--log-format", "json", "--batch-wait-ms", "300", "--store")
    log = tmp_path / "log"
    with (
        server_process(bundle, *flags, f"sqlite:///{tmp_path}/store.sqlite", log=log) as running,
        ThreadPoolExecutor(1) as pool,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        headers = {"X-Request-Id": "mine-1"}
        body = {"user": "anna-the-user", "n": 3}
        asked = pool.submit(client.post, "/v1/recommendations", json=body, headers=headers)
        time.sleep(0.15)  # it waits for others to join
        running.process.send_signal(signal.SIGTERM)
        answer = asked.result()
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == "mine-1"
        assert running.process.wait(30) in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (mine,) = [line for line in lines if line.get("request_id") == "mine-1"]
    assert mine["route"] == "/v1/recommendations" and mine["status"] == 200 and mine["ms"] > 0
    assert "anna" not in log.read_text()


def workers(log: Path) -> Iterator[int]:
    yield from (
        int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", log.read_text())
    )


def version(url: str) -> str:
    return str(httpx.get(f"{url}/healthz", timeout=60).json()["catalog_version"])


def wait_for(condition: object, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_worker_reloads_a_good_bundle_and_keeps_from_a_bad_one(
    bundle: Path, tiny_run: TinyRun, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    flags = ("--workers", "1", "--store", f"sqlite:///{tmp_path}/store.sqlite")
    with server_process(bundle, *flags, log=log) as running:
        before = version(running.url)
        (first,) = workers(log)
        items = bundle / "items.parquet"
        kept = items.read_bytes()
        items.write_bytes(kept[:-100])
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "keeping worker" in log.read_text())
        assert version(running.url) == before
        assert "items.parquet" in log.read_text()
        shutil.rmtree(bundle)
        shutil.copytree(tiny_run.bundle("semantic"), bundle)
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: version(running.url) != before)
        assert first not in list(workers(log))[1:]
        running.process.terminate()
        assert running.process.wait(60) in (0, -signal.SIGTERM)
