"""A service with experiments: people keep their variant, lists are logged with it, and reported."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from live_service import PATIENT, LiveService, live_service
from tiny_shop import TinyRun

from llmrec.bench.random_shop import RandomShop
from llmrec.cli import main
from llmrec.errors import ConfigError
from llmrec.experiments.assignment import assign
from llmrec.serving.bundle import Bundle
from llmrec.serving.server import Opening, open_app
from llmrec.serving.settings import ServiceConfig

PEOPLE = [f"person-{number}" for number in range(130)]
SUMMER = """
exploration: {share: 0.6, places: 3}
experiments:
  summer:
    variants:
      today: {share: 0.5}
      language: {share: 0.5, calibrated: false}
      popular: {share: 0, sources: [popular]}
      diverse: {share: 0, rerank: {per_category: 1}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    path = folder / "experiments.yaml"
    path.write_text(SUMMER)
    return path


@pytest.fixture(scope="module")
def service(shop: RandomShop, folder: Path, file: Path) -> Iterator[LiveService]:
    with live_service(shop.bundle, folder / "store.sqlite", experiments=file) as running:
        yield running


def variant_of(person: str) -> str:
    return ("today", "language")[assign("summer", person, [0.5, 0.5])]


@pytest.fixture(scope="module")
def answers(service: LiveService) -> list[dict[str, Any]]:
    """Of everybody twice; of some second lists the first item is clicked, and of some bought."""
    found, events = [], []
    for turn in range(2):
        for number, person in enumerate(PEOPLE):
            answer = service.recommend(user=person, n=4) | {"user": person}
            found.append(answer)
            if turn and number % 3 == 0:
                event = {
                    "event_id": f"{turn}-{number}",
                    "user_id": person,
                    "type": "click",
                    "item_id": answer["recommendations"][0]["item_id"],
                    "recommendation_id": answer["recommendation_id"],
                }
                bought = {"event_id": f"b{number}", "type": "purchase", "revenue": 12.5}
                events += [event, event | bought] if number % 6 == 0 else [event]
    assert service.send(*events).json()["stored"] == len(events)
    return found


def test_people_keep_their_variant(answers: list[dict[str, Any]], service: LiveService) -> None:
    for answer in answers:
        assert answer["variant"] == f"summer/{variant_of(answer['user'])}"
    assert {answer["variant"] for answer in answers} == {"summer/today", "summer/language"}
    plain = service.recommend(user=next(p for p in PEOPLE if variant_of(p) == "language"), n=4)
    assert all("p_click" not in one for one in plain["recommendations"])  # who ranks
    assert all("p_click" in one for one in answers_of(answers, "today")[0]["recommendations"])


def answers_of(answers: list[dict[str, Any]], variant: str) -> list[dict[str, Any]]:
    return [answer for answer in answers if answer["variant"] == f"summer/{variant}"]


def test_who_takes_no_part(service: LiveService) -> None:
    item = service.bundle.item_ids[0]
    assert service.recommend()["variant"] == "click_model"  # nobody
    assert service.recommend(user="anna", calibrated=False)["variant"] == "language_model"
    assert service.recommend(user="anna", rerank={"per_category": 2})["variant"] == "click_model"
    assert service.recommend(user="anna", similar_to=item)["variant"] == "similar_items"


def test_exposures_and_propensities_are_logged(
    answers: list[dict[str, Any]], service: LiveService, folder: Path
) -> None:
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
        shown = {
            row[0]: row[1:]
            for row in connection.execute(
                "SELECT recommendation_id, experiment, variant, share, places, chosen, propensity "
                "FROM exposures JOIN explored_lists USING (recommendation_id)"
            )
        }
    explored = 0
    for answer in answers:
        experiment, variant, share, places, chosen, propensity = shown[answer["recommendation_id"]]
        assert (experiment, variant, share) == ("summer", variant_of(answer["user"]), 0.5)
        assert (places, propensity) == (3, pytest.approx(0.6 if chosen == 1 else 0.2))
        assert [one["rank"] for one in answer["recommendations"]] == [1, 2, 3, 4]
        explored += chosen > 1
    assert 0.25 < explored / len(answers) < 0.55  # 0.4


def test_the_report(
    answers: list[dict[str, Any]],
    service: LiveService,
    folder: Path,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = f"sqlite:///{folder / 'store.sqlite'}"
    out = folder / "report"
    words = ["experiment", "report", str(file), "--store", store, "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "| variant | share | people | lists |" in printed
    assert "as shared" in printed
    result = json.loads((out / "report.json").read_text())
    metrics = result["metrics"]
    people = [variant_of(person) for person in PEOPLE]
    clicked = [variant_of(person) for person in PEOPLE[::3]]
    bought = [variant_of(person) for person in PEOPLE[::6]]
    for name in ("today", "language"):
        count = people.count(name)
        assert metrics[f"people@{name}"] == count
        assert metrics[f"lists@{name}"] >= 2 * count
        lists = metrics[f"lists@{name}"]
        assert metrics[f"click@{name}"] == pytest.approx(clicked.count(name) / lists)
        assert metrics[f"purchase@{name}"] == pytest.approx(bought.count(name) / lists)
        assert metrics[f"revenue@{name}"] == pytest.approx(12.5 * bought.count(name) / lists)
        low, high = result["intervals"][f"click@{name}"]
        assert low < metrics[f"click@{name}"] < high
    assert metrics["people@popular"] == 0
    low, high = result["intervals"]["click_difference@language"]
    assert low < 0 < high
    assert not result["sample_ratio_mismatch"]
    assert (out / "report.png").is_file()
    assert (out / "report.md").read_text().startswith("# summer")
    file_of_others = folder / "other.yaml"
    file_of_others.write_text(SUMMER.replace("0.5", "0.4", 1).replace("0.5", "0.6", 1))
    assert main([*words[:2], str(file_of_others), *words[3:5]]) == 2
    assert "changed shares need a new name" in capsys.readouterr().err
    file_of_others.write_text(SUMMER.replace("summer", "winter"))
    assert main([*words[:2], str(file_of_others), *words[3:5]]) == 2
    assert "nothing of it was shown" in capsys.readouterr().err


def test_a_variant_that_was_never_shown(
    answers: list[dict[str, Any]],
    service: LiveService,
    shop: RandomShop,
    folder: Path,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = f"sqlite:///{folder / 'store.sqlite'}"
    out = folder / "off.json"
    words = ["experiment", "off-policy", "--store", store, "--experiments", str(file)]
    words += ["--bundle", str(shop.bundle), "--out", str(out)]
    assert main([*words, "--variant", "today"]) == 0
    printed = capsys.readouterr().out
    assert "| click |" in printed
    result = json.loads(out.read_text())
    assert result["metrics"]["rows"] >= len(answers)
    assert 0 < result["metrics"]["click_snips"] < 1
    assert result["metrics"]["clipped_share"] == 0
    assert out.with_suffix(".png").is_file()
    assert main([*words, "--variant", "popular"]) == 2
    assert "one that sets sources proposes items" in capsys.readouterr().err
    assert main([*words, "--variant", "nobody"]) == 2
    assert "'nobody' is not one of today" in capsys.readouterr().err
    assert main(words[:4]) == 2
    assert "needs --log, or --store" in capsys.readouterr().err


def test_forgetting_takes_the_exposures(shop: RandomShop, file: Path, tmp_path: Path) -> None:
    """Nothing of somebody is left in any table, nor in any byte of any file."""
    name, state = "anna-k7f3q9", tmp_path / "state"
    with live_service(shop.bundle, state / "store.sqlite", experiments=file) as service:
        for user in (name, "ben"):
            answer = service.recommend(user=user, n=4)
            event = {
                "event_id": f"event of {user}",
                "user_id": user,
                "type": "click",
                "item_id": answer["recommendations"][0]["item_id"],
                "recommendation_id": answer["recommendation_id"],
                "context": {"place": f"{user}'s"},
            }
            searched = {"event_id": f"search of {user}", "user_id": user, "type": "search"}
            assert service.send(event, searched | {"text": f"gloves, {user}"}).json()["stored"] == 2
            service.client.put(f"/v1/users/{user}", json={"membership": f"gold {user}"})
        assert found_in(state, name)
        assert service.client.delete(f"/v1/users/{name}").status_code == 200
        assert not found_in(state, name)
        assert found_in(state, "ben")
        rows = everything(state / "store.sqlite")
        assert {table for table, one in rows.items() if name in one} == set()
        assert {table for table, one in rows.items() if "ben" in one} >= {"events", "users"}
        left = {table: len(json.loads(one)) for table, one in rows.items()}
        assert (left["exposures"], left["explored_lists"], left["recommendations"]) == (1, 1, 1)
        assert service.client.get(f"/v1/users/{name}").status_code == 404
    assert not found_in(state, name)
    assert not found_in(shop.bundle, name)


def found_in(folder: Path, text: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]


def everything(path: Path) -> dict[str, str]:
    """Every table as JSON."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        return {
            name: json.dumps(connection.execute(f"SELECT * FROM {name}").fetchall())
            for (name,) in tables
        }


def test_old_exposures_are_forgotten(
    shop: RandomShop, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, words = tmp_path / "store.sqlite", ["store", "prune", "--store"]
    with live_service(shop.bundle, path, experiments=file) as service:
        for user in ("anna", "ben"):
            service.recommend(user=user, n=3)
            item = service.bundle.item_ids[0]
            service.send({"event_id": user, "user_id": user, "type": "view", "item_id": item})
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("recommendations", "events"):
            connection.execute(f"UPDATE {table} SET timestamp = 1e9 WHERE user_id = 'anna'")
    assert main([*words, f"sqlite:///{path}", "--keep-days", "30"]) == 0
    assert "removed 1 events and 1 recommendations" in capsys.readouterr().out
    rows = everything(path)
    kept = ("events", "recommendations", "exposures", "explored_lists")
    assert [len(json.loads(rows[table])) for table in kept] == [1, 1, 1, 1]
    assert "anna" not in "".join(rows.values())
    assert not found_in(tmp_path, "anna")
    assert main([*words, f"sqlite:///{path}", "--keep-days", "0"]) == 2
    assert "--keep-days: must be above 0" in capsys.readouterr().err


def bundles(folder: Path, other: Path) -> Path:
    path = folder / "bundles.yaml"
    path.write_text(
        "experiments: {models: {variants: {today: {share: 0.5}, "
        f"other: {{share: 0.5, bundle: {other}}}}}}}}}\n"
    )
    return path


def test_a_variant_with_a_bundle_of_its_own(tiny_run: TinyRun, tmp_path: Path) -> None:
    file = bundles(tmp_path, tiny_run.bundle("semantic"))
    with live_service(
        tiny_run.bundle("atomic"), tmp_path / "store.sqlite", experiments=file
    ) as service:
        item = service.bundle.item_ids[5]
        lists = {}
        for person in PEOPLE[:12]:
            service.send({"event_id": person, "user_id": person, "type": "click", "item_id": item})
            answer = service.recommend(user=person, n=5)
            number = assign("models", person, [0.5, 0.5])
            assert answer["variant"] == f"models/{('today', 'other')[number]}"
            assert answer["history_given"] == 1
            lists[number] = [one["item_id"] for one in answer["recommendations"]]
        assert lists[0] != lists[1]
        semantic = Bundle(tiny_run.bundle("semantic"))
        assert service.recommend(user=PEOPLE[0], n=5)["catalog_version"]
        expected = service.recommender.load(semantic).recommend([item], 5).recommendations
        assert lists[1] == [one.item_id for one in expected]


def test_a_new_item_is_there_for_every_variant(tiny_run: TinyRun, tmp_path: Path) -> None:
    file = bundles(tmp_path, tiny_run.bundle("semantic"))
    with live_service(
        tiny_run.bundle("atomic"), tmp_path / "store.sqlite", experiments=file
    ) as service:
        put = service.client.put("/v1/catalog/items/new", json={"title": "a new lamp"})
        assert put.status_code == 201, put.text
        for person in PEOPLE[:8]:  # also before the other bundle heard of it
            event = {"event_id": person, "user_id": person, "type": "click", "item_id": "new"}
            assert service.send(event).json()["stored"] == 1
        deadline = time.monotonic() + 60
        known: set[int] = set()
        while known != {0, 1} and time.monotonic() < deadline:
            for person in PEOPLE[:8]:
                body = {"user": person, "candidates": ["new"], "exclude_history": False}
                if service.client.post("/v1/recommendations", json=body).status_code == 200:
                    known.add(assign("models", person, [0.5, 0.5]))
        assert known == {0, 1}


def test_every_item_graph_counts(tiny_run: TinyRun, tmp_path: Path) -> None:
    opened, other = (Bundle(tiny_run.bundle("atomic")) for _ in range(2))
    from llmrec.serving.live import LiveHistories
    from llmrec.serving.store.database import Store
    from llmrec.serving.store.events import StoredEvent

    with Store(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        live = LiveHistories(store, opened, others=[other])
        edges = [one.prior.scorer.graph.matrix().toarray() for one in (opened, other)]  # type: ignore[union-attr]
        items = opened.item_ids[:2]
        live.record([StoredEvent(i, "anna", "click", 1.0 + n, i) for n, i in enumerate(items)])
        for one, before in zip((opened, other), edges, strict=True):
            assert one.prior is not None
            assert np.abs(one.prior.scorer.graph.matrix().toarray() - before).sum() > 0
        live.forget("anna")
        for one, before in zip((opened, other), edges, strict=True):
            assert one.prior is not None
            assert (one.prior.scorer.graph.matrix().toarray() == before).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("bundle: nowhere", "variants.b.bundle: .*nowhere"),
        ("adapter: nobody", "variants.b.adapter: 'nobody' is not in the bundle; it has none"),
        ("sources: [friends]", "variants.b.sources: 'friends' is not one of generated"),
        ("calibrated: false, rerank: {per_category: 2}", "variants.b.rerank: needs a click model"),
    ],
)
def test_what_a_bundle_cannot_do(
    shop: RandomShop, tmp_path: Path, fields: str, message: str
) -> None:
    file = tmp_path / "experiments.yaml"
    text = f"experiments: {{x: {{variants: {{a: {{share: 1}}, b: {{share: 0, {fields}}}}}}}}}"
    file.write_text(text)
    with (
        pytest.raises(ConfigError, match=message),
        live_service(shop.bundle, tmp_path / "store.sqlite", experiments=file),
    ):
        pass


def test_a_bundle_of_another_catalogue(shop: RandomShop, tiny_run: TinyRun, tmp_path: Path) -> None:
    file = bundles(tmp_path, tiny_run.bundle("atomic"))
    with (
        pytest.raises(ConfigError, match="has other items than the service's bundle"),
        live_service(shop.bundle, tmp_path / "store.sqlite", experiments=file),
    ):
        pass


def test_sources(shop: RandomShop, service: LiveService) -> None:
    found = service.recommender.recommend([], 5, sources=["popular"]).recommendations
    assert found
    assert all("popular" in one.sources for one in found)
    with pytest.raises(ConfigError, match="sources: only a click model has any"):
        service.recommender.recommend([], 5, sources=["popular"], calibrated=False)
    with pytest.raises(ConfigError, match="sources: 'friends' is not one of generated"):
        service.recommender.recommend([], 5, sources=["friends"])


def test_it_is_served(shop: RandomShop, file: Path, tmp_path: Path) -> None:
    url, own = f"sqlite:///{tmp_path / 'store.sqlite'}", ServiceConfig(**PATIENT)
    opening = Opening(
        bundle=shop.bundle,
        dataset=None,
        beams=50,
        cache_mib=0,
        calibrated=True,
        verify=False,
        engine="torch",
        vllm_url=None,
        store=url,
        search_index=None,
        media_root=None,
        experiments=file,
        assistant=None,
        assistant_url=None,
        assistant_model="",
        service=own,
    )
    with TestClient(open_app(opening)) as client:
        answer = client.post("/v1/recommendations", json={"user": "person-1", "n": 3})
        assert answer.json()["variant"] == f"summer/{variant_of('person-1')}"


def test_the_page_shows_how_the_experiments_stand(
    answers: list[dict[str, Any]], service: LiveService
) -> None:
    (one,) = service.client.get("/ui/experiments").json()["experiments"]
    assert (one["name"], [v["share"] for v in one["variants"]]) == ("summer", [0.5, 0.5, 0, 0])
    shown = {v["name"]: v["exposures"] for v in one["variants"]}
    assert shown["today"] >= 2 * sum(variant_of(person) == "today" for person in PEOPLE)
    assert shown["popular"] == shown["diverse"] == 0
