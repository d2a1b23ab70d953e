"""``/v1/catalog/items``: in force at the next request, kept, and the same in every service."""

import gc
import json
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_service import LiveService, an_event, live_service
from tiny_shop import TinyRun

from llmrec.bench.random_shop import RandomShop
from llmrec.serving.catalogue.live import CREATED, ItemChange, LiveCatalogue
from llmrec.serving.catalogue.rows import BundleRows
from llmrec.serving.catalogue_api import as_json
from llmrec.serving.guard import FRESH_SECONDS
from llmrec.serving.recommender import Recommender
from llmrec.serving.store import keys

PATH = "/v1/catalog/items"
TWIN_OF = 33


@pytest.fixture
def service(tiny_run: TinyRun, tmp_path: Path) -> Iterator[LiveService]:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite", busy_seconds=0.2) as it:
        yield it


def row_of(service: LiveService, item_id: str) -> dict[str, Any]:
    """An item as the service knows it, as ``PUT`` takes it."""
    found: dict[str, Any] = service.client.get(f"{PATH}/{item_id}").json()
    for name in ("item_id", "model", "catalog_version"):
        del found[name]
    return found


def add_twin(service: LiveService) -> str:
    """A new item that is an old one's twin in content; that one's identifier."""
    twin = service.bundle.item_ids[TWIN_OF]
    answer = service.client.put(f"{PATH}/new-1", json=row_of(service, twin))
    assert (answer.status_code, answer.json()["outcome"]) == (201, "created")
    return twin


def listed(service: LiveService, **body: Any) -> list[str]:
    return [one.item_id for one in service.recommender.recommend(**body).recommendations]


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_a_new_item_is_recommended_at_the_next_request(
    kind: str, tiny_run: TinyRun, tmp_path: Path
) -> None:
    path = tmp_path / "store.sqlite"
    with live_service(tiny_run.bundle(kind), path) as service:
        before = service.recommend(history=[service.bundle.item_ids[TWIN_OF]], n=100)
        twin = add_twin(service)
        new = service.recommender.bundle
        assert new.item_ids == [*service.bundle.item_ids, "new-1"]
        assert np.array_equal(new.llm.ids.codes[:120], service.bundle.llm.ids.codes)
        assert new.llm.trie.leaf_of_item[120] >= 0
        assert listed(service, similar_to="new-1", n=1) == [twin]
        assert set(listed(service, query=service.bundle.titles[TWIN_OF], n=2)) == {twin, "new-1"}
        fitting = service.recommend(history=[twin], n=100)
        assert "new-1" in [one["item_id"] for one in fitting["recommendations"]]
        assert fitting["catalog_version"] == f"{before['catalog_version'][:-2]}.1"
        assert service.send(an_event(0, "anna", "new-1")).json()["stored"] == 1
        after = service.recommend(user="anna", n=100)
        assert after["history_read"] == 1 and after["notes"] == []
        assert twin in [one["item_id"] for one in after["recommendations"]]
    with live_service(tiny_run.bundle(kind), path) as service:
        again = service.recommend(user="anna", n=100)
        assert again["recommendations"] == after["recommendations"]
        assert again["catalog_version"] == after["catalog_version"]
        assert row_of(service, "new-1") == row_of(service, twin)


def test_what_is_known_stays_and_the_row_is_made_by_content(service: LiveService) -> None:
    model = service.bundle.llm.engine.model
    first = service.bundle.llm.encoder.vocabulary.item_offset
    table = model.get_input_embeddings().weight
    before = table.detach().clone()
    add_twin(service)
    changed = (table != before).any(1).nonzero().flatten().tolist()
    assert changed == [first + 120]
    apart = (table[first : first + 121] - table[first : first + 120].mean(0)).detach().numpy()
    cosines = apart[:120] @ apart[120] / np.linalg.norm(apart[:120], axis=1)
    assert TWIN_OF in np.argsort(-cosines)[:3]
    service.client.patch(f"{PATH}/new-1", json={"title": "A crystal lamp", "attributes": {}})
    assert (table != before).any(1).nonzero().flatten().tolist() == [first + 120]
    moved = (table[first + 120] - table[first : first + 120].mean(0)).detach().numpy()
    assert moved @ apart[120] < 0.99 * (apart[120] @ apart[120]), "other content, another row"


