"""Experiments begin and end over the API, for all services over a store, beside those of a file."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cascade_shop import shop
from live_service import LiveService, live_service

from llmrec.bench.random_shop import RandomShop
from llmrec.cli import main
from llmrec.errors import ConfigError
from llmrec.experiments.assignment import assign
from llmrec.serving.guard import needed_scope

__all__ = ["shop"]
PEOPLE = [f"person-{number}" for number in range(8)]
SHARES = {"today": {"share": 0.5}, "language": {"share": 0.5, "calibrated": False}}
SUMMER: dict[str, Any] = {"metric": "purchase", "variants": SHARES}
OF_FILE = "{today: {share: 0.5}, popular: {share: 0.5, sources: [popular]}}"
PATH = "/v1/experiments"


@pytest.fixture
def services(shop: RandomShop, tmp_path: Path) -> Iterator[tuple[LiveService, LiveService]]:
    store = tmp_path / "store.sqlite"
    with live_service(shop.bundle, store) as one, live_service(shop.bundle, store) as other:
        yield one, other


def put(service: LiveService, name: str = "summer", **changed: Any) -> Any:
    return service.client.put(f"{PATH}/{name}", json=SUMMER | changed)


def variants(service: LiveService) -> set[str]:
    return {service.recommend(user=person, n=2)["variant"] for person in PEOPLE}


def soon(found: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60
    while not found() and time.monotonic() < until:
        time.sleep(0.1)
    return found()


def test_it_begins_and_ends_everywhere(services: tuple[LiveService, LiveService]) -> None:
    one, other = services
    assert variants(one) == {"click_model"}
    answer = put(one)
    assert answer.status_code == 201, answer.text
    card = answer.json()
    assert (card["outcome"], card["source"], card["status"]) == ("created", "store", "running")
    assert card["variants"] == SHARES
    for person in PEOPLE:  # at once
        number = assign("summer", person, [0.5, 0.5])
        expected = f"summer/{('today', 'language')[number]}"
        assert one.recommend(user=person, n=2)["variant"] == expected
    assert soon(lambda: variants(other) == {"summer/today", "summer/language"})
    assert put(other).json()["outcome"] == "unchanged"

    ended = other.client.delete(f"{PATH}/summer").json()
    assert (ended["outcome"], ended["status"]) == ("ended", "ended")
    assert ended["exposures"]["language"] > 0
    assert variants(other) == {"click_model"}
    assert soon(lambda: variants(one) == {"click_model"})
    assert put(one).json()["outcome"] == "resumed"
    (listed,) = one.client.get(PATH).json()["experiments"]
    assert listed["status"] == "running"
    assert one.client.get(f"{PATH}/summer").json()["created"] == card["created"]


def test_it_survives_a_restart(shop: RandomShop, tmp_path: Path, capsys: Any) -> None:
    store = tmp_path / "store.sqlite"
    with live_service(shop.bundle, store) as service:
        put(service)
    with live_service(shop.bundle, store) as service:
        assert variants(service) == {"summer/today", "summer/language"}
    words = ["--store", f"sqlite:///{store}"]
    assert main(["experiment", "report", *words]) == 0
    assert "| language | 0.5 |" in capsys.readouterr().out
    assert main(["experiment", "end", "summer", *words]) == 0
    assert main(["experiment", "end", "winter", *words]) == 2
    with live_service(shop.bundle, store) as service:
        assert variants(service) == {"click_model"}


def test_what_was_shown_is_not_mixed(services: tuple[LiveService, LiveService]) -> None:
    service, _ = services
    assert put(service).status_code == 201
    quarter = SHARES | {"today": {"share": 0.25}, "other": {"share": 0.25}}
    assert put(service, variants=quarter).json()["outcome"] == "changed"  # nobody saw it yet
    assert variants(service) <= {"summer/today", "summer/language", "summer/other"}
    refused = put(service)
    assert refused.status_code == 409
    assert refused.json()["error"]["param"] == "name"
    assert service.client.get(f"{PATH}/summer").json()["variants"] == quarter
    turned = dict(reversed(quarter.items()))  # other people would get each
    assert put(service, variants=turned).status_code == 409


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"variants": SHARES | {"today": {"share": 0.6}}}, "variants"),
        ({"variants": {"today": {"share": 1}}}, "variants"),
        ({"variants": {"today": {"share": 1}, "b": {"share": 2}}}, "variants.b.share"),
        ({"variants": {"today": {"share": 1}, "b": {}}}, "variants.b.share"),
        ({"variants": {"today": {"share": 1}, "b": {"share": 0, "x": 1}}}, "variants.b.x"),
        (
            {"variants": {"today": {"share": 1}, "b": {"share": 0, "adapter": "x"}}},
            "variants.b.adapter",
        ),
        (
            {"variants": {"today": {"share": 1}, "b": {"share": 0, "sources": ["x"]}}},
            "variants.b.sources",
        ),
        (
            {"variants": {"today": {"share": 1}, "b": {"share": 0, "rerank": {"x": 1}}}},
            "variants.b.rerank",
        ),
        (
            {"variants": {"today": {"share": 1}, "b": {"share": 0, "bundle": "/x"}}},
            "variants.b.bundle",
        ),
        ({"variants": {"today": {"share": 1}, "a/b": {"share": 0}}}, "variants"),
        ({"control": "nobody"}, "control"),
        ({"metric": "love"}, "metric"),
        ({"tuned_for": 0}, "tuned_for"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_is_wrong_is_named(only: LiveService, changed: dict[str, Any], field: str) -> None:
    answer = put(only, **changed)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field, answer.text
    assert only.client.get(PATH).json()["experiments"][0]["name"] == "shelf"


@pytest.fixture(scope="module")
def only(shop: RandomShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service whose file has an experiment."""
    folder = tmp_path_factory.mktemp("file")
    with live_service(shop.bundle, folder / "store.sqlite", experiments=file(folder)) as service:
        yield service


