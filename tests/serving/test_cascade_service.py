"""The cascade over HTTP and on the command line."""

import json

import pytest
from fastapi.testclient import TestClient

from llmrec.bench.random_shop import NOW, RandomShop
from llmrec.cli import main
from llmrec.serving.app import create_app
from llmrec.serving.build import run as bundle_run
from llmrec.serving.query_reader import NO_CONTEXT
from llmrec.serving.recommender import Recommender

PATH = "/v1/recommendations"
FIELDS = {"item_id", "title", "rank", "score", "reason", "sources"}


@pytest.fixture(scope="module")
def client(recommender: Recommender) -> TestClient:
    known = Recommender(recommender.bundle, recommender.click_model, {"anna": ["item-3", "item-9"]})
    return TestClient(create_app(known), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def plain(shop: RandomShop, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """A service of a bundle without a click model."""
    home = shop.bundle.parent
    out = tmp_path_factory.mktemp("plain") / "bundle"
    bundle = bundle_run(home / "dataset", home / "model", out)
    return TestClient(create_app(Recommender.load(bundle)))


def test_the_service_answers_with_probabilities(
    client: TestClient, recommender: Recommender, shop: RandomShop
) -> None:
    asked = {"history": shop.history(3), "context": {"device": "mobile"}, "n": 4, "now": NOW}
    told = client.post(PATH, json=asked).json()
    expected = recommender.recommend(
        history=shop.history(3), context={"device": "mobile"}, n=4, now=NOW
    )
    assert told["recommendations"] == [
        json.loads(json.dumps(one.as_dict())) for one in expected.recommendations
    ]
    assert {"p_click", "sources", "reason", "llm_logp"} <= set(told["recommendations"][0])
    assert told["notes"] == [] and told["timings_ms"]["total"] > 0
    assert told["catalog_version"] == recommender.bundle.catalog_version


def test_the_service_knows_people(client: TestClient) -> None:
    by_name = client.post(PATH, json={"user": "anna", "n": 3, "now": NOW}).json()
    by_ids = client.post(PATH, json={"history": ["item-3", "item-9"], "n": 3, "now": NOW}).json()
    assert by_name["recommendations"] == by_ids["recommendations"]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"allow": ["item-x"]}, "allow"),
        ({"history": [{"item_id": "item-3", "timestamp": 1.7e12}]}, "history[0].timestamp"),
        ({"history": [{"item_id": "item-3", "colour": "red"}]}, "history[0]"),
        ({"history": "item-3"}, "history"),
        ({"history": [], "history_times": [1.0]}, "history_times"),
        ({"candidates": ["item-3"], "query": "warm"}, "candidates"),
        ({"n": 0}, "n"),
        ({"where": {"price_max": -1}}, "where.price_max"),
        ({"rerank": {"mmr_lambda": 7}}, "rerank.mmr_lambda"),
        ({"wishes": 3}, "wishes"),
    ],
)
def test_a_mistake_is_a_400_that_names_the_field(
    client: TestClient, wrong: dict, param: str
) -> None:
    answer = client.post(PATH, json=wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_bundle_without_a_click_model_still_answers(plain: TestClient) -> None:
    asked = {"history": ["item-3"], "n": 3, "context": {"device": "mobile"}}
    told = plain.post(PATH, json=asked).json()
    assert len(told["recommendations"]) == 3 and NO_CONTEXT in told["notes"]
    assert set(told["recommendations"][0]) == FIELDS
    assert plain.post(PATH, json={"rerank": {"per_category": 1}}).status_code == 400


def test_a_chat_answer_has_the_same_fields(plain: TestClient) -> None:
    asked = {"messages": [{"role": "user", "content": ""}], "history": ["item-3"], "n": 2}
    told = plain.post("/v1/chat/completions", json=asked).json()
    assert set(told["recommendations"][0]) == FIELDS


def test_the_command_prints_probabilities(
    shop: RandomShop, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["recommend", str(shop.bundle), "--history", "item-3", "item-9"]
    assert main([*asked, "-n", "3", "--context", "device=mobile", "--now", str(NOW)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all("%" in line and line.endswith("]") for line in lines)
    assert main([*asked, "-n", "2", "--json", "--rerank", "per_category=1"]) == 0
    assert all(0 < one["p_click"] < 1 for one in json.loads(capsys.readouterr().out))


def test_the_command_refuses_what_does_not_fit(
    shop: RandomShop, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["recommend", str(shop.bundle), "--history", "item-3"]
    assert main([*asked, "--no-calibrated", "--context", "device=mobile"]) == 0
    assert NO_CONTEXT in capsys.readouterr().err
    assert main([*asked, "--no-calibrated", "--rerank", "per_category=1"]) == 2
    assert "rerank: only the list of a click model" in capsys.readouterr().err
    assert main([*asked, "--query", "warm"]) == 2
    assert "query: " in capsys.readouterr().err
    assert main([*asked, "--context", "device"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
