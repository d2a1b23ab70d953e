"""``/v1/catalog/items``: the shop's catalogue as it changes, in force at the next request.

A batch answers each item for itself: one that is wrong is refused by its field, the others are
taken in. The same sent again changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmrec.data.source import MEDIA_FIELDS
from llmrec.data.values import to_pairs
from llmrec.errors import ConfigError, LlmrecError
from llmrec.serving.catalogue import live
from llmrec.serving.catalogue.live import ItemChange, LiveCatalogue
from llmrec.serving.catalogue.rows import own_file
from llmrec.serving.limits import MAX_FIELDS, MAX_NAME, MAX_TEXT, MAX_VALUE, check_nesting
from llmrec.serving.one_line import one_line
from llmrec.serving.request import check_text, seconds

Json = dict[str, Any]
MAX_ITEMS = 1000  # of a batch
_ONE_LINE = ("title", "brand", "domain")
_REFUSED = "refused"
# What each outcome is for one item: HTTP's status, and why it is an error
_STATUS = {
    live.CREATED: 201,
    live.CHANGED: 200,
    live.UNCHANGED: 200,
    live.REMOVED: 200,
    live.NOT_FOUND: 404,
    live.NO_ID: 409,
    _REFUSED: 422,
}
_PROBLEMS = {
    live.NOT_FOUND: "item_id: {!r} is not in the catalogue",
    live.NO_ID: (
        "item_id: no item ID is left for {!r}; train again with the items that have come, which "
        "makes room for more"
    ),
}
Text = Annotated[str, Field(max_length=MAX_VALUE)]


_ONE: dict[int | str, Json] = {
    201: {"description": "The item is new."},
    404: {"description": "There is no such item."},
    409: {"description": "No item ID is left for a new item."},
}
_THERE: dict[int | str, Json] = {404: _ONE[404]}
_BATCH: dict[int | str, Json] = {422: {"description": "None could be taken in."}}


class UnknownItemError(LlmrecError):
    """An item is not in the catalogue."""


class ItemBody(BaseModel):
    """What a shop says of an item. Of ``PUT`` it is all there is to say; ``PATCH`` changes what it
    names. null takes a value out."""

    model_config = ConfigDict(extra="forbid")

    title: Text | None = None
    description: str | None = Field(None, max_length=MAX_TEXT)
    brand: Text | None = None
    categories: list[Text] | None = Field(
        None, max_length=MAX_FIELDS, description="the path, from the widest to the narrowest"
    )
    price: float | None = Field(None, ge=0)
    attributes: dict[str, Any] | None = Field(
        None, max_length=MAX_FIELDS, description="names and values, or lists of values"
    )
    image: Text | None = Field(
        None, description="http or https address; bundle:image is the file that the bundle names"
    )
    video: Text | None = Field(None, description="likewise")
    audio: Text | None = Field(None, description="likewise")
    in_stock: bool | None = None
    domain: Text | None = Field(None, description="shop or department")
    available_from: float | str | None = Field(
        None, description="seconds since 1970 UTC, or ISO 8601; of a new item the present"
    )

    def fields(self) -> Json:
        """The given fields as a row of a catalogue has them.

        Raises:
            ConfigError: beginning with the field that is wrong.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set - {"item_id"}}
        for name, value in given.items():
            check_text(name, value)
        for name in _ONE_LINE:
            if given.get(name) is not None:
                given[name] = one_line(given[name])
        if given.get("categories") is not None:
            lines = [one_line(text) for text in given["categories"]]
            given["categories"] = list(dict.fromkeys(filter(None, lines)))
        if given.get("attributes") is not None:
            given["attributes"] = _pairs(given["attributes"])
        if given.get("price") is not None and not math.isfinite(given["price"]):
            raise ConfigError(f"price: {given['price']} is no price")
        for name in MEDIA_FIELDS:
            if given.get(name) != own_file(name):
                _check_address(name, given.get(name))
        if given.get("available_from") is not None:
            given["available_from"] = seconds("available_from", given["available_from"])
            if not math.isfinite(given["available_from"]):
                raise ConfigError("available_from: is no time")
        return given


class BatchItem(ItemBody):
    """An item of a batch."""

    item_id: str = Field(min_length=1, max_length=MAX_NAME)


class ItemsBody(BaseModel):
    """Body of ``PUT`` and ``PATCH /v1/catalog/items``."""

    model_config = ConfigDict(extra="forbid")

    items: list[Any] = Field(
        min_length=1,
        max_length=MAX_ITEMS,
        description="item_id and the fields of one item each",
        json_schema_extra={"items": BatchItem.model_json_schema()},
    )


class ItemIdsBody(BaseModel):
    """Body of ``DELETE /v1/catalog/items``."""

    model_config = ConfigDict(extra="forbid")

    item_ids: list[Annotated[str, Field(min_length=1, max_length=MAX_NAME)]] = Field(
        min_length=1, max_length=MAX_ITEMS
    )


