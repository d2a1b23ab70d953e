"""The page on serving is true: its lines for curl and for OpenAI's client work."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_service import PATIENT, LiveService, live_service
from searchable_shop import installed_whisper, picture
from tiny_shop import TinyRun

from llmrec.serving.app import create_app
from llmrec.serving.settings import ServiceConfig

PAGE = Path(__file__).parents[2] / "serving" / "README.md"
ADDRESS = "http://127.0.0.1:8000"


def curl_lines() -> list[str]:
    blocks = PAGE.read_text(encoding="utf-8").split("```")[1::2]
    return [
        line.strip()
        for block in blocks
        for line in re.split(r"\n(?=curl)", block)
        if line.startswith("curl")
    ]


@pytest.fixture(scope="module")
def service(
    tiny_run: TinyRun, searchable: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveService]:
    store = tmp_path_factory.mktemp("page") / "store.sqlite"
    config = ServiceConfig(speech_model=installed_whisper(), **PATIENT)
    with live_service(tiny_run.bundle("atomic"), store, config, search=searchable) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(serve: Any, service: LiveService) -> Iterator[str]:
    with serve(create_app(service.recommender, service.live, service.config)) as url:
        yield url


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_its_curl_lines(address: str, service: LiveService, spoken: Path, monkeypatch: Any) -> None:
    lines = curl_lines()
    assert len(lines) == 20
    monkeypatch.chdir(spoken.parent)
    items = iter(sorted(service.bundle.item_ids))
    # the tiny shop has other items
    names = {name: next(items) for name in re.findall(r"[a-z]\d{4}", "".join(lines))}
    for line in lines:
        for name, item in names.items():
            line = line.replace(name, item)
        line = line.replace(ADDRESS, address).replace(', "rerank": {"per_category": 2}', "")
        line = line.replace("question.wav", spoken.name)
        done = subprocess.run(
            ["bash", "-c", f"{line} -sS --fail-with-body"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        answer = json.loads(done.stdout)
        if "/ucp/" in line:  # in words of its own
            assert answer["ucp"]["status"] == "success"
            continue
        if "/rerank" not in line and "/audio/" not in line:
            assert answer["catalog_version"] == service.recommender.bundle.catalog_version
    assert service.live.history("anna") is None  # the last one


def test_its_lines_for_openais_client(
    address: str, service: LiveService, monkeypatch: Any, tmp_path: Path
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    lines = "".join(block for block in blocks if "client." in block)
    for name, item in (("an item id", 3), ("another", 4)):
        lines = lines.replace(f"<{name}>", service.bundle.item_ids[item])
    picture(33).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    assert lines.count("client.") == 7
    seen: dict[str, Any] = {}
    exec(lines.replace(ADDRESS, address), seen)
    first = seen["answer"].model_extra["recommendations"][0]
    assert first["item_id"] == service.bundle.item_ids[33]
    assert len(seen["found"]["recommendations"]) == 5
