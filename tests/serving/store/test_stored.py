"""What each table keeps, in each database that is served."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_shop import TinyRun

from llmrec.errors import ConfigError
from llmrec.serving.bundle import Bundle
from llmrec.serving.live import LiveHistories
from llmrec.serving.statistics import StoreStatistics
from llmrec.serving.store import catalogue, events, experiments, keys, people, recommendations
from llmrec.serving.store.catalogue import StoredItem
from llmrec.serving.store.database import Store
from llmrec.serving.store.events import StoredEvent
from llmrec.serving.store.experiments import StoredExperiment
from llmrec.serving.store.people import Profile
from llmrec.serving.store.recommendations import ShownList
from llmrec.types import Recommendation

ITEMS = [Recommendation("i1", "one", 1, 0.5), Recommendation("i2", "two", 2, 0.25, p_click=0.1)]


def an_event(number: int, user: str = "anna", kind: str = "click", item: str = "i1") -> StoredEvent:
    return StoredEvent(f"e{number}", user, kind, 100.0 + number, item, context={"device": "ü"})


def test_events(store: Store) -> None:
    with store.write() as connection:
        some = [an_event(3), an_event(1), an_event(2, "ben"), an_event(4, kind="search")]
        assert events.add(connection, some) == {"e1", "e2", "e3", "e4"}
        assert events.add(connection, [an_event(3), an_event(5)]) == {"e5"}
        assert events.add(connection, []) == set()
    with store.read() as connection:
        assert events.counts(connection, "anna") == {"click": 3, "search": 1}
        by_user = {
            user: [row.timestamp for row in rows] for user, rows in events.of_users(connection)
        }
        assert by_user == {"anna": [101, 103, 105], "ben": [102]}
        assert events.users_before(connection, 102.0) == ["anna"]
    with store.write() as connection:
        assert events.remove_before(connection, 103.0) == 2
        assert events.remove(connection, "anna") == 3


def test_items_of_the_catalogue(store: Store) -> None:
    lamp = StoredItem("lamp", 1, {"title": "Lamp", "price": None}, number=2, codes=[3, 4])
    hat = StoredItem("hat", 1, {"title": "Hät"}, number=1, codes=[1, 2], ids_of="m")
    known = StoredItem("i1", 2, {"price": 3.5}, removed=True)
    with store.write() as connection:
        assert catalogue.revision(connection) == 0
        catalogue.lock(connection)
        catalogue.put(connection, [lamp, hat])
        catalogue.put(connection, [])
        catalogue.put(connection, [known, StoredItem("hat", 2, {"title": "Hat"}, number=1)])
    with store.read() as connection:
        assert catalogue.revision(connection) == 2
        newer = StoredItem("hat", 2, {"title": "Hat"}, number=1)
        assert catalogue.since(connection, 0) == [known, newer, lamp]
        assert catalogue.since(connection, 1) == [known, newer]
        assert catalogue.since(connection, 2) == []


def test_what_people_choose_and_buy_together(store: Store) -> None:
    hour = 3600.0
    rows = [
        ("anna", "purchase", "i1", 10.2), ("anna", "purchase", "i2", 11.2),
        ("anna", "purchase", "i3", 40.2), ("anna", "view", "i4", 10.2),
        ("ben", "purchase", "i1", 12.2), ("ben", "purchase", "i2", 12.3),
        ("ben", "view", "i1", 12.25),
        ("cem", "purchase", "i2", 12.2), ("cem", "return", "i2", 13.2),
    ]  # fmt: skip
    some = [
        StoredEvent(f"e{number}", user, kind, at * hour, item)
        for number, (user, kind, item, at) in enumerate(rows)
    ]
    with store.write() as connection:
        events.add(connection, some)
    statistics = StoreStatistics(store)
    assert statistics.bought_with(["i1"]) == {"i2": 2}
    assert statistics.bought_with(["i1", "i2"]) == {}
    assert statistics.bought_with(["i3"]) == {}
    now = 41 * hour
    found = statistics.trends(now)
    # a person counts once an hour, and a return is no choice
    assert {item: one.count for item, one in found.items()} == {"i1": 2, "i2": 3, "i3": 1, "i4": 1}
    assert found["i3"].weight > found["i4"].weight == pytest.approx(0.5 ** (31 / 48), rel=0.02)
    assert set(statistics.trends(12 * hour)) == {"i1", "i2", "i4"}, "what came later is left out"
    assert statistics.trends(now).keys() == found.keys()


def test_people(store: Store) -> None:
    with store.write() as connection:
        assert people.profile(connection, "anna") is None
        people.put(connection, "anna", Profile({"size": "M"}))
        people.put(connection, "anna", Profile({"size": "L", "age": 3}, "gold"))
        people.forget(connection, "hash")
        people.forget(connection, "hash")
    with store.read() as connection:
        said = people.profile(connection, "anna")
        assert said == Profile({"size": "L", "age": 3}, "gold")
        assert said.attributes() == {"size": "L", "age": "3", "membership": "gold"}
        assert people.forgotten(connection) == {"hash"}
    with store.write() as connection:
        assert (people.remove(connection, "anna"), people.remove(connection, "anna")) == (1, 0)


def test_recommendations(store: Store) -> None:
    def shown(number: int, user: str | None, items: list[Recommendation]) -> ShownList:
        return ShownList(f"r{number}", user, float(number), "m", "v", "c", items)

    with store.write() as connection:
        recommendations.add(connection, [shown(1, "anna", ITEMS), shown(2, "anna", [])])
        recommendations.add(connection, [shown(3, None, ITEMS), shown(4, "ben", ITEMS)])
        recommendations.add(connection, [])
        assert recommendations.count(connection, "anna") == 2
        assert recommendations.remove(connection, "anna") == 2
        assert recommendations.remove_before(connection, 4.0) == 1
    with store.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM recommended_items ORDER BY rank").all()
        assert [tuple(row) for row in rows] == [
            ("r4", 1, "i1", 0.5, None),
            ("r4", 2, "i2", 0.25, 0.1),
        ]


def test_keys(store: Store) -> None:
    with store.write() as connection:
        key, text = keys.create(connection, "shop", ["read", "events", "read"])
        _, other = keys.create(connection, "other", ["admin"])
        with pytest.raises(ConfigError, match="'write' is no scope"):
            keys.create(connection, "shop", ["read", "write"])
        with pytest.raises(ConfigError, match="at least one"):
            keys.create(connection, "shop", [])
    with store.read() as connection:
        first, second = keys.every(connection)
    assert (first, key.scopes) == (key, ("read", "events"))
    by_id = {one.key_id: one for one in (first, second)}
    assert keys.find(by_id, text) == first
    assert keys.find(by_id, other) == second
    assert (first.may("events"), first.may("admin"), second.may("read")) == (True, False, True)
    secret = text.split("_", 2)[2]
    assert keys.find(by_id, f"llmrec_{second.key_id}_{secret}") is None
    with store.write() as connection:
        assert keys.revoke(connection, key.key_id)
        assert not keys.revoke(connection, key.key_id)
        revoked, _ = keys.every(connection)
    assert not revoked.may("read")


def test_live_histories(store: Store, tiny_run: TinyRun) -> None:
    bundle = Bundle(tiny_run.bundle("atomic"), verify=False)
    items = bundle.item_ids
    graph = bundle.prior.scorer.graph  # type: ignore[union-attr]
    fresh = graph.matrix().toarray()
    live = LiveHistories(store, bundle)
    sent = [an_event(row, f"u{row % 3}", item=items[row]) for row in range(12)]
    assert live.record(sent) == [True] * 12
    assert live.record([*sent[:2], an_event(99, item=items[0])]) == [False, False, True]
    counted = graph.matrix().toarray()
    again = Bundle(tiny_run.bundle("atomic"), verify=False)
    LiveHistories(store, again)
    assert (again.prior.scorer.graph.matrix().toarray() == counted).all()  # type: ignore[union-attr]
    history = live.history("u1")
    assert history is not None
    assert [one["item_id"] for one in history] == items[1:12:3]  # type: ignore[index]
    for user in ("u0", "u1", "u2", "anna"):
        assert live.forget(user)["events"] > 0
    assert (graph.matrix().toarray() == fresh).all()
    assert (counted != fresh).any()


def test_a_path_with_blanks(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    Store(f"sqlite:///{folder / 'a store.sqlite'}").close()
    assert (folder / "a store.sqlite").is_file()


def test_experiments_keep_the_order_of_their_variants(store: Store) -> None:
    definition = {"variants": {"z": {"share": 0.5}, "a": {"share": 0.5}}}
    summer = StoredExperiment("summer", definition, 2.0)
    with store.write() as connection:
        experiments.lock(connection)
        experiments.put(connection, summer)
        experiments.put(connection, StoredExperiment("older", {}, 1.0))
    with store.write() as connection:
        found = experiments.every(connection)
        assert list(found) == ["older", "summer"]
        assert list(found["summer"].definition["variants"]) == ["z", "a"]
        experiments.put(connection, replace(summer, ended=3.0))
    with store.read() as connection:
        assert experiments.every(connection)["summer"] == replace(summer, ended=3.0)