def test_price_stock_and_words_of_a_known_item(service: LiveService) -> None:
    item, other = service.bundle.item_ids[3], service.bundle.item_ids[4]
    sold_out = listed(service, where={"in_stock": False}, n=100)
    change = {"price": 0.01, "in_stock": False, "title": "Moon lamp\n2. buy \u202ethis"}
    assert service.client.patch(f"{PATH}/{item}", json=change).json()["outcome"] == "changed"
    assert set(listed(service, where={"in_stock": False}, n=100)) == {*sold_out, item}
    found = service.recommend(where={"price_max": 0.02})["recommendations"]
    assert [(one["item_id"], one["title"]) for one in found] == [(item, "Moon lamp 2. buy this")]
    assert listed(service, query="moon lamp", n=1) == [item]
    assert (
        "'Moon lamp 2. buy this'"
        in service.recommend(history=[item])["recommendations"][0]["reason"]
    )
    same = service.client.patch(f"{PATH}/{item}", json=change).json()
    assert same["outcome"] == "unchanged"
    whole = service.client.put(f"{PATH}/{other}", json={"title": "Bare", "available_from": 1e9})
    assert whole.json()["outcome"] == "changed"
    bare = row_of(service, other)
    assert (bare["title"], bare["price"], bare["categories"]) == ("Bare", None, [])
    assert same["catalog_version"] < whole.json()["catalog_version"]


def test_a_removed_item_is_never_recommended(service: LiveService) -> None:
    first = listed(service, n=120)
    gone = first[0]
    assert service.client.delete(f"{PATH}/{gone}").json()["outcome"] == "removed"
    assert listed(service, n=120) == first[1:]
    assert gone not in listed(service, query=service.bundle.titles[0], n=120)
    assert gone not in listed(service, similar_to=first[1], n=119)
    for field in ("candidates", "allow"):
        answer = service.client.post("/v1/recommendations", json={field: [gone]})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == field
    assert service.client.get(f"{PATH}/{gone}").status_code == 404
    again = service.client.delete(f"{PATH}/{gone}")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")
    assert service.client.patch(f"{PATH}/{gone}", json={"price": 3}).status_code == 404
    # what somebody has done with it stays, and it may come back
    assert service.send(an_event(0, "anna", gone, "return")).json()["stored"] == 1
    assert service.recommend(history=[gone])["history_read"] == 1
    assert service.client.put(f"{PATH}/{gone}", json={"title": "Back"}).status_code == 201
    assert set(listed(service, n=120)) == set(first)


def test_a_request_ends_with_the_catalogue_it_began_with(
    service: LiveService, tiny_run: TinyRun
) -> None:
    begun, changed = threading.Event(), threading.Event()

    def history(user: str) -> list[str]:
        begun.set()
        assert changed.wait(60)
        return []

    alone = Recommender(service.bundle)
    expected = alone.recommend([], 120)
    service.recommender.histories = history
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(service.recommender.recommend(user="anna", n=120))
    )
    thread.start()
    assert begun.wait(60)
    LiveCatalogue(service.store, service.live, service.recommender).change(
        [
            ItemChange("new-1", {"title": "A lamp"}),
            ItemChange(expected.recommendations[0].item_id, None),
        ]
    )
    changed.set()
    thread.join(60)
    assert found[0].recommendations == expected.recommendations
    assert found[0].catalog_version == alone.bundle.catalog_version
    after = service.recommender.recommend([], 120)
    assert {one.item_id for one in after.recommendations} == {
        *(one.item_id for one in expected.recommendations[1:]),
        "new-1",
    }
    assert after.catalog_version.endswith(".1")


def test_a_version_goes_with_its_last_request(service: LiveService) -> None:
    service.client.patch(f"{PATH}/{service.bundle.item_ids[0]}", json={"price": 1.0})
    bundle = service.recommender.bundle
    service.recommend(where={"price_max": 2.0}, allow=bundle.item_ids[:3])
    gc.collect()  # what requests leave behind
    gone = weakref.ref(bundle.items)
    del bundle
    gc.disable()
    try:
        service.client.patch(f"{PATH}/{service.bundle.item_ids[0]}", json={"price": 2.0})
        assert gone() is None
    finally:
        gc.enable()


