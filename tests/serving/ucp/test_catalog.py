"""Searches, look-ups and recommendations, held to the protocol's own schemas."""

from typing import Any

import pytest
from ucp_schemas import Schemas
from ucp_shop import ABOUT, Shop

from llmrec.serving.ucp.products import Money
from llmrec.serving.ucp.protocol import InvalidRequestError, RequestTooLargeError, profile

SEARCHED = "shopping/catalog_search.json#/$defs/search_response"
LOOKED_UP = "shopping/catalog_lookup.json#/$defs/lookup_response"
PRODUCT = "shopping/catalog_lookup.json#/$defs/get_product_response"
FAILED = "shopping/types/error_response.json"


def codes(answer: dict[str, Any]) -> list[str]:
    return [message["code"] for message in answer.get("messages", [])]


def ids(answer: dict[str, Any]) -> list[str]:
    return [product["id"] for product in answer["products"]]


def test_words_find_the_product_that_they_name(shop_: Shop, ucp: Schemas) -> None:
    wanted = shop_.ids[5]
    found = shop_.call("search_catalog", catalog={"query": shop_.rows[wanted]["title"]})
    ucp.check(found, SEARCHED)
    assert wanted in ids(found) and len(ids(found)) == 10
    product = next(one for one in found["products"] if one["id"] == wanted)
    amount = Money("EUR").minor(shop_.rows[wanted]["price"])
    assert product["price_range"]["min"] == {"amount": amount, "currency": "EUR"}
    assert product["variants"][0]["price"] == product["price_range"]["max"]
    assert product["title"] == shop_.rows[wanted]["title"]


def test_pages_follow_each_other_without_repeats_to_the_end(shop_: Shop, ucp: Schemas) -> None:
    category = shop_.rows[shop_.ids[0]]["categories"][0]
    request: dict[str, Any] = {"filters": {"categories": [category]}, "pagination": {"limit": 7}}
    seen: list[str] = []
    for _ in range(40):
        found = shop_.call("search_catalog", catalog=request)
        ucp.check(found, SEARCHED)
        seen += ids(found)
        if not found["pagination"]["has_next_page"]:
            break
        request["pagination"] = {"limit": 7, "cursor": found["pagination"]["cursor"]}
    of_category = {i for i, row in shop_.rows.items() if category in row["categories"]}
    assert len(seen) == len(set(seen))
    assert set(seen) == of_category - {shop_.unpriced}


@pytest.mark.parametrize("cursor", ["nonsense", "WzEwLCJ4Il0=", "e30="])
def test_a_cursor_of_another_request_is_refused(shop_: Shop, cursor: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"pagination\.cursor: is "):
        shop_.call("search_catalog", catalog={"query": "x", "pagination": {"cursor": cursor}})


def test_filters_hold_and_those_not_known_are_named(shop_: Shop, ucp: Schemas) -> None:
    filters = {"price": {"min": 1000, "max": 5000}, "available": True, "halal": True}
    found = shop_.call("search_catalog", catalog={"filters": filters})
    ucp.check(found, SEARCHED)
    assert found["products"]
    for product in found["products"]:
        assert 1000 <= product["price_range"]["min"]["amount"] <= 5000
    assert "filters.halal is not known here" in str(found["messages"])


def test_a_price_in_another_currency_is_not_read_and_said_so(shop_: Shop, ucp: Schemas) -> None:
    request = {"filters": {"price": {"max": 1}}, "context": {"currency": "JPY"}}
    found = shop_.call("search_catalog", catalog=request)
    ucp.check(found, SEARCHED)
    assert found["products"] and "currency_unsupported" in codes(found)


def test_a_category_that_no_product_has_finds_nothing(shop_: Shop, ucp: Schemas) -> None:
    found = shop_.call("search_catalog", catalog={"filters": {"categories": ["Submarines"]}})
    ucp.check(found, SEARCHED)
    assert found["products"] == [] and codes(found) == ["not_found"]
    assert found["pagination"] == {"has_next_page": False}


