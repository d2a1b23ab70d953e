"""The tiny shop's operations, with a store of their own; some items sold out or without a price."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ucp_schemas import ucp

from llmrec.serving.answering import Answered, Answering
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.store.database import Store
from llmrec.serving.ucp.carts import Carts
from llmrec.serving.ucp.catalog import Catalog
from llmrec.serving.ucp.products import Money
from llmrec.serving.ucp.service import answered
from llmrec.serving.ucp.tools import Tools, meta

__all__ = ["ucp"]

Json = dict[str, Any]
ABOUT = {"meta": meta("https://agent.example/profile.json")}


class Shop:
    """Its operations and its rows, which a test may change."""

    def __init__(self, bundle: Bundle, store: Store) -> None:
        table = pq.read_table(bundle.folder / "items.parquet")
        self.rows: dict[str, Json] = {row["item_id"]: row for row in table.to_pylist()}
        self.sold_out, self.unpriced = bundle.item_ids[1], bundle.item_ids[2]
        self.rows[self.sold_out]["in_stock"] = False
        self.rows[self.unpriced]["price"] = None
        self.ids = [
            i for i in bundle.item_ids if self.rows[i]["in_stock"] and self.rows[i]["price"]
        ]
        money = Money("EUR")
        recommender = Recommender(bundle)
        answering = Answering(recommender, None, "")

        def answer(request: RecommendRequest) -> Answered:
            return answered(answering, bundle.model_name, request)

        catalog = Catalog(recommender, answer, self.find, money)
        self.tools = Tools(catalog, Carts(store, self.find, money), store)

    def find(self, item_ids: Any) -> dict[str, Json]:
        return {one: self.rows[one] for one in item_ids if one in self.rows}

    def call(self, name: str, **arguments: Any) -> Json:
        return self.tools.call(name, ABOUT | arguments)


@pytest.fixture
def shop_(atomic: Bundle, tmp_path: Path) -> Iterator[Shop]:
    with Store(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        yield Shop(atomic, store)
