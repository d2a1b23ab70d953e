"""The operations, each once for whatever it is asked through."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmrec.errors import CatalogError, ConfigError, require
from llmrec.serving.store import carts as stored
from llmrec.serving.store.database import Store
from llmrec.serving.ucp import schemas
from llmrec.serving.ucp.carts import DAY, Carts
from llmrec.serving.ucp.catalog import Catalog
from llmrec.serving.ucp.protocol import IdempotencyConflictError, InvalidRequestError, Json

KEYED = "idempotency-key"


@dataclass(frozen=True)
class Tool:
    """An operation.

    Attributes:
        name: of the tool.
        description: for a language model that chooses among tools.
        schema: JSON Schema of the arguments.
        work: takes the arguments but ``meta``, in the order of the schema.
        writes: whether it changes something.
    """

    name: str
    description: str
    schema: Json
    work: Callable[..., Json]
    writes: bool = False


class Tools:
    """The operations of a shop, by name.

    Args:
        catalog: answers about products.
        carts: keeps carts.
        store: keeps answers to requests that may come again.
    """

    def __init__(self, catalog: Catalog, carts: Carts, store: Store) -> None:
        self._store = store
        self.all = {tool.name: tool for tool in _table(catalog, carts)}
        validator = require("jsonschema", "serve").Draft202012Validator
        self._validators = {name: validator(tool.schema) for name, tool in self.all.items()}

    def call(self, name: str, arguments: Json) -> Json:
        """The answer of a tool; the same for a request that comes again with its key.

        Raises:
            InvalidRequestError: for an unknown tool, and arguments that it cannot take.
            StoreError: if the store cannot be read or written.
        """
        tool = self.all.get(name)
        if tool is None:
            raise InvalidRequestError(f"there is no tool {name!r}; there is {', '.join(self.all)}")
        self._check(name, arguments)
        given = [arguments[key] for key in tool.schema["required"] if key != "meta"]
        key = arguments["meta"].get(KEYED)
        try:
            if key is None or not tool.writes:
                return tool.work(*given)
            return self._once(key, tool, given)
        except (ConfigError, CatalogError) as problem:
            raise InvalidRequestError(str(problem)) from None

    def _check(self, name: str, arguments: Json) -> None:
        error = next(self._validators[name].iter_errors(arguments), None)
        if error is not None:
            place = error.json_path.removeprefix("$").lstrip(".") or "arguments"
            raise InvalidRequestError(f"{place}: {_shortened(error.message)}")

    def _once(self, key: str, tool: Tool, given: list[Any]) -> Json:
        text = json.dumps([tool.name, given], sort_keys=True)
        digest, now = hashlib.sha256(text.encode()).hexdigest(), time.time()
        with self._store.read() as connection:
            known = stored.find_reply(connection, key, now)
        if known is None:
            reply = tool.work(*given)
            with self._store.write() as connection:
                stored.put_reply(connection, key, digest, reply, now + DAY)
            return reply
        if known[0] != digest:
            raise IdempotencyConflictError(f"{KEYED}: was used before, for another request")
        return known[1]


def _table(catalog: Catalog, carts: Carts) -> list[Tool]:
    arguments = schemas.arguments
    return [
        Tool(
            "search_catalog",
            "Find products by words, filters, or both.",
            arguments(catalog=schemas.SEARCH_REQUEST),
            catalog.search,
        ),
        Tool(
            "lookup_catalog",
            "Look up products by their ids, several at once.",
            arguments(catalog=schemas.LOOKUP_REQUEST),
            catalog.lookup,
        ),
        Tool(
            "get_product",
            "All that is known of one product, its price and stock as they are now.",
            arguments(catalog=schemas.PRODUCT_REQUEST),
            catalog.get_product,
        ),
        Tool(
            "llmrec_recommend",
            "Products that this buyer is likely to want now, by what they did before.",
            arguments(catalog=schemas.RECOMMEND_REQUEST),
            catalog.recommend,
        ),
        Tool(
            "create_cart",
            "Begin a cart with some products.",
            arguments(cart=schemas.CART_REQUEST),
            carts.create,
            writes=True,
        ),
        Tool(
            "get_cart",
            "A cart, with the prices and the stock of now.",
            arguments(id=schemas.NAME),
            carts.get,
        ),
        Tool(
            "update_cart",
            "Put other lines in place of all that a cart has.",
            arguments(id=schemas.NAME, cart=schemas.CART_REQUEST),
            carts.update,
            writes=True,
        ),
        Tool(
            "cancel_cart",
            "Remove a cart.",
            arguments(schemas.KEYED_META, id=schemas.NAME),
            carts.cancel,
            writes=True,
        ),
    ]


def _shortened(message: str, most: int = 300) -> str:
    return message if len(message) <= most else message[: most - 1] + "…"


def meta(profile: str, key: str | None = None) -> Json:
    """``meta`` of a request that came another way.

    Args:
        profile: URL of the agent's profile.
        key: of a request that may come again.
    """
    found: dict[str, Any] = {"ucp-agent": {"profile": profile}}
    return found if key is None else found | {KEYED: key}
