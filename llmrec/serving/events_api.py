"""``POST /v1/events``: what people did, taken in as it happens.

Each event is checked and answered for itself: one that is wrong is refused by its field, the
others are stored. One whose ``event_id`` is known is acknowledged and not stored again, so a
batch may be sent again when its answer was lost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmrec.errors import CatalogError, ConfigError
from llmrec.serving.limits import MAX_EVENTS, MAX_NAME, MAX_TEXT, check_context
from llmrec.serving.live import LiveHistories
from llmrec.serving.request import check_text, seconds
from llmrec.serving.store.events import SEARCH, STORED_TYPES, StoredEvent

Json = dict[str, Any]
DAY = 86400.0
MAX_REVENUE = 1e12
AHEAD = DAY  # a shop's clock may be ahead by so much; its events are taken to be of now
STORED, DUPLICATE, REFUSED = 201, 200, 422
_OUTCOMES = {STORED: "stored", DUPLICATE: "duplicate", REFUSED: "refused"}


class EventBody(BaseModel):
    """One event of a batch."""

    model_config = ConfigDict(extra="forbid")

    event_id: str = Field(min_length=1, max_length=MAX_NAME)
    user_id: str = Field(min_length=1, max_length=MAX_NAME)
    type: str
    item_id: str | None = Field(None, description="of all but a search")
    timestamp: float | str | None = Field(
        None, description="seconds since 1970 UTC, or ISO 8601; the present where there is none"
    )
    rating: float | None = None
    text: str = Field("", max_length=MAX_TEXT, description="of a review, or words of a search")
    session: str = Field("", max_length=MAX_NAME)
    context: dict[str, Any] = Field(default_factory=dict)
    recommendation_id: str | None = Field(
        None, max_length=MAX_NAME, description="of the list that the item was chosen from"
    )
    revenue: float | None = Field(None, description="of a purchase: what was paid")

    def stored(self, now: float, scale: tuple[float, float]) -> StoredEvent:
        """The same, checked.

        Raises:
            ConfigError: beginning with the field that is wrong.
        """
        for name, value in self.model_dump().items():
            check_text(name, value)
        if self.type not in STORED_TYPES:
            raise ConfigError(f"type: {self.type!r} is not one of {', '.join(STORED_TYPES)}")
        if (self.item_id is None) != (self.type == SEARCH):
            problem = "a search has none" if self.item_id else f"a {self.type} needs one"
            raise ConfigError(f"item_id: {problem}")
        low, high = scale
        if self.rating is not None and not low <= self.rating <= high:  # NaN is not
            raise ConfigError(f"rating: {self.rating} is not between {low:g} and {high:g}")
        if self.rating is None and self.type == "rating":
            raise ConfigError("rating: an event of type rating needs one")
        if self.revenue is not None and self.type != "purchase":
            raise ConfigError("revenue: only a purchase has one")
        if self.revenue is not None and not 0 <= self.revenue <= MAX_REVENUE:  # NaN is not
            raise ConfigError(f"revenue: {self.revenue} is not between 0 and {MAX_REVENUE:g}")
        check_context(self.context)
        return StoredEvent(**self.model_dump() | {"timestamp": self._time(now)})

    def _time(self, now: float) -> float:
        if self.timestamp is None:
            return now
        found = seconds("timestamp", self.timestamp)
        if math.isnan(found) or found < 0:
            raise ConfigError(f"timestamp: {found} is no time since 1970")
        if found > now + AHEAD:
            raise ConfigError("timestamp: is more than a day in the future")
        return min(found, now)  # what has not happened yet is no part of a history


class EventsBody(BaseModel):
    """Body of ``/v1/events``."""

    model_config = ConfigDict(extra="forbid")

    events: list[Any] = Field(min_length=1, max_length=MAX_EVENTS)


def events_router(
    live: LiveHistories, head: Callable[[], Json], scale: tuple[float, float], counted: Counter
) -> APIRouter:
    """The route.

    Args:
        live: takes the events.
        head: model and version of the catalogue, of every answer.
        scale: the lowest and the highest rating.
        counted: events by what became of them.
    """
    router = APIRouter()

    @router.post("/v1/events", responses={REFUSED: {"description": "None could be stored."}})
    def events(body: EventsBody) -> JSONResponse:
        results = take(live, body.events, scale)
        found = [result["status"] for result in results]
        counts = {name: found.count(status) for status, name in _OUTCOMES.items()}
        for name, count in counts.items():
            counted.labels(name).inc(count)
        status = REFUSED if counts["refused"] == len(found) else 200
        return JSONResponse(head() | counts | {"results": results}, status)

    return router


def take(live: LiveHistories, bodies: list[Any], scale: tuple[float, float]) -> list[Json]:
    """Store what can be stored of a batch; a result for each event.

    Raises:
        StoreError: if the store cannot be written; nothing was stored.
    """
    now = time.time()
    results: list[Json] = [{} for _ in bodies]
    good: dict[int, StoredEvent] = {}
    for row, body in enumerate(bodies):
        try:
            good[row] = EventBody.model_validate(body).stored(now, scale)
            live.check_item(good[row].item_id)
        except (ConfigError, CatalogError, ValidationError) as error:
            good.pop(row, None)
            results[row] = _refused(row, body, error)
    stored = live.record(list(good.values()))
    for (row, event), is_new in zip(good.items(), stored, strict=True):
        results[row] = _result(event.event_id, STORED if is_new else DUPLICATE)
    return results


def _refused(row: int, body: Any, error: Exception) -> Json:
    place, message = f"events[{row}]", str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        message = f"{field or 'event'}: {first['msg']}"
    else:
        field = message.partition(":")[0]
    event_id = body.get("event_id") if isinstance(body, dict) else None
    event_id = event_id if isinstance(event_id, str) and _is_text(event_id) else None
    error_body = {
        "message": message,
        "param": f"{place}.{field}" if field else place,
        "code": "unknown_item" if isinstance(error, CatalogError) else None,
    }
    return _result(event_id, REFUSED) | {"error": error_body}


def _is_text(value: str) -> bool:
    try:
        check_text("event_id", value)
    except ConfigError:
        return False
    return True


def _result(event_id: str | None, status: int) -> Json:
    return {"event_id": event_id, "status": status, "outcome": _OUTCOMES[status]}