def test_services_over_one_store_have_one_catalogue(
    service: LiveService, tiny_run: TinyRun, tmp_path: Path
) -> None:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as other:
        catalogue = LiveCatalogue(other.store, other.live, other.recommender)
        add_twin(service)
        assert catalogue.sync() and not catalogue.sync()
        # each adds one before it has seen what the other did
        assert catalogue.change([ItemChange("new-2", {"title": "Blue hat"})]) == [CREATED]
        answer = service.client.put(f"{PATH}/new-3", json={"title": "Red hat"}).json()
        assert answer["catalog_version"].endswith(".3")
        service.client.delete(f"{PATH}/{service.bundle.item_ids[5]}")
        catalogue.sync()
        one, two = service.recommender.bundle, other.recommender.bundle
        assert one.item_ids[120:] == two.item_ids[120:] == ["new-1", "new-2", "new-3"]
        assert one.catalog_version == two.catalog_version
        history = service.bundle.item_ids[8:12]
        first, second = (
            at.recommender.recommend(history, 100).recommendations for at in (service, other)
        )
        assert [a.item_id for a in first] == [b.item_id for b in second]


def test_a_batch_takes_what_it_can(service: LiveService) -> None:
    known = service.bundle.item_ids[0]
    items = [
        {"item_id": "new-1", "title": "A lamp", "attributes": {"colour": ["red", "blue"]}},
        {"item_id": "new-2", "price": -1},
        7,
        {"item_id": known, "price": 3},
        {"item_id": "new-1", "title": "A better lamp"},
    ]
    answer = service.client.put(PATH, json={"items": items})
    body = answer.json()
    assert answer.status_code == 200
    assert [one["outcome"] for one in body["results"]] == [
        "created", "refused", "refused", "changed", "changed"
    ]  # fmt: skip
    assert [one["status"] for one in body["results"]] == [201, 422, 422, 200, 200]
    assert body["results"][1]["error"]["param"] == "items[1].price"
    assert (body["created"], body["changed"], body["refused"]) == (1, 2, 2)
    assert body["catalog_version"].endswith(".1"), "one change of the catalogue"
    assert row_of(service, "new-1")["title"] == "A better lamp"
    patched = service.client.patch(PATH, json={"items": [{"item_id": "nothing", "price": 1}]})
    assert patched.status_code == 422
    assert patched.json()["results"][0]["error"]["code"] == "not_found"
    deleted = service.client.request("DELETE", PATH, json={"item_ids": ["new-1", "x"]}).json()
    assert [one["outcome"] for one in deleted["results"]] == ["removed", "not_found"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("price", "dear", "valid number"),
        ("price", float("nan"), "greater than or equal to 0"),
        ("price", float("inf"), "price: inf is no price"),
        ("in_stock", "often", "valid boolean"),
        ("title", "x" * 1001, "at most 1000"),
        ("title", "a\0", "holds a NUL character"),
        ("title", "\ud800", "unicode"),
        ("image", "/etc/passwd", "image: is no http or https address"),
        ("image", "http://[", "image: is no http or https address"),
        ("categories", ["a"] * 51, "at most 50"),
        ("attributes", {"colour": {"a": 1}}, "attributes.colour: is neither"),
        ("available_from", "soon", "available_from: 'soon' is no time"),
        ("colour", "red", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_field(service: LiveService, field: str, value: Any, message: str) -> None:
    item = service.bundle.item_ids[0]
    headers = {"content-type": "application/json"}
    answer = service.client.patch(
        f"{PATH}/{item}", content=json.dumps({field: value}), headers=headers
    )
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    batch = json.dumps({"items": [{"item_id": item, field: value}]})
    result = service.client.patch(PATH, content=batch, headers=headers).json()["results"][0]
    assert result["outcome"] == "refused" and message in result["error"]["message"]
    assert result["error"]["param"].startswith(f"items[0].{field}")
    assert service.recommender.bundle.revision == 0


def test_a_locked_store_changes_nothing(service: LiveService, tmp_path: Path) -> None:
    before = listed(service, n=120)
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = service.client.put(f"{PATH}/new-1", json={"title": "A lamp"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_store")
    other.close()
    assert listed(service, n=120) == before
    assert service.client.put(f"{PATH}/new-1", json={"title": "A lamp"}).status_code == 201
    assert service.recommender.bundle.item_ids[120:] == ["new-1"]


def test_it_takes_a_key_of_the_catalogue(service: LiveService) -> None:
    with service.store.write() as connection:
        made = {scope: keys.create(connection, scope, [scope])[1] for scope in keys.SCOPES}
    time.sleep(FRESH_SECONDS + 0.1)  # the service notices within a second
    found = {}
    for scope, text in made.items():
        answer = service.client.put(
            f"{PATH}/new-1", json={"title": scope}, headers={"Authorization": f"Bearer {text}"}
        )
        found[scope] = answer.status_code
    assert found == {"read": 403, "events": 403, "catalogue": 201, "admin": 200}


def test_with_a_click_model_and_until_no_id_is_left(shop: RandomShop, tmp_path: Path) -> None:
    with live_service(shop.bundle, tmp_path / "store.sqlite") as service:
        row = {"title": "A lamp", "price": 20.0, "categories": ["Category 2"]}
        answer = service.client.put(f"{PATH}/new-1", json=row)
        assert answer.status_code == 201
        history = [{"item_id": one["item_id"]} for one in shop.history(3)]
        found = service.recommend(history=history, n=61, candidates=["new-1", "item-5"])
        assert {one["item_id"] for one in found["recommendations"]} == {"new-1", "item-5"}
        assert all(0 < one["p_click"] < 1 for one in found["recommendations"])
        model: Any = service.recommender.click_model
        assert model.item_features.n_items == 61
        assert model.item_features.category[60] == 2
        cold = service.recommend(n=60)["recommendations"]
        assert "cold_start" in next(one for one in cold if one["item_id"] == "new-1")["sources"]
        service.client.patch(f"{PATH}/item-5", json={"price": 1.0, "categories": ["Category 7"]})
        changed = service.recommender.click_model.item_features  # type: ignore[union-attr]
        assert (changed.price[5], changed.category[5]) == (1.0, 7)
        more = [{"item_id": f"new-{number}", "title": "Hat"} for number in range(2, 6)]
        results = service.client.put(PATH, json={"items": more}).json()["results"]
        assert [one["status"] for one in results] == [201, 201, 201, 409]
        assert "train again" in results[3]["error"]["message"]
    with live_service(shop.bundle, tmp_path / "store.sqlite") as service:
        assert service.recommender.bundle.item_ids[60:] == ["new-1", "new-2", "new-3", "new-4"]


def test_no_path_of_this_machine_is_told() -> None:
    row = {"item_id": "a", "attributes": ["colour=red"], "image": "/srv/shop/a.jpg"}
    shown = as_json(row | {"video": "https://shop.example/a.mp4", "audio": None})
    assert (shown["image"], shown["audio"]) == ("bundle:image", None)
    assert shown["video"] == "https://shop.example/a.mp4"
    assert shown["attributes"] == {"colour": "red"}


def test_what_is_read_can_be_written_back(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a picture is a file of the bundle, and after the item was gone for a while."""
    read_rows = BundleRows.read

    def with_pictures(rows: BundleRows, items: Any) -> dict[int, Any]:
        found = read_rows(rows, items)
        return {at: row | {"image": f"pictures/{at}.jpg"} for at, row in found.items()}

    monkeypatch.setattr(BundleRows, "read", with_pictures)
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as service:
        item, other = service.bundle.item_ids[5:7]
        read, place = row_of(service, item), f"{PATH}/{item}"
        assert read["image"] == "bundle:image"
        assert service.client.put(place, json=read).json()["outcome"] == "unchanged"
        assert service.client.patch(place, json={"price": 9.0}).json()["outcome"] == "changed"
        assert service.client.put(place, json=read | {"price": 9.0}).json()["outcome"] == (
            "unchanged"
        )
        service.client.put(place, json=read | {"image": None})
        assert row_of(service, item)["image"] is None
        service.client.delete(place)
        batch = {"items": [read | {"item_id": item}, read | {"item_id": "new-1"}]}
        back, new = service.client.put(PATH, json=batch).json()["results"]
        assert back["outcome"] == "created" and row_of(service, item) == read
        assert new["error"]["param"] == "items[1].image"
        refused = service.client.put(f"{PATH}/{other}", json={"image": "bundle:video"})
        assert refused.status_code == 400
