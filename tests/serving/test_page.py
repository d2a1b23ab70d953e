"""``/ui``: the page's files, pictures, and what of it is open to whoever comes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from llmrec.serving.guard import needed_scope
from llmrec.serving.page_api import Pictures, is_open, page_router

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


class Folder:
    """As much of a bundle as pictures need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    root = tmp_path / "shop"
    root.mkdir()
    (root / "lamp.png").write_bytes(PNG)
    (root / "lamp.svg").write_text("<svg/>")
    (tmp_path / "secret.png").write_bytes(PNG)
    names = {"lamp": "lamp.png", "vector": "lamp.svg", "gone": "gone.png", "none": None}
    names |= {"outside": "../secret.png", "a/b": "lamp.png"}
    table = pa.table({"item_id": list(names), "image": list(names.values())})
    pq.write_table(table, tmp_path / "items.parquet")
    app = FastAPI()
    app.include_router(page_router(Pictures(Folder(tmp_path), root), [f"u{i}" for i in range(99)]))  # type: ignore[arg-type]
    return TestClient(app)


def test_the_page_and_all_that_it_loads_are_there(client: TestClient) -> None:
    page = client.get("/ui")
    assert page.status_code == 200
    assert str(page.url).endswith("/ui/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name, kind in (("style.css", "text/css"), ("app.js", "text/javascript")):
        assert f'"{name}"' in page.text
        assert client.get(f"/ui/{name}").headers["content-type"].startswith(kind)
    assert "./api.js" in client.get("/ui/app.js").text
    assert client.get("/ui/api.js").status_code == 200
    assert client.get("/ui/page_api.py").status_code == 404
    assert "http://" not in page.text and "https://" not in page.text


def test_an_items_picture_is_served_and_nothing_beside_the_root(client: TestClient) -> None:
    found = client.get("/ui/pictures/lamp")
    assert (found.content, found.headers["content-type"]) == (PNG, "image/png")
    assert client.get("/ui/pictures/a/b").content == PNG
    for item in ("vector", "gone", "none", "outside", "unknown", "..%2Fsecret.png"):
        assert client.get(f"/ui/pictures/{item}").status_code == 404, item


def test_a_page_without_pictures_shows_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["lamp"]}), tmp_path / "items.parquet")
    assert Pictures(Folder(tmp_path), tmp_path).find("lamp") is None  # type: ignore[arg-type]
    assert Pictures(Folder(tmp_path), None).find("lamp") is None  # type: ignore[arg-type]


def test_only_some_people_are_named_and_only_to_an_administrator(client: TestClient) -> None:
    assert client.get("/ui/people").json() == {"people": [f"u{i}" for i in range(50)]}
    assert not is_open("/ui/people")
    assert needed_scope("GET", "/ui/people") == "admin"
    assert is_open("/ui/") and is_open("/ui")
    assert not is_open("/v1/recommendations")
