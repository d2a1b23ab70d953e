"""What each operation takes, as JSON Schema: what agents are told, and what is checked.

Fields that the protocol has and nothing here reads are let through; what is read has its type.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string", "maxLength": 2000}
NAME: Json = {"type": "string", "minLength": 1, "maxLength": 200}
AMOUNT: Json = {"type": "integer", "minimum": 0, "description": "in minor units of the currency"}
_DOMAIN_NAME = r"^[a-z][a-z0-9]*(?:\.[a-z][a-z0-9_]*)+$"


def _object(required: tuple[str, ...] = (), **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(of: Json, least: int = 1, most: int = 100) -> Json:
    return {"type": "array", "items": of, "minItems": least, "maxItems": most}


CONTEXT = _object(
    intent=TEXT | {"description": "what the buyer is looking for, in words"},
    currency={"type": "string", "pattern": "^[A-Z]{3}$"},
    eligibility=_list({"type": "string", "pattern": _DOMAIN_NAME}, 0),
)
SIGNALS: Json = {
    "type": "object",
    "propertyNames": {"pattern": _DOMAIN_NAME},
    "properties": {"io.github.llmrec.user_id": NAME | {"description": "who the buyer is"}},
}
FILTERS = _object(
    categories=_list(NAME) | {"description": "any of these"},
    price=_object(min=AMOUNT, max=AMOUNT),
    brand=_list(NAME) | {"description": "any of these"},
    available={"type": "boolean", "description": "true: only what is in stock"},
    attributes={
        "type": "object",
        "additionalProperties": _list(NAME),
        "description": "by name, any of these values",
    },
)
PAGINATION = _object(cursor=NAME, limit={"type": "integer", "minimum": 1, "default": 10})
_ASIDE: Json = {"context": CONTEXT, "signals": SIGNALS, "attribution": {"type": "object"}}

SEARCH_REQUEST = _object(query=TEXT, filters=FILTERS, pagination=PAGINATION, **_ASIDE)
LOOKUP_REQUEST = _object(("ids",), ids=_list(NAME, most=10_000), filters=FILTERS, **_ASIDE)
PRODUCT_REQUEST = _object(("id",), id=NAME, filters=FILTERS, **_ASIDE)
RECOMMEND_REQUEST = _object(
    history=_list(NAME, 0, 1000) | {"description": "product ids, oldest first"},
    filters=FILTERS,
    pagination=PAGINATION,
    **_ASIDE,
)
_LINE = _object(
    ("item", "quantity"),
    id=NAME,
    item=_object(("id",), id=NAME),
    quantity={"type": "integer", "minimum": 1, "maximum": 10_000},
)
CART_REQUEST = _object(("line_items",), line_items=_list(_LINE, 0), **_ASIDE)
META = _object(
    ("ucp-agent",),
    **{
        "ucp-agent": _object(("profile",), profile={"type": "string", "maxLength": 2000}),
        "idempotency-key": {"type": "string", "maxLength": 200},
    },
)
KEYED_META = META | {"required": ["ucp-agent", "idempotency-key"]}


def arguments(meta: Json = META, **of_tool: Json) -> Json:
    """The arguments of a tool, all of them needed."""
    return _object(("meta", *of_tool), meta=meta, **of_tool)
