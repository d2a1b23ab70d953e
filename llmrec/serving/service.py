"""What the routes share: names of models, the queue, what every answer begins with."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from fastapi import Request

from llmrec.errors import ConfigError, LlmrecError
from llmrec.serving import openai_api as api
from llmrec.serving.answering import Answered, Answering, Asked
from llmrec.serving.batching import Batcher
from llmrec.serving.bundle import Bundle
from llmrec.serving.experiments.variants import Variants
from llmrec.serving.live import LiveHistories
from llmrec.serving.metrics import ServiceMetrics
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.side_models import SideModels
from llmrec.types import Histories

Json = dict[str, Any]
ALIASES = ("", "llmrec")  # other names of whatever model is served
DEADLINE = "x-deadline-ms"  # header: when an answer is no longer wanted


class UnknownModelError(LlmrecError):
    """A request names a model that is not served."""


class Service:
    """One bundle that answers over HTTP.

    Args:
        recommender: answers.
        live: the histories that it reads, for a service that takes events.
        config: settings.
        variants: of experiments.

    Attributes:
        cards: entries of ``/v1/models`` by name.
        batcher: where requests wait.
        side: models of texts, pictures and speech.
        metrics: what is counted.
    """

    def __init__(
        self,
        recommender: Recommender,
        live: LiveHistories | None,
        config: ServiceConfig,
        variants: Variants | None = None,
    ) -> None:
        self.recommender, self.live, self.config = recommender, live, config
        self.metrics = ServiceMetrics(self.bundle)
        self.cards = model_cards(self.bundle)
        self.batcher: Batcher[Asked, Answered] = Batcher(
            Answering(recommender, live, config.variant, self.metrics.answered, variants),
            most=config.batch,
            wait_seconds=config.batch_wait_ms / 1000,
            waiting=config.waiting,
            observe=self.metrics.batches.observe,
        )
        self.side = SideModels(recommender, config)
        self.side.open_speech()
        self.metrics.watch_queue(lambda: self.batcher.queued)

    @property
    def bundle(self) -> Bundle:
        """As its catalogue is now."""
        return self.recommender.bundle

    def head(self) -> Json:
        """What answers begin with: name of the model and version of the catalogue."""
        return {
            "model": self.bundle.model_name,
            "catalog_version": self.bundle.catalog_version,
        }

    def model_name(self, name: str) -> str:
        """The name of a model that is served.

        Raises:
            UnknownModelError: if it is not.
        """
        name = self.bundle.model_name if name in ALIASES else name
        if name not in self.cards:
            known = ", ".join(map(repr, self.cards))
            raise UnknownModelError(f"model: {name!r} is not served here; there is {known}")
        return name

    def close(self) -> None:
        """Answer what waits, as far as there is time, and end."""
        self.side.close(self.config.shutdown_seconds)
        self.batcher.close(self.config.shutdown_seconds)

    def seconds(self, http: Request) -> float:
        """Within which a request is to be answered.

        Raises:
            ConfigError: for a header that says nothing.
        """
        return self.config.deadline_within(http.headers.get(DEADLINE))

    async def answer(self, http: Request, body: api.RecommendFields) -> tuple[Json, Answered]:
        """The head of an answer, and what was recommended.

        Raises:
            UnknownModelError, ConfigError, CatalogError: for a request that cannot be answered.
            BusyError, DeadlineError: if it was not answered in time.
        """
        name = self.model_name(body.model)
        adapter = name if name in self.bundle.adapters else None
        request = body.recommend_request(adapter)
        wanted = self.items_wanted(body)
        request = request if request.n == wanted else replace(request, n=wanted)
        head, until = self.head() | {"model": name}, time.monotonic() + self.seconds(http)
        attached = body.attachments
        if attached:
            understand = partial(self.side.understood, request, attached)
            request, transcript = await self.side.run(understand, until - time.monotonic())
            if transcript is not None:
                head = head | {"transcript": transcript}
        asked = Asked(request, name)
        return head, await self.batcher.ask(asked, until - time.monotonic(), http.is_disconnected)

    def answer_from_thread(self, request: RecommendRequest, seconds: float = math.inf) -> Answered:
        """What is recommended by the model itself, from a thread that may wait.

        Args:
            seconds: within which it is wanted, the service's deadline at the latest.

        Raises:
            CatalogError, ConfigError: for a request that cannot be answered.
            BusyError, DeadlineError: if it was not answered in time.
        """
        asked = Asked(request, self.bundle.model_name)
        return self.batcher.ask_from_thread(asked, min(seconds, self.config.deadline_ms / 1000))

    async def log_likelihoods(self, body: api.RecommendFields, items: Sequence[int]) -> list[float]:
        """Of items after the history of a request, as the language model alone has them.

        Raises:
            BusyError, DeadlineError: if they were not worked out in time.
        """
        name = self.model_name(body.model)
        llm = self.bundle.llm_of(name if name in self.bundle.adapters else None)
        index = self.bundle.index
        history = [index[item_id] for item_id in body.history or ()]
        now = body.recommend_request(None).now_in_seconds(math.nan)
        histories = Histories.from_lists([history], now=[now])

        def score() -> list[float]:
            return llm.score_items(histories, np.array([items]))[0].tolist() if items else []

        return await self.batcher.between(score, self.config.deadline_ms / 1000)

    def items_wanted(self, body: api.RecommendFields) -> int:
        """Items that a request asks for, and has the tokens for.

        Raises:
            ConfigError: if that is none.
        """
        if body.token_limit is None:
            return body.n
        levels = self.bundle.llm.ids.levels
        if body.token_limit < levels:
            raise ConfigError(f"max_tokens: an item takes {levels} tokens; allow for one at least")
        return min(body.n, body.token_limit // levels)


def model_cards(bundle: Bundle) -> dict[str, Json]:
    """Entries of ``/v1/models`` by name: the bundle's model, and one for each of its adapters."""
    own = {"object": "model", "owned_by": "llmrec"}
    cards: dict[str, Json] = {bundle.model_name: {"id": bundle.model_name, "created": 0, **own}}
    for name, adapter in bundle.adapters.items():
        cards[name] = {
            "id": name,
            "created": int(datetime.fromisoformat(adapter.created).timestamp()),
            **own,
            "parent": bundle.model_name,
            "version": adapter.version,
            "task": adapter.task,
        }
    return cards
