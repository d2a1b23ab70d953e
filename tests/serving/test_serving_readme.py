"""The page on serving is true: its curl lines work, one after the other."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from live_service import live_service
from tiny_shop import TinyRun

from llmrec.serving.app import create_app

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


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_its_curl_lines(serve: Any, tiny_run: TinyRun, tmp_path: Path) -> None:
    lines = curl_lines()
    assert len(lines) == 11
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as service:
        app = create_app(service.recommender, service.live)
        items = iter(sorted(service.bundle.item_ids))
        # the tiny shop has other items
        names = {name: next(items) for name in re.findall(r"[a-z]\d{4}", "".join(lines))}
        with serve(app) as url:
            for line in lines:
                for name, item in names.items():
                    line = line.replace(name, item)
                line = line.replace(ADDRESS, url).replace(', "rerank": {"per_category": 2}', "")
                done = subprocess.run(
                    ["bash", "-c", f"{line} -sS --fail-with-body"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, (line, done.stdout, done.stderr)
                answer = json.loads(done.stdout)
                assert answer["catalog_version"] == service.recommender.bundle.catalog_version
        assert service.live.history("anna") is None  # the last one
