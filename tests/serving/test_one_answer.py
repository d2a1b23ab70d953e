"""One request gives one answer, whichever way it comes in.

Each request goes through Python, ``/v1/recommendations``, chat, text completions, responses, search
where it has words, and ``llmrec recommend``, over bundles with and without a click model and
adapters. All must give the same items with the same fields: ids, order, scores, probabilities,
reasons.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from llmrec.bench.random_shop import NOW, RandomShop
from llmrec.cli import run_command
from llmrec.content.features.text import EmbedConfig
from llmrec.content.features.text import run as embed
from llmrec.errors import ConfigError
from llmrec.llm.adapters import save_adapter
from llmrec.serving.app import create_app
from llmrec.serving.build import run as bundle
from llmrec.serving.recommender import Recommender

HISTORY = ["item-3", "item-9", "item-31"]
EVENTS = [
    {"item_id": "item-9", "type": "view", "timestamp": NOW - 900.0},
    {"item_id": "item-3", "type": "purchase", "timestamp": NOW - 5000.0},
    {"item_id": "item-31", "type": "click", "timestamp": NOW - 60.0},
]
REQUESTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "history": {"history": HISTORY},
    "n": {"history": HISTORY, "n": 3},
    "events": {"history": EVENTS},
    "where": {"history": HISTORY, "where": {"brands": ["brand 4", "Brand 5"], "price_max": 60.0}},
    "in stock": {"where": {"in_stock": True, "categories": ["Category 1", "Category 2"]}},
    "exclude": {"history": HISTORY, "exclude": ["item-17", "item-13", "item-40"]},
    "allow": {"history": HISTORY, "allow": ["item-3", "item-5", "item-7", "item-11"]},
    "exclude_history": {
        "history": HISTORY,
        "exclude_history": False,
        "allow": ["item-3", "item-5"],
    },
    "adapter": {"history": HISTORY, "adapter": "gifts"},
    "context": {"history": HISTORY, "context": {"device": "mobile"}},
    "rerank": {"history": HISTORY, "rerank": {"per_category": 1}},
    "calibrated": {"history": HISTORY, "calibrated": False},
    "candidates": {"history": HISTORY, "candidates": ["item-8", "item-30", "item-2"], "n": 3},
    "words": {"query": "Thing 12 of kind 3", "n": 5},
    "words, history": {"query": "Thing 12", "history": HISTORY, "where": {"in_stock": True}},
    "all at once": {
        "query": "Thing",
        "history": HISTORY,
        "adapter": "gifts",
        "exclude": ["item-12"],
        "context": {"device": "desktop"},
        "where": {"price_min": 5.0},
        "n": 7,
    },
}

PATHS = ("recommendations", "completions", "chat/completions", "responses")


@dataclass(frozen=True)
class Opened:
    """A bundle, ready to be asked in every way."""

    folder: Path
    recommender: Recommender
    client: TestClient

    def serves(self, request: dict[str, Any]) -> bool:
        """Whether the bundle holds what the request names."""
        adapter, model = request.get("adapter"), self.recommender.click_model
        return adapter in (None, *self.recommender.bundle.adapters) and not (
            "rerank" in request and model is None
        )


@pytest.fixture(scope="session")
def parts(shop: RandomShop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Features and an adapter of random weights for the shop's dataset and model."""
    home, out = shop.bundle.parent, tmp_path_factory.mktemp("parts")
    features = embed(EmbedConfig(fields=("title",)), home / "dataset", out / "features")
    adapter = random_adapter(home / "model", out / "gifts")
    return {"features": features, "adapters": [adapter], "ctr": home / "ctr"}


def random_adapter(base: Path, out: Path) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    return save_adapter(model, out, name="gifts", version="1", task="recommend", base=base)


@pytest.fixture(
    scope="session",
    params=[("features", "adapters", "ctr"), ("features", "adapters"), ("features",)],
    ids=["click-model", "adapters", "plain"],
)
def opened(
    request: pytest.FixtureRequest,
    parts: dict[str, Any],
    shop: RandomShop,
    tmp_path_factory: pytest.TempPathFactory,
) -> Opened:
    home, out = shop.bundle.parent, tmp_path_factory.mktemp("one-answer") / "bundle"
    chosen = {name: parts[name] for name in request.param}
    folder = bundle(home / "dataset", home / "model", out, **chosen)
    recommender = Recommender.load(folder, histories={"anna": HISTORY})
    return Opened(folder, recommender, TestClient(create_app(recommender)))


def in_python(opened: Opened, request: dict[str, Any]) -> Any:
    response = opened.recommender.recommend(**request)
    return told(json.loads(json.dumps(response.as_dict())))


def told(response: dict[str, Any]) -> dict[str, Any]:
    """What must be the same of a response, and be there at all."""
    assert response["timings_ms"]["total"] > 0
    fields = ("recommendations", "notes", "history_given", "history_read")
    return {name: response[name] for name in fields}


