"""An endpoint behind a URL does the talking: a real server on this machine."""

from __future__ import annotations

import json

import pytest
from assistant_shop import AssistantShop
from remote_llm import DONE, calls, part, remote_llm, words
from scripted_model import ScriptedModel, call

from llmrec.errors import ConfigError
from llmrec.serving.assistant.loop import AssistantReply
from llmrec.serving.assistant.remote import RemoteModel

MUG = json.dumps({"category": "mug"})


def ask(shop: AssistantShop, url: str, message: str = "a mug") -> AssistantReply:
    """The reply of an assistant that this endpoint talks for."""
    fallback = ScriptedModel(call("search_catalog", category="mug"))
    model = RemoteModel(url, key="secret", seconds=5.0)
    assistant = shop.assistant(model=model, fallback=fallback)
    return shop.say(assistant, assistant.start(), message)


def test_it_calls_tools_and_talks_about_their_results(assistant_shop: AssistantShop) -> None:
    with remote_llm(
        calls("search_catalog", MUG), words("I hope ", "one suits. It is ", "blue.")
    ) as endpoint:
        reply = ask(assistant_shop, endpoint.url)
    assert "I hope one suits. \n1. " in reply.text and "It is blue" not in reply.text
    assert [one.name for one in reply.calls] == ["search_catalog"]
    first, second = endpoint.asked
    assert first["model"] == "some-model" and endpoint.keys == ["Bearer secret"] * 2
    assert {one["function"]["name"] for one in first["tools"]} >= {"search_catalog", "get_cart"}
    *_, called, result = second["messages"]
    assert called["tool_calls"][0]["function"] == {"name": "search_catalog", "arguments": MUG}
    assert result["tool_call_id"] == called["tool_calls"][0]["id"]
    told = json.dumps(second["messages"])
    assert not any(row["title"] in told for row in assistant_shop.rows.values())


def test_the_newest_messages_are_given_again(assistant_shop: AssistantShop) -> None:
    with remote_llm(words("Hello!"), calls("search_catalog", MUG), words("Look.")) as endpoint:
        assistant = assistant_shop.assistant(model=RemoteModel(endpoint.url, "named"))
        conversation = assistant.start()
        hello = assistant_shop.say(assistant, conversation, "hi there")
        assistant_shop.say(assistant, conversation, "a mug")
    assert hello.text.strip() == "Hello!" and hello.situation == "said"
    given = [(one["role"], one["content"]) for one in endpoint.asked[1]["messages"][1:]]
    assert given == [("user", "hi there"), ("assistant", "Hello! "), ("user", "a mug")]
    assert endpoint.asked[0]["model"] == "named"


@pytest.mark.parametrize(
    "answer",
    [
        500,
        [part(content="Let me "), part(content="see. I")],  # dies in the middle
        ["data: {no json\n\n"],
        [DONE],
        [part("stop"), DONE],
    ],
)
def test_the_embedded_model_goes_on_where_it_fails(
    assistant_shop: AssistantShop, answer: list[str] | int
) -> None:
    with remote_llm(answer) as endpoint:
        reply = ask(assistant_shop, endpoint.url)
    assert len(reply.items) > 0 and reply.notes
    nothing_said = isinstance(answer, list) and answer[-1] == DONE
    assert ("I go on by myself" in reply.text) != nothing_said


def test_nobody_is_there(assistant_shop: AssistantShop) -> None:
    reply = ask(assistant_shop, "http://127.0.0.1:9/v1")
    assert "I go on by myself" in reply.text and reply.items
    with pytest.raises(ConfigError, match="--assistant-url: 'ftp://x' is no URL"):
        RemoteModel("ftp://x")


@pytest.mark.parametrize("bad", [("fly", "{}"), ("search_catalog", '{"category": ')])
def test_bad_calls_are_answered_and_may_be_mended(
    assistant_shop: AssistantShop, bad: tuple[str, str]
) -> None:
    with remote_llm(calls(*bad), calls("search_catalog", MUG), words("Look.")) as endpoint:
        reply = ask(assistant_shop, endpoint.url)
    assert "error" in endpoint.asked[1]["messages"][-1]["content"]
    assert reply.items and [one.name for one in reply.calls] == ["search_catalog"]
    with remote_llm(calls(*bad), calls(*bad)) as endpoint:
        again = ask(assistant_shop, endpoint.url)
    assert again.items and "I go on by myself" in again.text
