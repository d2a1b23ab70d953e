"""Carts, held to the protocol's own schema."""

import time
from typing import Any

import pytest
from ucp_schemas import Schemas
from ucp_shop import ABOUT, Shop

from llmrec.serving.ucp import carts
from llmrec.serving.ucp.products import Money
from llmrec.serving.ucp.protocol import IdempotencyConflictError, InvalidRequestError

CART, FAILED = "shopping/cart.json", "shopping/types/error_response.json"
KEY = {"meta": ABOUT["meta"] | {"idempotency-key": "7a9d"}}


def lines(*pairs: tuple[str, int]) -> dict[str, Any]:
    return {"line_items": [{"item": {"id": item}, "quantity": count} for item, count in pairs]}


def total(cart: dict[str, Any]) -> int:
    [amount] = [entry["amount"] for entry in cart["totals"] if entry["type"] == "total"]
    return int(amount)


def test_a_cart_is_made_read_changed_and_cancelled(shop_: Shop, ucp: Schemas) -> None:
    one, other = shop_.ids[:2]
    price = {item: Money("EUR").minor(shop_.rows[item]["price"]) for item in (one, other)}
    made = shop_.call("create_cart", cart=lines((one, 2)))
    ucp.check(made, CART)
    assert total(made) == 2 * price[one]
    assert made["line_items"][0]["item"] == {
        "id": one,
        "title": shop_.rows[one]["title"],
        "price": price[one],
    }
    assert shop_.call("get_cart", id=made["id"])["line_items"] == made["line_items"]
    changed = shop_.call("update_cart", id=made["id"], cart=lines((other, 1), (one, 1)))
    ucp.check(changed, CART)
    assert (changed["id"], total(changed)) == (made["id"], price[one] + price[other])
    gone = shop_.tools.call("cancel_cart", KEY | {"id": made["id"]})
    ucp.check(gone, CART)
    assert gone["line_items"] == changed["line_items"]
    missing = shop_.call("get_cart", id=made["id"])
    ucp.check(missing, FAILED)
    assert missing["messages"][0]["code"] == "not_found"
    ucp.check(shop_.call("update_cart", id=made["id"], cart=lines((one, 1))), FAILED)


def test_prices_and_stock_of_a_cart_are_those_of_now(shop_: Shop, ucp: Schemas) -> None:
    one, other = shop_.ids[:2]
    made = shop_.call("create_cart", cart=lines((one, 1), (other, 3)))
    shop_.rows[one]["price"], shop_.rows[other]["in_stock"] = 7.5, False
    found = shop_.call("get_cart", id=made["id"])
    ucp.check(found, CART)
    assert total(found) == 750
    assert [(m["code"], m.get("path")) for m in found["messages"]] == [
        ("out_of_stock", "$.line_items[1]"),
        ("cart_changed", None),
    ]


def test_what_cannot_be_bought_is_named_and_makes_no_cart_alone(shop_: Shop, ucp: Schemas) -> None:
    some = shop_.call("create_cart", cart=lines((shop_.ids[0], 1), ("no-such", 1)))
    ucp.check(some, CART)
    assert len(some["line_items"]) == 1 and some["messages"][0]["code"] == "not_found"
    none = shop_.call("create_cart", cart=lines((shop_.sold_out, 1), (shop_.unpriced, 1)))
    ucp.check(none, FAILED)
    assert [m["code"] for m in none["messages"]] == ["out_of_stock", "not_found"]


@pytest.mark.parametrize("count", [0, -1, 1.5, 10**6])
def test_a_quantity_is_a_whole_number_of_at_least_one(shop_: Shop, count: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"cart\.line_items\[0\]\.quantity: "):
        shop_.call("create_cart", cart=lines((shop_.ids[0], count)))


def test_a_request_that_comes_again_makes_one_cart(shop_: Shop) -> None:
    request = KEY | {"cart": lines((shop_.ids[0], 1))}
    made = shop_.tools.call("create_cart", request)
    assert shop_.tools.call("create_cart", request) == made
    with pytest.raises(IdempotencyConflictError, match="for another request"):
        shop_.tools.call("create_cart", KEY | {"cart": lines((shop_.ids[1], 1))})


def test_a_cart_is_cancelled_with_a_key_alone(shop_: Shop) -> None:
    with pytest.raises(InvalidRequestError, match="'idempotency-key' is a required property"):
        shop_.call("cancel_cart", id="cart-1")


def test_an_old_cart_is_gone(shop_: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop_.call("create_cart", cart=lines((shop_.ids[0], 1)))
    later = time.time() + carts.KEPT + 1
    monkeypatch.setattr(carts.time, "time", lambda: later)
    assert shop_.call("get_cart", id=made["id"])["messages"][0]["code"] == "not_found"


def test_nothing_is_kept_of_who_the_buyer_is(shop_: Shop) -> None:
    buyer = {"email": "anna@example.org"}
    made = shop_.call("create_cart", cart=lines((shop_.ids[0], 1)) | {"buyer": buyer})
    assert "anna" not in str(shop_.call("get_cart", id=made["id"]))
