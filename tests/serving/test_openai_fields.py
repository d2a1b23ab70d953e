"""Bodies as clients send them: OpenAI's fields, null, misspelt names, items that are gone."""

import json
from typing import Any

import httpx
import openai
import pytest
from ask_bundle import recommend

from llmrec.serving.bundle import Bundle
from llmrec.serving.openai_api import RecommendFields

ROUTES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": ""}]},
    "completions": {"prompt": ""},
    "recommendations": {},
}
GONE = "sold-out-1"


def post(url: str, route: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/{route}", json=ROUTES[route] | fields, timeout=60)


def answer(url: str, route: str, **fields: Any) -> dict[str, Any]:
    response = post(url, route, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def items(body: dict[str, Any]) -> list[str]:
    return [found["item_id"] for found in body["recommendations"]]


def refused(response: httpx.Response) -> tuple[str, str]:
    """The message, and the field that it is about."""
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["message"], error["param"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stale", [False, True])
def test_items_that_left_the_shop_are_left_out_with_a_note(
    url: str, atomic: Bundle, route: str, stale: bool
) -> None:
    history, exclude = atomic.item_ids[3:5], atomic.item_ids[20:23]
    gone: dict[str, Any] = {"history": [history[0], GONE, history[1]], "exclude": [*exclude, GONE]}
    kept = {"history": history, "exclude": exclude}
    found = answer(url, route, **(gone if stale else kept))
    expected = recommend(atomic, history, exclude=exclude)
    assert items(found) == [one.item_id for one in expected]
    assert found["history_given"] == found["history_read"] == 2
    assert found["notes"] == (
        [
            f"history: {GONE!r} is not in the catalogue and left out",
            f"exclude: {GONE!r} is not in the catalogue and left out",
        ]
        if stale
        else []
    )


def test_an_event_of_an_item_that_left_the_shop_takes_its_time_along(
    url: str, atomic: Bundle
) -> None:
    first, second = atomic.item_ids[3:5]
    events = [(GONE, 1.7e9), (second, 1.6e9), (first, 1.5e9)]
    body = [{"item_id": item, "timestamp": time} for item, time in events]
    expected = recommend(atomic, [first, second], history_times=[1.5e9, 1.6e9])
    found = answer(url, "recommendations", history=body)
    assert [one["score"] for one in found["recommendations"]] == pytest.approx(
        [one.score for one in expected], abs=1e-5
    )


def test_many_that_are_gone_are_counted_and_some_named(url: str, atomic: Bundle) -> None:
    history = [f"gone-{n}" for n in (0, 1, 2, 3, 0)]
    found = answer(url, "recommendations", history=history)
    assert found["notes"] == [
        "history: 4 items ('gone-0', 'gone-1', 'gone-2', ...) are not in the catalogue and left out"
    ]
    assert items(found) == [one.item_id for one in recommend(atomic, [])]


@pytest.mark.parametrize("field", ["allow", "candidates"])
def test_of_a_list_to_choose_from_something_must_be_left(
    url: str, atomic: Bundle, field: str
) -> None:
    known = atomic.item_ids[7:9]
    found = answer(url, "recommendations", **{field: [*known, GONE]})
    assert set(items(found)) == set(known)
    assert f"{field}: {GONE!r} is not in the catalogue and left out" in found["notes"]
    message, param = refused(post(url, "recommendations", **{field: [GONE]}))
    assert message == f"{field}: {GONE!r} is not in the catalogue"
    assert param == field


@pytest.mark.parametrize("route", ROUTES)
def test_half_a_surrogate_pair_is_refused(url: str, route: str) -> None:
    words = {"chat/completions": "messages", "completions": "prompt", "recommendations": "query"}
    body = ROUTES[route] | {words[route]: "WORDS"}
    if route == "chat/completions":
        body = {"messages": [{"role": "user", "content": "WORDS"}]}
    for field, content in (
        ("query", json.dumps(body).replace("WORDS", "funny \\ud83d")),
        ("history", json.dumps(body | {"history": ["GONE"]}).replace("GONE", "\\ude00")),
        ("user", json.dumps(body | {"user": "ANNA"}).replace("ANNA", "\\ud83d")),
        ("context", json.dumps(body | {"context": {"NAME": 1}}).replace("NAME", "\\ud83d")),
    ):
        headers = {"content-type": "application/json"}
        message, param = refused(
            httpx.post(f"{url}/v1/{route}", content=content.encode(), headers=headers)
        )
        assert message.startswith(f"{field}: ")
        assert "is not text in Unicode" in message
        assert param == field


@pytest.mark.parametrize("route", ROUTES)
def test_null_is_the_default_of_every_field(url: str, route: str) -> None:
    names = [*RecommendFields.model_fields]
    if route != "recommendations":
        names += ["stream", "stream_options", "temperature", "tools", "response_format"]
    found = answer(url, route, **dict.fromkeys(names))
    assert items(found) == items(answer(url, route))
    assert len(items(found)) == 10


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("name", "hint"),
    [("histroy", "did you mean 'history'?"), ("where_", "did you mean 'where'?"), ("zzz", "out")],
)
def test_misspelt_fields_are_refused_by_name(url: str, route: str, name: str, hint: str) -> None:
    message, param = refused(post(url, route, **{name: []}))
    assert message.startswith(f"{name}: is no field of a request")
    assert message.endswith(hint)
    assert param == name


def test_fields_of_openai_that_mean_nothing_here_are_accepted(client: openai.OpenAI) -> None:
    ask = client.chat.completions.create
    messages: Any = [{"role": "user", "content": ""}]
    plain = ask(model="llmrec", messages=messages)
    usual = ask(
        model="llmrec", messages=messages, temperature=0, top_p=1, max_tokens=20, seed=3,
        presence_penalty=0, frequency_penalty=0, logprobs=False, tools=[], tool_choice="none",
        response_format={"type": "text"}, stop=[], metadata={"a": "b"}, store=False,
    )  # fmt: skip
    assert usual.choices[0].message.content == plain.choices[0].message.content
    assert usual.model_dump()["metadata"] == {"a": "b"}


TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.7),
        ("top_p", 0.9),
        ("store", True),
        ("tools", [TOOL]),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("reasoning_effort", "high"),
        ("logprobs", True),
        ("stop", ["\n"]),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(url: str, field: str, value: Any) -> None:
    message, param = refused(post(url, "chat/completions", **{field: value}))
    assert message.startswith(f"{field}: is not done here; leave it out")
    assert param == field


def test_a_limit_of_tokens_is_one_of_items(url: str, semantic_url: str) -> None:
    whole = post(url, "chat/completions", max_tokens=10).json()
    cut = post(url, "chat/completions", max_completion_tokens=4).json()
    assert (len(items(whole)), whole["choices"][0]["finish_reason"]) == (10, "stop")
    assert (items(cut), cut["choices"][0]["finish_reason"]) == (items(whole)[:4], "length")
    two = post(semantic_url, "completions", max_tokens=5).json()  # two tokens an item
    assert (len(items(two)), two["usage"]["completion_tokens"]) == (2, 4)
    assert refused(post(semantic_url, "completions", max_tokens=1))[1] == "max_tokens"
    both = post(url, "chat/completions", max_tokens=4, max_completion_tokens=4)
    assert refused(both)[1] == "max_tokens"


def test_usage_counts_the_tokens_of_the_language_model(
    client: openai.OpenAI, atomic: Bundle
) -> None:
    history, messages = atomic.item_ids[:3], [{"role": "user", "content": ""}]
    found: Any = client.chat.completions.create(
        model="llmrec", messages=messages, extra_body={"history": history, "n": 4}
    )
    # the start token and the prompt's words, 3 events of an item and gap and month, the request's
    prompt = len(atomic.llm.encoder.prefix) + 3 * (1 + 2) + 2
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (prompt, 4)
    assert found.usage.total_tokens == prompt + 4
    words: Any = [{"role": "user", "content": "a warm scarf"}]  # compared, and not generated
    found = client.chat.completions.create(model="llmrec", messages=words)
    assert found.usage.total_tokens == 0


def test_a_stream_ends_with_the_usage_where_it_is_asked_for(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": ""}]
    ask: Any = client.chat.completions.create
    chunks = list(
        ask(model="llmrec", messages=messages, stream=True, stream_options={"include_usage": True})
    )
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 10
    assert len(chunks[-2].recommendations) == 10
    plain = list(ask(model="llmrec", messages=messages, stream=True))
    assert all(chunk.usage is None for chunk in plain)
    assert len(plain) == len(chunks) - 1


def test_times_in_iso_8601(url: str, atomic: Bundle) -> None:
    history = atomic.item_ids[3:5]
    expected = recommend(atomic, history, history_times=[1704067200.0, 1704153600.0], now=1.7043e9)
    now = "2024-01-03T16:40:00Z"
    for fields in (
        {"history": history, "history_times": ["2024-01-01T00:00:00Z", "2024-01-02"]},
        {"events": [
            {"item_id": history[1], "timestamp": "2024-01-02T01:00:00+01:00"},
            {"item_id": history[0], "timestamp": "2024-01-01 00:00:00"},
        ]},
    ):  # fmt: skip
        found = answer(url, "recommendations", **fields, now=now)
        assert [one["item_id"] for one in found["recommendations"]] == [e.item_id for e in expected]
        assert [one["score"] for one in found["recommendations"]] == pytest.approx(
            [one.score for one in expected], abs=1e-5
        )
    message, param = refused(post(url, "recommendations", now="yesterday"))
    assert message.startswith("now: 'yesterday' is no time; write ISO 8601, such as ")
    assert param == "now"
    both = post(url, "recommendations", history=history, events=history)
    assert refused(both)[0] == "events: is another name of history; give one of them"


def test_health_by_head(url: str) -> None:
    response = httpx.head(f"{url}/healthz")
    assert (response.status_code, response.text) == (200, "")
