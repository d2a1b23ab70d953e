"""Opens a bundle as an assistant, in this process."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.serving.answering import Answered, Answering
from llmrec.serving.assistant.loop import Assistant
from llmrec.serving.assistant.protocol import AssistantModel
from llmrec.serving.assistant.remote import RemoteModel
from llmrec.serving.assistant.shop import Shop
from llmrec.serving.assistant.tools import Answer, ShopTools
from llmrec.serving.assistant.wording import Wording
from llmrec.serving.bundle import Bundle
from llmrec.serving.catalogue.live import LiveCatalogue
from llmrec.serving.history import KnownHistories, dataset_attributes, dataset_histories
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.store.database import Store
from llmrec.serving.ucp.carts import Carts
from llmrec.serving.ucp.catalog import Rows
from llmrec.serving.ucp.products import Money
from llmrec.serving.ucp.service import answered

NAME = "assistant"  # what requests call it
OWN, NOBODY = "own", "none"  # the adapter that comes with llmrec; no embedded model
KEY_VARIABLE = "LLMREC_ASSISTANT_KEY"  # of the environment


def shop_assistant(
    recommender: Recommender,
    answer: Answer,
    rows: Rows,
    store: Store,
    currency: str,
    model: AssistantModel,
    *,
    live: LiveHistories | None = None,
    fallback: AssistantModel | None = None,
    policies: Mapping[str, str] | None = None,
    personal: bool = True,
) -> Assistant:
    """An assistant over the parts of a service.

    Args:
        answer: ranks within some seconds, and keeps what is shown.
        rows: the catalogue, as it is now.
        store: of carts.
        model: decides what to do.
        live: takes events; None writes none.
        fallback: goes on where the model fails.
        policies: what the shop says, by topic; those of the bundle for None.
        personal: whether a person's history counts.
    """
    policies = recommender.bundle.policies if policies is None else policies
    shop = Shop(recommender, rows, policies)
    carts = Carts(store, rows, Money(currency))
    tools = ShopTools(recommender, answer, shop, carts, policies, live, personal)
    return Assistant(tools, model, Wording(currency), fallback)


def open_models(
    adapter: str | None = None, url: str | None = None, name: str = ""
) -> list[AssistantModel]:
    """Who talks, and who goes on where that one fails.

    Args:
        adapter: folder of an adapter of the embedded language model, or :data:`OWN`; None or
            :data:`NOBODY` for no embedded one.
        url: of an OpenAI-compatible endpoint; its key is in :data:`KEY_VARIABLE`.
        name: of its model; the first that it lists where it is "".

    Raises:
        ConfigError: for a URL that is none, or where no adapter comes with this installation.
        ArtifactError: if the adapter, or the model that it is of, cannot be used.
    """
    models: list[AssistantModel] = []
    if url is not None:
        models.append(RemoteModel(url, name, os.environ.get(KEY_VARIABLE)))
    if adapter not in (None, NOBODY):
        from llmrec.serving.assistant.mind import SHIPPED, EmbeddedModel

        if adapter == OWN and not SHIPPED.is_dir():
            raise ConfigError(
                "--assistant own: no adapter comes with this installation; make one, as "
                "training/assistant.yaml says, and give its folder"
            )
        models.append(EmbeddedModel.load(SHIPPED if adapter == OWN else Path(str(adapter))))
    return models


def open_assistant(
    bundle: Path | Bundle,
    model: AssistantModel,
    *,
    dataset: Path | None = None,
    histories: KnownHistories | None = None,
    store: str | None = None,
    currency: str = "USD",
    fallback: AssistantModel | None = None,
    personal: bool = True,
    search: Path | None = None,
    verify: bool = True,
) -> Assistant:
    """Open a bundle, and all that an assistant needs of it.

    Args:
        bundle: a folder, or one that is opened.
        model: decides what to do.
        dataset: folder of llmrec ingest whose people it knows.
        histories: of people, in the place of the dataset's.
        store: URL of the database of events, people and carts; None keeps them in a folder that is
            gone when the assistant is.
        currency: of the catalogue's prices.
        fallback: goes on where the model fails.
        personal: whether a person's history counts.
        search: folder of llmrec search index, for pictures.
        verify: check the sha256 of the bundle's files.

    Raises:
        ArtifactError, ConfigError, StoreError: for what cannot be opened.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle(bundle, verify=verify)
    opened.open_text_encoder()
    known = None if dataset is None else Dataset(dataset)
    if histories is None and known is not None:
        histories = dataset_histories(known)
    attributes = None if known is None else dataset_attributes(known)
    folder = None if store is not None else tempfile.TemporaryDirectory(prefix="llmrec-chat-")
    database = Store(store or f"sqlite:///{Path(folder.name) / 'store.sqlite'}")  # type: ignore[union-attr]
    live = LiveHistories(database, opened, histories, attributes)
    recommender = Recommender.load(
        opened,
        histories=live.history,
        attributes=live.attributes,
        statistics=live.statistics,
        search=search,
    )
    rows = LiveCatalogue(database, live, recommender).rows
    answering = Answering(recommender, live, "")

    def answer(request: RecommendRequest, _seconds: float) -> Answered:
        return answered(answering, NAME, request)

    found = shop_assistant(
        recommender, answer, rows, database, currency, model,
        live=live, fallback=fallback, personal=personal,
    )  # fmt: skip
    weakref.finalize(found, _close, database, folder)
    return found


def _close(database: Store, folder: Any) -> None:
    database.close()
    if folder is not None:
        folder.cleanup()