def over_http(path: str, opened: Opened, request: dict[str, Any]) -> Any:
    body = {name: value for name, value in request.items() if name not in ("adapter", "query")}
    words = request.get("query", "")
    own = {
        "recommendations": {"query": words},
        "completions": {"prompt": words},
        "chat/completions": {"messages": [{"role": "user", "content": words}]},
        "responses": {"input": words},
        "search": {"query": words},
    }
    body |= own[path] | {"model": request.get("adapter", "")}
    answer = opened.client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return told(answer.json())


def on_the_command_line(
    capsys: pytest.CaptureFixture[str], opened: Opened, request: dict[str, Any]
) -> Any:
    capsys.readouterr()
    run_command(["recommend", str(opened.folder), "--json", *flags(request)])
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("note: ")]
    notes = [line.removeprefix("note: ") for line in lines]
    return {"recommendations": json.loads(printed.out), "notes": notes}


def flags(request: dict[str, Any]) -> list[str]:
    """A request as ``llmrec recommend`` takes it."""
    words: list[str] = []
    for name, value in (request | request.get("where", {})).items():
        flag = f"--{name.replace('_', '-')}"
        if name == "where":
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            words += [flag, *value]
        elif isinstance(value, dict):
            words += [flag, *(f"{key}={one}" for key, one in value.items())]
        else:
            words += [flag, str(value)]
    return words


@pytest.mark.parametrize("name", REQUESTS)
def test_every_way_in_gives_the_same_answer(
    opened: Opened, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    request = REQUESTS[name] | {"now": NOW}
    if not opened.serves(request):
        pytest.skip("the bundle does not hold what is asked for")
    expected = in_python(opened, request)
    assert expected["recommendations"], "the request should leave something to compare"
    paths = (*PATHS, "search") if "query" in request else PATHS
    ways = {path: partial(over_http, path) for path in paths}
    for way, ask in ways.items():
        assert ask(opened, request) == expected, way
    if request.get("history") is not EVENTS:  # the command line takes item ids alone
        found = on_the_command_line(capsys, opened, request)
        assert found == {name: expected[name] for name in found}
    ranked = opened.recommender.click_model is not None and request.get("calibrated", True)
    assert all(("p_click" in one) == ranked for one in expected["recommendations"])


def test_what_a_request_says_counts(opened: Opened) -> None:
    """So that the comparison above does not compare answers that look at nothing."""
    usual = in_python(opened, REQUESTS["history"] | {"now": NOW})["recommendations"]
    for name in ("nothing", "n", "where", "exclude", "allow", "adapter", "words, history"):
        request = REQUESTS[name] | {"now": NOW}
        if opened.serves(request):
            assert in_python(opened, request)["recommendations"] != usual, name
    if opened.recommender.click_model is not None:
        for name in ("context", "rerank", "calibrated", "events"):
            found = in_python(opened, REQUESTS[name] | {"now": NOW})
            assert found["recommendations"] != usual, name


def test_a_user_is_known_by_name(opened: Opened) -> None:
    expected = in_python(opened, {"history": HISTORY, "now": NOW})
    by_name = {"user": "anna", "now": NOW}
    assert in_python(opened, by_name) == expected
    for path in PATHS:
        assert over_http(path, opened, by_name) == expected


def test_words_alone_go_by_closeness_and_probabilities_come_beside(opened: Opened) -> None:
    request = REQUESTS["words"] | {"now": NOW}
    found = in_python(opened, request)["recommendations"]
    plain = in_python(opened, request | {"calibrated": False})["recommendations"]
    assert [one["item_id"] for one in found] == [one["item_id"] for one in plain]
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in plain])


def test_not_calibrated_is_as_without_a_click_model(opened: Opened) -> None:
    other = Recommender.load(opened.folder, calibrated=False)
    for name in ("history", "events", "where", "words, history"):
        request = REQUESTS[name] | {"now": NOW, "calibrated": False}
        found = opened.recommender.recommend(**request).recommendations
        assert found == other.recommend(**request).recommendations


def test_every_way_in_refuses_alike(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    if opened.recommender.click_model is not None:
        pytest.skip("it re-ranks")
    request = REQUESTS["rerank"]
    message = "rerank: only the list of a click model is re-ranked; none ranks here"
    with pytest.raises(ConfigError, match=message):
        in_python(opened, request)
    with pytest.raises(ConfigError, match=message):
        on_the_command_line(capsys, opened, request)
    for path in PATHS:
        with pytest.raises(AssertionError, match=message):
            over_http(path, opened, request)


def test_a_filter_is_one_object_for_all_requests(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the request down to the search, so what the search keeps of it is made once."""
    asked: list[Any] = []
    llm = opened.recommender.bundle.llm
    real = type(llm).recommend

    def recommend(self: Any, *args: Any, constraints: Any = None, **more: Any) -> Any:
        asked.extend(constraints)
        return real(self, *args, constraints=constraints, **more)

    monkeypatch.setattr(type(llm), "recommend", recommend)
    for where in ({"in_stock": True}, {"in_stock": True}, {"in_stock": False}):
        opened.recommender.recommend(HISTORY, 3, where=where, calibrated=False)
    first, second, other = (constraints.allow for constraints in asked)
    assert first is second
    assert first is not other
