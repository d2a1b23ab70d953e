"""Carts: what somebody thinks of buying, priced as the catalogue is now."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

from llmrec.serving.store import carts as stored
from llmrec.serving.store.database import Store
from llmrec.serving.ucp.catalog import Rows
from llmrec.serving.ucp.products import Money, availability, is_sold
from llmrec.serving.ucp.protocol import CART, Json, envelope, error, failure, warning

DAY = 86400.0
KEPT = 7 * DAY  # after a cart was changed last
MOST_LINES = 100
_ESTIMATE = "Estimated total, before delivery and taxes"


class Carts:
    """The cart operations, over a store that several services may share.

    Args:
        store: keeps the carts.
        rows: the catalogue, as it is now.
        money: of its prices.
    """

    def __init__(self, store: Store, rows: Rows, money: Money) -> None:
        self._store, self._rows, self._money = store, rows, money

    def create(self, cart: Json) -> Json:
        """A new cart; none is made where nothing of it can be bought.

        Raises:
            StoreError: if it cannot be stored.
        """
        return self._put(f"cart-{uuid.uuid4().hex}", cart)

    def get(self, cart_id: str) -> Json:
        """A cart with the prices and the stock of now."""
        found = self._find(cart_id)
        if found is None:
            return _not_found()
        lines, messages = self._lines(found["line_items"])
        return self._shown(cart_id, found, lines, messages)

    def update(self, cart_id: str, cart: Json) -> Json:
        """A cart with other lines in place of all that it had.

        Raises:
            StoreError: if it cannot be stored; the cart stays as it was.
        """
        return _not_found() if self._find(cart_id) is None else self._put(cart_id, cart)

    def cancel(self, cart_id: str) -> Json:
        """Remove a cart; as it was.

        Raises:
            StoreError: if it cannot be removed.
        """
        found = self.get(cart_id)
        with self._store.write() as connection:
            stored.remove(connection, cart_id)
        found.pop("expires_at", None)
        return found

    def _find(self, cart_id: str) -> Json | None:
        with self._store.read() as connection:
            return stored.find(connection, cart_id, time.time())

    def _put(self, cart_id: str, cart: Json) -> Json:
        lines, messages = self._lines(cart["line_items"])
        if not lines and messages:
            return failure(CART, *messages)
        until = time.time() + KEPT
        kept = {"line_items": [_asked(line) for line in lines], "expires_at": until}
        if "context" in cart:  # of the buyer nothing is kept that says who it is
            kept["context"] = cart["context"]
        with self._store.write() as connection:
            stored.put(connection, cart_id, kept, until)
            stored.remove_expired(connection, time.time())
        return self._shown(cart_id, kept, lines, messages)

    def _lines(self, asked: list[Json]) -> tuple[list[Json], list[Json]]:
        """The lines that can be bought, and what is wrong with the others."""
        rows = self._rows([line["item"]["id"] for line in asked])
        lines: list[Json] = []
        messages: list[Json] = []
        for number, line in enumerate(asked):
            item_id, path = line["item"]["id"], f"$.line_items[{number}]"
            row = rows.get(item_id)
            if row is None or not is_sold(row):
                content = f"There is no product {item_id!r}; it is left out"
                messages.append(error("not_found", content, "recoverable", path))
            elif not availability(row)["available"]:
                content = f"{row['title'] or item_id} is sold out; it is left out"
                messages.append(error("out_of_stock", content, "recoverable", path))
            else:
                lines.append(self._line(line, row, len(lines) + 1))
        return lines, messages

    def _line(self, asked: Json, row: Json, number: int) -> Json:
        price, quantity = self._money.minor(row["price"]), asked["quantity"]
        item = {"id": row["item_id"], "title": row["title"] or row["item_id"], "price": price}
        line_id = asked.get("id") or f"line-{number}"
        total = _totals(price * quantity)
        return {"id": line_id, "item": item, "quantity": quantity, "totals": total}

    def _shown(self, cart_id: str, kept: Json, lines: list[Json], messages: list[Json]) -> Json:
        total = sum(line["totals"][-1]["amount"] for line in lines)
        cart: Json = {
            "ucp": envelope(CART),
            "id": cart_id,
            "line_items": lines,
            "currency": self._money.currency,
            "totals": _totals(total, display_text=_ESTIMATE),
            "expires_at": datetime.fromtimestamp(kept["expires_at"], UTC).isoformat(),
        }
        if "context" in kept:
            cart["context"] = kept["context"]
        if messages:
            cart["messages"] = [*messages, warning("cart_changed", "Not all lines are in the cart")]
        return cart


def _totals(amount: int, **of_total: Any) -> list[Json]:
    total: Json = {"type": "total", "amount": amount}
    return [{"type": "subtotal", "amount": amount}, total | of_total]


def _asked(line: Json) -> Json:
    item = {"id": line["item"]["id"]}
    return {"id": line["id"], "item": item, "quantity": line["quantity"]}


def _not_found() -> Json:
    return failure(CART, error("not_found", "There is no such cart, or it has expired"))
