"""A shop that has events and no item file: identifiers stand where titles are missing."""

import random
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tiny_shop import run_recipe

from llmrec.cli import main
from llmrec.errors import ConfigError
from llmrec.serving.app import create_app
from llmrec.serving.recommender import Recommender

RECIPE = """
name: ids
ingest: {events: EVENTS}
models:
  atomic:
    index: {kind: atomic}
    train: {base: nano, content: {}, loop: {epochs: 1}}
show_users: 2
"""


@pytest.fixture(scope="module")
def printed(home: Path) -> str:
    """What the run says at its end."""
    draw = random.Random(0)
    lines = [f"u{n // 5},i{draw.randrange(20)},{1_700_000_000 + 10 * n}" for n in range(200)]
    (home / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    (home / "r.yaml").write_text(RECIPE.replace("EVENTS", str(home / "events.csv")))
    return run_recipe(home / "r.yaml", home / "run")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("no_titles")


@pytest.fixture(scope="module")
def titleless(home: Path, printed: str) -> Recommender:
    return Recommender.load(home / "run" / "models" / "atomic" / "bundle")


def test_the_shown_users_have_items_with_names(printed: str) -> None:
    shown = printed[printed.index("  history (") :].splitlines()
    assert not [line for line in shown if line.strip() in ("1.", "2.", "3.", "4.", "5.")]
    ranked = [line.split() for line in shown if line.strip()[:2] in ("1.", "2.")]
    assert len(ranked) == 4
    assert all(words[1][0] == "i" and words[1][1:].isdigit() for words in ranked)
    history = shown[shown.index(next(s for s in shown if s.startswith("  history"))) + 1]
    assert history.strip()[0] == "i"


def test_the_service_names_items_by_their_identifier(titleless: Recommender) -> None:
    client = TestClient(create_app(titleless))
    body = {"messages": [{"role": "user", "content": ""}], "history": ["i3", "i5"], "n": 2}
    answer = client.post("/v1/chat/completions", json=body).json()
    first, second = answer["recommendations"]
    text = answer["choices"][0]["message"]["content"]
    assert text == f"1. {first['item_id']}\n2. {second['item_id']}"
    assert first["title"] == first["item_id"] != ""
    assert first["reason"] == "likely to follow 'i5'"


def test_on_the_terminal(titleless: Recommender, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["recommend", str(titleless.bundle.folder), "--history", "i3", "-n", "2"]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert line.split()[2] == line.split()[3]


def test_a_request_in_words_is_refused_without_a_path(titleless: Recommender) -> None:
    client = TestClient(create_app(titleless))
    error = client.post("/v1/recommendations", json={"query": "something funny"}).json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "query")
    assert error["message"] == (
        "query: this bundle holds no text features to compare with; give a history instead, or "
        "make the bundle again with --features"
    )
    with pytest.raises(ConfigError, match="this bundle holds no text features"):
        titleless.recommend(query="something funny")