def test_neither_words_nor_filters_is_no_search(shop_: Shop) -> None:
    with pytest.raises(InvalidRequestError, match="give a query, filters, or both"):
        shop_.call("search_catalog", catalog={"query": "  "})


def test_known_ids_are_looked_up_once_and_the_others_named(shop_: Shop, ucp: Schemas) -> None:
    one, other = shop_.ids[3], shop_.ids[4]
    asked = [one, "no-such", other, one, shop_.unpriced]
    found = shop_.call("lookup_catalog", catalog={"ids": asked})
    ucp.check(found, LOOKED_UP)
    assert ids(found) == [one, other]
    assert found["products"][0]["variants"][0]["inputs"] == [{"id": one, "match": "exact"}]
    missing = [(m["type"], m["code"], m["content"]) for m in found["messages"]]
    assert missing == [("info", "not_found", "no-such"), ("info", "not_found", shop_.unpriced)]


def test_a_look_up_keeps_to_its_filters_and_its_size(shop_: Shop) -> None:
    asked = {"ids": shop_.ids[:9], "filters": {"price": {"max": 0}}}
    assert shop_.call("lookup_catalog", catalog=asked)["products"] == []
    with pytest.raises(RequestTooLargeError, match="101 are given; at most 100"):
        shop_.call("lookup_catalog", catalog={"ids": [f"x{i}" for i in range(101)]})


def test_one_product_in_full_or_an_error_of_the_protocol(shop_: Shop, ucp: Schemas) -> None:
    found = shop_.call("get_product", catalog={"id": shop_.sold_out})
    ucp.check(found, PRODUCT)
    available = found["product"]["variants"][0]["availability"]
    assert available == {"available": False, "status": "out_of_stock"}
    missing = shop_.call("get_product", catalog={"id": "no-such"})
    ucp.check(missing, FAILED)
    assert (missing["ucp"]["status"], codes(missing)) == ("error", ["not_found"])


def test_what_a_buyer_did_moves_what_is_recommended(shop_: Shop, ucp: Schemas) -> None:
    first = shop_.call("llmrec_recommend", catalog={"history": shop_.ids[:3]})
    second = shop_.call("llmrec_recommend", catalog={"history": shop_.ids[60:63]})
    for found in (first, second):
        ucp.check(found, SEARCHED)
    assert ids(first) != ids(second)
    assert not set(ids(first)) & set(shop_.ids[:3])
    assert first["products"][0]["metadata"]["reason"]


def test_an_intent_is_what_is_looked_for(shop_: Shop) -> None:
    wanted = shop_.ids[5]
    context = {"intent": shop_.rows[wanted]["title"]}
    found = shop_.call("llmrec_recommend", catalog={"context": context, "history": []})
    assert wanted in ids(found)


def test_arguments_are_checked_and_named(shop_: Shop) -> None:
    for arguments, problem in (
        ({"catalog": {"query": 3}}, r"catalog\.query: 3 is not of type"),
        ({"catalog": {"pagination": {"limit": 0}}}, r"catalog\.pagination\.limit: 0 is less"),
        ({}, "'catalog' is a required property"),
    ):
        with pytest.raises(InvalidRequestError, match=problem):
            shop_.call("search_catalog", **arguments)
    with pytest.raises(InvalidRequestError, match="'meta' is a required property"):
        shop_.tools.call("get_cart", {"id": "x"})
    with pytest.raises(InvalidRequestError, match="there is no tool 'buy'"):
        shop_.tools.call("buy", dict(ABOUT))


def test_the_profile_announces_what_there_is(ucp: Schemas) -> None:
    found = profile("https://shop.example")
    ucp.check(found, "discovery/profile.json#/$defs/business_profile")
    endpoints = [one["endpoint"] for one in found["ucp"]["services"]["dev.ucp.shopping"]]
    assert endpoints == ["https://shop.example/ucp", "https://shop.example/mcp"]