def file(folder: Path, name: str = "shelf") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"experiments: {{{name}: {{variants: {OF_FILE}}}}}")
    return path


def test_names_and_paths(only: LiveService) -> None:
    assert put(only, "a,b").json()["error"]["param"] == "name"
    for method, path in (("GET", "x"), ("DELETE", "x"), ("GET", "x/report")):
        unknown = only.client.request(method, f"{PATH}/{path}")
        assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "name")
    assert needed_scope("GET", f"{PATH}/summer/report") == needed_scope("PUT", PATH) == "admin"


def test_the_file_is_the_files(only: LiveService) -> None:
    shelf = only.client.get(f"{PATH}/shelf").json()
    assert (shelf["source"], shelf["status"]) == ("file", "running")
    for answer in (put(only, "shelf"), only.client.delete(f"{PATH}/shelf")):
        assert answer.status_code == 409
        assert "is of the service's file" in answer.json()["error"]["message"]
    same = {"today": {"share": 0.5}, "b": {"share": 0.5, "sources": ["popular"]}}
    beside = put(only, "other", variants=same)
    assert (beside.status_code, beside.json()["error"]["param"]) == (409, "variants")
    assert "both set sources" in beside.json()["error"]["message"]


def test_a_file_against_the_store(shop: RandomShop, tmp_path: Path) -> None:
    """What disagrees is refused at the start; later the file wins, and the answer says so."""
    store = tmp_path / "store.sqlite"
    sources = {"a": {"share": 0.5}, "b": {"share": 0.5, "sources": ["popular"]}}
    with (
        live_service(shop.bundle, store, experiments=file(tmp_path)) as service,
        live_service(shop.bundle, store) as other,
    ):
        assert put(other, variants=sources).status_code == 201

        def seen() -> dict[str, Any]:
            return {one["name"]: one for one in service.client.get(PATH).json()["experiments"]}

        assert soon(lambda: "summer" in seen())
        assert seen()["summer"]["status"] == "refused"
        assert "both set sources" in seen()["summer"]["problem"]
        assert variants(service) == {"shelf/today", "shelf/popular"}
        assert variants(other) == {"summer/a", "summer/b"}
    for name in ("shelf", "summer"):
        with (
            pytest.raises(ConfigError, match=r"'summer' cannot run: .*llmrec experiment end"),
            live_service(shop.bundle, store, experiments=file(tmp_path, name)),
        ):
            pass


def test_its_report(only: LiveService) -> None:
    assert only.client.get(f"{PATH}/shelf/report").status_code == 409  # nothing was shown
    for number in range(60):
        answer = only.recommend(user=f"buyer-{number}", n=3)
        bought = {
            "event_id": f"{number}",
            "user_id": f"buyer-{number}",
            "type": "purchase",
            "revenue": 5.0,
            "item_id": answer["recommendations"][0]["item_id"],
            "recommendation_id": answer["recommendation_id"],
        }
        if answer["variant"] == "shelf/popular":
            only.send(bought)
    report = only.client.get(f"{PATH}/shelf/report", params={"alpha": 0.1}).json()
    today, popular = report["variants"]
    assert (today["name"], today["against_control"]) == ("today", None)
    assert today["people"] + popular["people"] == 60
    assert (popular["purchase"]["mean"], popular["revenue"]["mean"]) == (1.0, 5.0)
    assert report["alpha"] == 0.1
    assert not report["sample_ratio"]["mismatch"]
    clicks = popular["against_control"]["click"]
    assert clicks is None or clicks["difference"] == 0
    wrong = only.client.get(f"{PATH}/shelf/report", params={"alpha": 2})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "alpha")