def catalogue_router(catalogue: LiveCatalogue, head: Callable[[], Json]) -> APIRouter:
    """The routes.

    Args:
        catalogue: takes the changes.
        head: model and version of the catalogue, of every answer.
    """
    router = APIRouter(prefix="/v1/catalog")

    @router.get("/items/{item_id:path}", responses=_THERE)
    def item(item_id: str) -> JSONResponse:
        row = catalogue.row(_checked(item_id))
        if row is None:
            raise UnknownItemError(_PROBLEMS[live.NOT_FOUND].format(item_id))
        return JSONResponse(head() | as_json(row))

    @router.put("/items", responses=_BATCH)
    def put_items(body: ItemsBody) -> JSONResponse:
        return answer_batch(body.items, whole=True)

    @router.patch("/items", responses=_BATCH)
    def patch_items(body: ItemsBody) -> JSONResponse:
        return answer_batch(body.items, whole=False)

    @router.delete("/items", responses=_BATCH)
    def delete_items(body: ItemIdsBody) -> JSONResponse:
        found = catalogue.change([ItemChange(_checked(one), None) for one in body.item_ids])
        pairs = zip(body.item_ids, found, strict=True)
        return batch_answer([_result(item_id, outcome) for item_id, outcome in pairs])

    @router.put("/items/{item_id:path}", responses=_ONE)
    def put_item(item_id: str, body: ItemBody) -> JSONResponse:
        return answer(catalogue.checked(ItemChange(_checked(item_id), body.fields())))

    @router.patch("/items/{item_id:path}", responses=_THERE)
    def patch_item(item_id: str, body: ItemBody) -> JSONResponse:
        change = ItemChange(_checked(item_id), body.fields(), whole=False)
        return answer(catalogue.checked(change))

    @router.delete("/items/{item_id:path}", responses=_THERE)
    def delete_item(item_id: str) -> JSONResponse:
        return answer(ItemChange(_checked(item_id), None))

    def answer(change: ItemChange) -> JSONResponse:
        (outcome,) = catalogue.change([change])
        result = _result(change.item_id, outcome)
        return JSONResponse(head() | result, result.pop("status"))

    def answer_batch(bodies: Sequence[Any], whole: bool) -> JSONResponse:
        return batch_answer(take(catalogue, bodies, whole))

    def batch_answer(results: list[Json]) -> JSONResponse:
        found = [result["outcome"] for result in results]
        counts = {outcome: found.count(outcome) for outcome in _STATUS}
        wrong = all(result["status"] >= 400 for result in results)
        return JSONResponse(head() | counts | {"results": results}, 422 if wrong else 200)

    return router


def take(catalogue: LiveCatalogue, bodies: Sequence[Any], whole: bool) -> list[Json]:
    """Take in what can be taken of a batch; a result for each item.

    Raises:
        StoreError: if the store cannot be written; nothing was changed.
    """
    results: list[Json] = [{} for _ in bodies]
    good: dict[int, ItemChange] = {}
    for row, body in enumerate(bodies):
        try:
            check_nesting(body)
            item = BatchItem.model_validate(body)
            change = ItemChange(_checked(item.item_id), item.fields(), whole)
            good[row] = catalogue.checked(change)
        except (ConfigError, ValidationError) as error:
            results[row] = _refused(row, body, error)
    found = catalogue.change(list(good.values())) if good else []
    for (row, change), outcome in zip(good.items(), found, strict=True):
        results[row] = _result(change.item_id, outcome, f"items[{row}].")
    return results


def as_json(row: Json) -> Json:
    """A row of the catalogue as ``PUT`` takes it; the path of a file on this machine is not told,
    but that there is one."""
    pairs = (text.partition("=") for text in row["attributes"])
    addresses = {name: _address(name, row.get(name)) for name in MEDIA_FIELDS}
    return row | addresses | {"attributes": {name: value for name, _, value in pairs}}


def _address(name: str, media: str | None) -> str | None:
    if not media:
        return None
    return media if media.startswith(("http://", "https://")) else own_file(name)


def _checked(item_id: str) -> str:
    """An identifier that can be stored.

    Raises:
        ConfigError: if it cannot.
    """
    check_text("item_id", item_id)
    if not 0 < len(item_id) <= MAX_NAME or item_id != one_line(item_id):
        raise ConfigError(f"item_id: is one line of 1 to {MAX_NAME} characters")
    return item_id


def _pairs(attributes: Json) -> list[str]:
    for name, value in attributes.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > MAX_FIELDS or not all(
            isinstance(one, str | int | float | None) and len(str(one)) <= MAX_VALUE
            for one in values
        ):
            raise ConfigError(
                f"attributes.{name[:MAX_NAME]}: is neither a short text or number, nor a list of "
                f"at most {MAX_FIELDS}"
            )
    return [one_line(pair) for pair in to_pairs(attributes, ",")]


def _check_address(name: str, value: str | None) -> None:
    if value is None:
        return
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or value != one_line(value):
        raise ConfigError(f"{name}: is no http or https address")


def _result(item_id: str | None, outcome: str, place: str = "") -> Json:
    result: Json = {"item_id": item_id, "status": _STATUS[outcome], "outcome": outcome}
    if outcome in _PROBLEMS:
        message = _PROBLEMS[outcome].format(item_id)
        result["error"] = {"message": message, "param": f"{place}item_id", "code": outcome}
    return result


def _refused(row: int, body: Any, error: Exception) -> Json:
    message, place = str(error), f"items[{row}]"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        message = f"{field or 'item'}: {first['msg']}"
    else:
        field = message.partition(":")[0]
    item_id = body.get("item_id") if isinstance(body, dict) else None
    try:
        item_id = _checked(item_id) if isinstance(item_id, str) else None
    except ConfigError:
        item_id = None
    result = _result(item_id, _REFUSED)
    param = f"{place}.{field}" if field else place
    return result | {"error": {"message": message[:MAX_VALUE], "param": param, "code": None}}
