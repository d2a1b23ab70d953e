"""What was shown is kept, so that events can be joined with it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_service import PATIENT, LiveService, an_event, live_service
from tiny_shop import TinyRun

from llmrec.bench.random_shop import RandomShop
from llmrec.serving.settings import ServiceConfig

JOIN = """
SELECT e.user_id, i.rank, i.score, r.variant, e.type
FROM events e JOIN recommended_items i USING (recommendation_id, item_id)
JOIN recommendations r USING (recommendation_id)
"""


@pytest.fixture
def service(tiny_run: TinyRun, tmp_path: Path) -> Iterator[LiveService]:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite", busy_seconds=0.2) as it:
        yield it


def test_events_join_what_was_shown(service: LiveService, tmp_path: Path) -> None:
    shown = service.recommend(user="anna", n=4)
    other = service.recommend(user="anna", n=4)
    assert shown["recommendation_id"] != other["recommendation_id"]
    assert shown["variant"] == "hybrid"
    assert shown["model"] == service.bundle.model_name
    assert shown["catalog_version"] == service.bundle.catalog_version
    third = shown["recommendations"][2]
    came_from = {"recommendation_id": shown["recommendation_id"]}
    service.send(an_event(0, "anna", third["item_id"], **came_from))
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        joined = connection.execute(JOIN).fetchall()
        assert joined == [("anna", 3, pytest.approx(third["score"]), "hybrid", "click")]
        assert connection.execute("SELECT count(*) FROM recommended_items").fetchone() == (8,)
    connection.close()


def test_a_click_model(shop: RandomShop, tmp_path: Path) -> None:
    with live_service(shop.bundle, tmp_path / "store.sqlite") as service:
        assert service.recommend(user="anna")["variant"] == "click_model"
        assert service.recommend(user="anna", calibrated=False)["variant"] == "language_model"
        item = service.bundle.item_ids[0]
        assert service.recommend(similar_to=item)["variant"] == "similar_items"
        with service.store.read() as connection:
            query = "SELECT rank, p_click FROM recommended_items WHERE p_click IS NOT NULL"
            assert len(connection.exec_driver_sql(query).all()) == 20


def test_a_variant_of_an_experiment(tiny_run: TinyRun, tmp_path: Path) -> None:
    path, config = tmp_path / "store.sqlite", ServiceConfig(**PATIENT, variant="b")
    with live_service(tiny_run.bundle("atomic"), path, config) as service:
        assert service.recommend()["variant"] == "b"


def test_a_list_is_shown_when_it_cannot_be_kept(service: LiveService, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    shown = service.recommend(user="anna", n=4)
    other.close()
    assert len(shown["recommendations"]) == 4
    assert shown["recommendation_id"] is None
    assert shown["notes"][-1].startswith("recommendation_id: the store cannot be written")
