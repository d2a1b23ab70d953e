"""Requests that say what may be recommended, and answers that say what was left out."""

from typing import Any

import httpx
import openai
import pytest
from ask_bundle import recommend

from llmrec.data.dataset import Dataset
from llmrec.serving.bundle import Bundle
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest

STOCK = CatalogFilter(in_stock=True)


def ask(url: str, words: str = "", **body: Any) -> httpx.Response:
    """One chat completion, as plain JSON."""
    messages = [{"role": "user", "content": words}]
    return httpx.post(f"{url}/v1/chat/completions", json={"messages": messages} | body, timeout=60)


def recommended(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [found["item_id"] for found in response.json()["recommendations"]]


@pytest.mark.parametrize("words", ["", "a gift"])
def test_some_items_only(url: str, atomic: Bundle, words: str) -> None:
    history, limits = atomic.item_ids[:4], {"exclude": atomic.item_ids[10:60]}
    found = recommended(ask(url, words, history=history, n=9, where={"in_stock": True}, **limits))
    expected = recommend(atomic, history, 9, where=STOCK, query=words, **limits)
    assert found == [one.item_id for one in expected]
    allow = atomic.item_ids[2:7]
    assert set(recommended(ask(url, words, history=history, allow=allow))) == set(allow[2:])
    assert recommended(ask(url, words, where={}, allow=None, n=3))


def test_every_field_of_a_filter(url: str, atomic: Bundle, tiny_data: Dataset) -> None:
    item = next(
        tiny_data.item(row)
        for row in range(120)
        if tiny_data.item(row).in_stock and tiny_data.item(row).price is not None
    )
    where = {
        "in_stock": True,
        "categories": list(item.categories),
        "brands": [item.brand, item.brand.upper()],
        "price_min": item.price,
        "price_max": item.price,
        "domains": [item.domain],
        "attributes": {name: [value] for name, value in item.attributes.items()},
    }
    assert item.item_id in recommended(ask(url, where=where))


def test_what_was_left_out_is_said(url: str, atomic: Bundle) -> None:
    reads = atomic.llm.max_events
    history = (atomic.item_ids * 2)[: reads + 3]
    body = {"history": history, "allow": [atomic.item_ids[-1]], "exclude_history": False}
    answer = ask(url, **body).json()
    assert (answer["history_given"], answer["history_read"]) == (reads + 3, reads)
    first, second = answer["notes"]
    assert "the oldest 3 of" in first
    assert second == "only 1 of 10 items: no more are left to recommend"
    empty = ask(url, allow=[]).json()
    assert empty["recommendations"] == []
    assert empty["notes"] == ["nothing in the catalogue is left to recommend"]
    assert "Nothing in the catalogue is left" in empty["choices"][0]["message"]["content"]
    plain = ask(url, history=history[:2]).json()
    assert (plain["history_given"], plain["history_read"], plain["notes"]) == (2, 2, [])


def test_a_stream_ends_with_the_same_fields(client: openai.OpenAI, atomic: Bundle) -> None:
    messages: Any = [{"role": "user", "content": ""}]
    extra = {"history": atomic.item_ids[:2], "where": {"in_stock": True}, "n": 100}
    with client.chat.completions.create(
        model="llmrec", messages=messages, stream=True, extra_body=extra
    ) as stream:
        last: Any = list(stream)[-1]
    expected = Recommender(atomic).answer(RecommendRequest(atomic.item_ids[:2], 100, where=STOCK))
    assert [f["item_id"] for f in last.recommendations] == [
        f.item_id for f in expected.recommendations
    ]
    assert (last.history_given, last.history_read, last.notes) == (2, 2, expected.notes)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"allow": ["x"], "stream": True}, "allow: 'x' is not in the catalogue", "allow"),
        ({"exclude": "x"}, "valid list", "exclude"),
        ({"allow": [None]}, "valid string", "allow.0"),
        ({"where": ["in_stock"]}, "valid dictionary", "where"),
        ({"where": {"colour": "red"}}, "where: unknown key 'colour'; known keys: in_st", "where"),
        ({"where": {"brand": ["x"]}}, "where: unknown key 'brand'; did you mean 'b", "where"),
        ({"where": {"in_stock": "yes"}}, "expected bool, got 'yes'", "where.in_stock"),
        ({"where": {"categories": "x"}}, "expected a list, got 'x'", "where.categories"),
        ({"where": {"categories": ["zzz"]}}, "no item has 'zzz'", "where.categories"),
        ({"where": {"brands": [1]}}, "expected str, got 1", "where.brands[0]"),
        ({"where": {"price_min": 3, "price_max": 2}}, "3.0 is above price_max", "where.price_min"),
        ({"where": {"price_max": -1}}, "price_max: must be 0 or more, got -1", "where.price_max"),
        ({"where": {"attributes": {"zzz": ["x"]}}}, "no item has 'zzz'", "where.attributes"),
        ({"where": {"attributes": {"a": 3}}}, "expected a list", "where.attributes.a"),
        ({"now": 1.7e12}, "now: 1700000000000.0 is not a time in seconds since 1970", "now"),
    ],
)
def test_a_wrong_limit_is_an_openai_error(
    url: str, body: dict[str, Any], message: str, param: str
) -> None:
    response = ask(url, **body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    "where",
    [
        '{"price_min": NaN}',
        '{"price_max": 1e999}',
        '{"brands": ["\\ud800"]}',
        '{"price_max": 1' + "0" * 400 + "}",
    ],
)
def test_json_that_other_readers_would_not_take(url: str, where: str) -> None:
    body = '{"messages": [{"role": "user", "content": ""}], "where": ' + where + "}"
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{url}/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
