"""The operations over an opened bundle: behind ``llmrec serve``, or alone as ``llmrec mcp``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llmrec.data.dataset import Dataset
from llmrec.serving.answering import Answered, Answering, Asked
from llmrec.serving.bundle import Bundle
from llmrec.serving.catalogue.live import LiveCatalogue
from llmrec.serving.history import dataset_attributes, dataset_histories
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.store.database import Store, default_url
from llmrec.serving.ucp.carts import Carts
from llmrec.serving.ucp.catalog import Answer, Catalog, Rows
from llmrec.serving.ucp.products import Money
from llmrec.serving.ucp.tools import Tools


def shop_tools(
    recommender: Recommender, answer: Answer, rows: Rows, store: Store, money: Money
) -> Tools:
    """The operations of a shop; arguments as of :class:`Catalog` and :class:`Carts`."""
    catalog = Catalog(recommender, answer, rows, money)
    return Tools(catalog, Carts(store, rows, money), store)


def answered(answering: Answering, model: str, request: RecommendRequest) -> Answered:
    """The answer of a model to one request.

    Raises:
        CatalogError, ConfigError: see :meth:`Recommender.answer`.
    """
    (found,) = answering([Asked(request, model)])
    if isinstance(found, Exception):
        raise found
    return found


def serve_mcp(
    bundle: Path,
    /,
    dataset: Path | None = None,
    store: str | None = None,
    currency: str = "USD",
    beams: int = 50,
    verify: bool = True,
) -> None:
    """Serve a bundle's catalogue, recommendations and carts to an agent, over stdio.

    Args:
        bundle: folder of llmrec bundle.
        dataset: folder of llmrec ingest whose users a request may name.
        store: URL of the database of events, people and carts; an SQLite file beside the bundle
            where none is named.
        currency: of the catalogue's prices, as ISO 4217 has it.
        beams: beam width for semantic IDs.
        verify: check the sha256 of every file of the bundle first.
    """
    from llmrec.serving.ucp.mcp_server import serve_stdio

    config = ServiceConfig(currency=currency)
    opened = Bundle(bundle, beams=beams, verify=verify)
    known = None if dataset is None else Dataset(dataset)
    histories = None if known is None else dataset_histories(known)
    attributes = None if known is None else dataset_attributes(known)
    with Store(store or default_url(bundle)) as database:
        live = LiveHistories(database, opened, histories, attributes)
        recommender = Recommender.load(
            opened,
            histories=live.history,
            attributes=live.attributes,
            statistics=live.statistics,
        )
        catalogue = LiveCatalogue(database, live, recommender)
        answering = Answering(recommender, live, config.variant)
        tools = shop_tools(
            recommender,
            lambda request: answered(answering, opened.model_name, request),
            catalogue.rows,
            database,
            Money(config.currency),
        )
        asyncio.run(serve_stdio(tools))
