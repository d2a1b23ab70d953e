"""``POST /v1/recommendations``: a list for a person, with click probabilities where there are any.

    {"events": [{"item_id": "item-3", "type": "view", "timestamp": 1700000000}],
     "context": {"device": "mobile"}, "n": 5}

With a click model in the bundle the cascade answers: every item carries ``p_click``, the sources
that proposed it and a reason. Without one the language model alone does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from llmrec.errors import ConfigError
from llmrec.serving.bundle import Bundle
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import Question

NO_CLICK_MODEL = "the bundle holds no click model: no click probabilities, and no context is read"


class PastEvent(BaseModel):
    """One thing that the person did."""

    model_config = ConfigDict(extra="forbid")

    item_id: str
    type: str | None = Field(None, description="view, click, cart, purchase, rating, ...")
    timestamp: float | None = Field(None, description="seconds since 1970 UTC")
    rating: float | None = None


class ListRequest(BaseModel):
    """Who asks, and what may be recommended."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = Field(None, description="whose history to take, where the service knows it")
    history: list[str] | None = Field(None, description="item ids, oldest first")
    events: list[PastEvent] | None = Field(None, description="a history with types and times")
    context: dict[str, str | int | float | None] = Field(
        default_factory=dict, description="of the moment: device, place, ..."
    )
    now: float | None = Field(None, description="time of the request, seconds since 1970 UTC")
    n: int = Field(10, ge=1, le=100, strict=True, description="items wanted")
    exclude: list[str] = Field(default_factory=list, description="item ids not to recommend")
    allow: list[str] | None = Field(None, description="item ids that alone may be recommended")
    where: dict[str, Any] | None = Field(None, description="what items must be like")
    rerank: dict[str, Any] | None = Field(None, description="diversity, per_category, ...")

    def past(self) -> list[str | dict[str, Any]] | None:
        """The history, as item ids or as events; None where none is given.

        Raises:
            ConfigError: if both are given.
        """
        if self.history is not None and self.events is not None:
            raise ConfigError("events: give either these or history, not both")
        if self.events is not None:
            return [event.model_dump(exclude_none=True) for event in self.events]
        return None if self.history is None else list(self.history)


def add_recommendations(app: FastAPI, bundle: Bundle, recommender: Recommender | None) -> None:
    """Add the route to a service.

    Args:
        recommender: over the bundle; None where that has no click model.
    """

    # Not async: FastAPI runs it in a pool of threads, so requests are answered side by side.
    @app.post("/v1/recommendations")
    def recommendations(request: ListRequest) -> dict[str, Any]:
        head = {"model": bundle.model_name, "catalog_version": bundle.catalog_version}
        if recommender is None:
            return head | _by_language_model(bundle, request)
        shown = recommender.recommend(
            request.user,
            request.past(),
            request.n,
            request.context,
            request.where,
            exclude=request.exclude,
            allow=request.allow,
            rerank=request.rerank,
            now=request.now,
        )
        found = [one.as_dict() for one in shown.recommendations]
        return head | {
            "recommendations": found, "notes": shown.notes, "timings_ms": shown.timings
        }  # fmt: skip


def _by_language_model(bundle: Bundle, request: ListRequest) -> dict[str, Any]:
    """The same request, as far as a bundle without a click model can answer it."""
    if request.rerank:
        raise ConfigError("rerank: the bundle holds no click model whose list could be re-ranked")
    past = request.past() or []
    events: list[dict[str, Any]] = [
        {"item_id": one} if isinstance(one, str) else one for one in past
    ]
    times = [float(event.get("timestamp", "nan")) for event in events]
    answer = bundle.answer(
        Question(
            [event["item_id"] for event in events],
            request.n,
            exclude=request.exclude,
            allow=request.allow,
            where=None if request.where is None else CatalogFilter.of_dict(request.where),
            history_times=times if any(time == time for time in times) else None,
            now=request.now,
        )
    )
    told = dataclasses.asdict(answer)
    found = [one.as_dict() for one in answer.recommendations]
    return told | {"recommendations": found, "notes": [*answer.notes, NO_CLICK_MODEL]}
