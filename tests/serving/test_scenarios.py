"""Scenarios: each list's order derived by hand from a few events, and pages of one list."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_service import PATIENT, LiveService, an_event, live_service
from tiny_shop import TinyRun

from llmrec.bench.random_shop import RandomShop
from llmrec.cli import main
from llmrec.errors import ConfigError
from llmrec.serving.build import run as bundle_run
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.scenarios import SCENARIOS, check_presets, resolved
from llmrec.serving.settings import ServiceConfig

DAY, HOUR = 86400.0, 3600.0
PATH = "/v1/recommendations"


@pytest.fixture(scope="module")
def service(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """Anna bought 0 twice and 1 yesterday, looked at 2 and 3; three people bought 5 with 0."""
    now = time.time()
    path = tmp_path_factory.mktemp("scenarios") / "store.sqlite"
    with live_service(tiny_run.bundle("atomic"), path, ServiceConfig(**PATIENT)) as it:
        ids = it.bundle.item_ids
        events = [
            an_event(0, "anna", ids[0], "purchase", timestamp=now - 60 * DAY),
            an_event(1, "anna", ids[0], "purchase", timestamp=now - 30 * DAY),
            an_event(2, "anna", ids[1], "purchase", timestamp=now - 33 * DAY),
            an_event(3, "anna", ids[1], "purchase", timestamp=now - 1 * DAY),
            an_event(4, "anna", ids[4], "purchase", timestamp=now - 3 * DAY),
            an_event(5, "anna", ids[4], "return", timestamp=now - 2 * DAY),
            an_event(6, "anna", ids[3], "view", timestamp=now - 3 * HOUR),
            an_event(7, "anna", ids[2], "click", timestamp=now - 2 * HOUR),
            an_event(8, "anna", ids[3], "view", timestamp=now - 1 * HOUR),
        ]
        number = 10
        for user in ("ben", "cem", "dora"):
            for item, kind, back in ((0, "purchase", 2), (5, "purchase", 1), (6, "view", 1)):
                at = now - 40 * DAY - back * HOUR
                events.append(an_event(number, user, ids[item], kind, timestamp=at))
                number += 1
        events.append(an_event(40, "ben", ids[7], "purchase", timestamp=now - 40 * DAY - 2 * HOUR))
        for user in range(4):
            events.append(an_event(50 + user, f"u{user}", ids[8], timestamp=now - 6 * DAY))
        for user in range(3):
            events.append(an_event(60 + user, f"u{user}", ids[9], timestamp=now - 0.1 * DAY))
        events += [an_event(70 + n, "bot", ids[10], timestamp=now - 60) for n in range(1)]
        assert it.send(*events).json()["refused"] == 0
        yield it


def items(service: LiveService, answer: dict[str, Any]) -> list[int]:
    return [service.bundle.index[one["item_id"]] for one in answer["recommendations"]]


def test_every_scenario_answers_with_all_fields(service: LiveService) -> None:
    own = {"similar_items": {"similar_to": service.bundle.item_ids[0]}}
    for name in SCENARIOS:
        answer = service.recommend(scenario=name, user="anna", n=2, **own.get(name, {}))
        assert {"recommendation_id", "model", "variant", "catalog_version", "cursor"} <= set(answer)
        assert answer["recommendation_id"].startswith("rec-")
        assert [one["rank"] for one in answer["recommendations"]] == [1, 2], name
        for one in answer["recommendations"]:
            assert {"item_id", "title", "score", "sources", "reason"} <= set(one)
            assert one["reason"] and one["sources"]
        assert answer["variant"] == ("hybrid" if name == "home" else name)


def test_home_is_what_is_answered_without_a_scenario(service: LiveService) -> None:
    home, plain = (service.recommend(user="anna", **more) for more in ({"scenario": "home"}, {}))
    assert home["recommendations"] == plain["recommendations"]


def test_bought_together(service: LiveService) -> None:
    ids = service.bundle.item_ids
    answer = service.recommend(scenario="bought_together", similar_to=ids[0], n=3)
    assert items(service, answer)[:2] == [5, 7], "three people, one person"
    title = service.bundle.quoted_title(0)
    assert answer["recommendations"][0]["reason"] == f"bought together with {title}"
    assert answer["recommendations"][2]["reason"] == f"often chosen with {title}"
    cart = service.recommend(scenario="bought_together", history=[ids[0], ids[20]], n=2)
    assert items(service, cart) == [5, 7]
    nobody = service.client.post(PATH, json={"scenario": "bought_together", "history": []})
    assert (nobody.status_code, nobody.json()["error"]["param"]) == (400, "similar_to")


def test_buy_again_when_it_is_due_and_not_what_was_returned(service: LiveService) -> None:
    answer = service.recommend(scenario="buy_again", user="anna")
    assert items(service, answer) == [0, 1], "0 every 30 days and due, 1 bought yesterday"
    reasons = [one["reason"] for one in answer["recommendations"]]
    assert reasons == [f"bought 2 times, about every {days} days" for days in (30, 32)]
    assert answer["cursor"] is None and answer["notes"] == ["only 2 of 10 items: it ends"]
    stranger = service.recommend(scenario="buy_again", user="nobody")
    assert stranger["recommendations"] == []
    assert stranger["notes"][0] == "user: 'nobody' is not known and is taken as new"


def test_recently_viewed_newest_first_and_once(service: LiveService) -> None:
    assert items(service, service.recommend(scenario="recently_viewed", user="anna")) == [3, 2]


def test_trending_fades_and_goes_by_category(service: LiveService) -> None:
    answer = service.recommend(scenario="trending", n=5)
    # three today, anna twice within hours, four people six days ago count half of one
    assert items(service, answer)[:2] == [9, 3]
    reasons = {one["item_id"]: one["reason"] for one in answer["recommendations"]}
    assert reasons[service.bundle.item_ids[9]] == "chosen lately: 3"
    assert reasons[service.bundle.item_ids[10]] == "chosen lately: 1"
    category = service.bundle.items.catalogue["categories"][8].as_py()[-1]
    only = service.recommend(scenario="trending", where={"categories": [category]}, n=3)
    assert "chosen lately: 4" in [one["reason"] for one in only["recommendations"]]
    found = service.bundle.items.catalogue["categories"].to_pylist()
    assert all(category in found[item] for item in items(service, only))
    # somebody who is forgotten is no longer counted, at once
    service.client.delete("/v1/users/bot")
    after = service.recommend(scenario="trending", allow=[service.bundle.item_ids[10]])
    assert [one["reason"] for one in after["recommendations"]] == ["popular"]


def test_new_newest_first(service: LiveService) -> None:
    since = service.bundle.items.available_from
    order = items(service, service.recommend(scenario="new", n=20))
    assert (since[order][:-1] >= since[order][1:]).all()
    assert since[order[0]] == since.max()
    service.client.put("/v1/catalog/items/brand-new", json={"title": "A lamp"})
    answer = service.recommend(scenario="new", n=1)
    assert answer["recommendations"][0]["item_id"] == "brand-new"
    service.client.delete("/v1/catalog/items/brand-new")


@pytest.mark.parametrize("body", [{"user": "anna"}, {"scenario": "trending"}, {"query": "shoes"}])
def test_pages_are_one_long_list(service: LiveService, body: dict[str, Any]) -> None:
    whole = service.recommend(**body, n=30)["recommendations"]
    pages, cursor = [], None
    for n in (7, 13, 10):
        page = service.recommend(**body, n=n, cursor=cursor)
        again = service.recommend(**body, n=n, cursor=cursor)
        assert again["recommendations"] == page["recommendations"]
        assert again["recommendation_id"] != page["recommendation_id"]
        pages += page["recommendations"]
        cursor = page["cursor"]
    assert [one["item_id"] for one in pages] == [one["item_id"] for one in whole]
    assert [one["rank"] for one in pages] == list(range(1, 31))
    scores = [one["score"] for one in pages]
    assert scores == pytest.approx([one["score"] for one in whole], abs=1e-4)


def test_no_item_comes_twice_or_is_missed_whatever_happens_meanwhile(service: LiveService) -> None:
    seen, cursor, number = list[str](), None, 0
    while number == 0 or cursor is not None:
        page = service.recommend(user="emil", n=40, cursor=cursor)
        seen += [one["item_id"] for one in page["recommendations"]]
        service.send(an_event(100 + number, "emil", seen[-1], timestamp=time.time()))
        if number == 0:  # the long list is one shorter now, at its beginning
            service.client.delete(f"/v1/catalog/items/{seen[0]}")
        cursor, number = page["cursor"], number + 1
    assert sorted(seen) == sorted(service.bundle.item_ids)
    back = {"title": "Back", "available_from": 1e9}
    assert service.client.put(f"/v1/catalog/items/{seen[0]}", json=back).status_code == 201


def test_a_cursor_of_something_else(service: LiveService) -> None:
    cursor = service.recommend(user="anna", n=5)["cursor"]
    for body, message in (
        ({"user": "ben", "cursor": cursor}, "is of another request"),
        ({"user": "anna", "cursor": cursor[:-9]}, "cursor: is "),
        ({"user": "anna", "cursor": "!" + cursor[1:]}, "is none that a list here ended with"),
        ({"user": "anna", "cursor": "\u00e9"}, "is none that a list here ended with"),
        ({"user": "anna", "cursor": ""}, "is none that a list here ended with"),
        ({"user": "anna", "cursor": "a" * 5000}, "at most 4096"),
    ):
        answer = service.client.post(PATH, json=body)
        assert answer.status_code == 400, body
        assert message in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"] == "cursor"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scenario": "hom"}, "scenario"),
        ({"scenario": "similar_items"}, "similar_to"),
        ({"scenario": "trending", "similar_to": "x"}, "similar_to"),
        ({"scenario": "new", "query": "shoes"}, "query"),
        ({"scenario": "buy_again", "candidates": ["x"]}, "candidates"),
    ],
)
def test_what_does_not_go_together(service: LiveService, body: Any, param: str) -> None:
    answer = service.client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_scenarios_of_a_bundle() -> None:
    own = {"scenario": "trending", "n": 4, "where": {"in_stock": True}}
    presets = check_presets({"shoes": own})
    asked = resolved(RecommendRequest(scenario="shoes", user="anna"), presets)
    assert (asked.scenario, asked.n, asked.where) == ("trending", 4, {"in_stock": True})
    assert resolved(RecommendRequest(scenario="shoes", n=7), presets).n == 7
    for wrong, message in (
        ({"home": own}, "scenarios.home: is a scenario already"),
        ({"shoes": {"n": 3}}, "scenarios.shoes.scenario: give one of home"),
        ({"shoes": own | {"user": "anna"}}, "scenarios.shoes: has no field 'user'"),
        ({"shoes": own | {"where": {"colour": 1}}}, "scenarios.shoes.where"),
        ({"shoes": 3}, "scenarios.shoes: expected fields of a request"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_presets(wrong)


def test_a_bundle_with_scenarios_of_its_own(shop: RandomShop, tmp_path: Path) -> None:
    home, recipe = shop.bundle.parent, tmp_path / "shop.yaml"
    recipe.write_text(
        "name: shop\nscenarios:\n  cheap: {scenario: home, n: 4, where: {price_max: 20}}\n"
    )
    out = bundle_run(home / "dataset", home / "model", tmp_path / "bundle", scenarios=recipe)
    opened = Recommender.load(out)
    found = opened.recommend(["item-3"], scenario="cheap")
    expected = opened.recommend(["item-3"], 4, where={"price_max": 20})
    assert found.recommendations == expected.recommendations
    assert len(opened.recommend(["item-3"], 2, scenario="cheap").recommendations) == 2
    with pytest.raises(ConfigError, match=r"there is home, .*, new, cheap"):
        opened.recommend(scenario="dear")
    recipe.write_text("name: shop\nscenarios: {cheap: {scenario: home, size: 3}}\n")
    with pytest.raises(ConfigError, match=r"shop.yaml: scenarios.cheap: has no field 'size'"):
        bundle_run(home / "dataset", home / "model", tmp_path / "other", scenarios=recipe)
    assert not (tmp_path / "other").exists()


def test_a_click_model_adds_its_probabilities(
    shop: RandomShop, recommender: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    history = shop.history(3)
    for name in SCENARIOS:
        more = {"similar_to": "item-5"} if name == "similar_items" else {}
        found = recommender.recommend(history, 3, scenario=name, **more)
        plain = recommender.recommend(history, 3, scenario=name, calibrated=False, **more)
        if name not in ("home", "new"):  # when its items came, the shop does not say
            assert [one.item_id for one in found.recommendations] == [
                one.item_id for one in plain.recommendations
            ], name
            assert found.recommendations
        assert all(one.p_click is not None and one.reason for one in found.recommendations)
        assert all(one.p_click is None for one in plain.recommendations)
    capsys.readouterr()
    ask = ["recommend", str(shop.bundle), "--scenario", "trending"]
    assert main([*ask, "-n", "3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = recommender.recommend([], 3, scenario="trending")
    assert [one["item_id"] for one in printed] == [one.item_id for one in expected.recommendations]
