"""Model ``assistant`` of the service: streams, tool trace, conversations without a session."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from scripted_model import ScriptedModel, call
from searchable_shop import data_url, picture
from server import served
from tiny_shop import TinyRun

from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.store.database import Store

Json = dict[str, Any]


class Talk:
    """A service whose assistant makes the calls that a test gives it."""

    def __init__(self, store: Store, bundle: Bundle, search: Path | None) -> None:
        self.model, self.bundle = ScriptedModel(), bundle
        self.live = LiveHistories(store, bundle, counts=False)
        recommender = Recommender.load(bundle, histories=self.live.history, search=search)
        self.app = create_app(
            recommender, self.live, ServiceConfig(currency="EUR"), minds=[self.model]
        )
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def say(self, messages: list[Json], *steps: Any, **more: Any) -> Json:
        """The answer, which is added to the messages."""
        self.model.steps = list(steps)
        body = {"model": "assistant", "messages": messages, **more}
        answer = self.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        messages.append(found["choices"][0]["message"])
        return found


@pytest.fixture
def talk(tiny_run: TinyRun, searchable: Path, tmp_path: Path) -> Iterator[Talk]:
    with Store(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        found = Talk(store, Bundle(tiny_run.bundle("atomic")), searchable)
        with found.client:
            yield found


def user(words: str) -> Json:
    return {"role": "user", "content": words}


def test_a_conversation_goes_on_without_a_session(talk: Talk) -> None:
    messages = [user("a mug")]
    first = talk.say(messages, call("search_catalog", category="mug"))
    assert first["model"] == "assistant" and first["object"] == "chat.completion"
    assert [one["function"]["name"] for one in first["tool_trace"]] == ["search_catalog"]
    shown = [one["item_id"] for one in first["recommendations"]]
    assert shown and first["recommendation_id"]
    assert all(one["currency"] == "EUR" and one["price"] for one in first["recommendations"])
    messages.append(user("put the first into my cart"))
    cart = talk.say(messages, call("update_cart", item=1, quantity=1))
    assert [line["item"]["id"] for line in cart["cart"]["line_items"]] == shown[:1]
    other = [user("a mug")]
    talk.say(other, call("search_catalog", category="mug"))
    other.append(user("what is in my cart?"))
    assert talk.say(other, call("get_cart"))["situation"] == "cart_none"  # two tabs
    messages.append(user("what is in my cart?"))
    assert talk.say(messages, call("get_cart"))["cart"]["id"] == cart["cart"]["id"]


def test_a_message_that_is_edited_goes_on_from_its_place(talk: Talk) -> None:
    messages = [user("a mug")]
    talk.say(messages, call("search_catalog", category="mug"))
    for words, colour in (("not blue", "blue"), ("not red", "red")):
        edited = [*messages, user(words)]
        found = talk.say(edited, call("search_catalog", not_colour=colour))
        assert f"mug, not {colour}" in found["choices"][0]["message"]["content"]


def test_what_is_no_longer_kept_is_gone_through_again(talk: Talk) -> None:
    messages = [user("a mug"), {"role": "assistant", "content": "I said something else."}]
    messages.append(user("not blue"))
    steps = [call("search_catalog", category="mug"), call("search_catalog", not_colour="blue")]
    found = talk.say(messages, *steps, user="anna")
    assert "mug, not blue" in found["choices"][0]["message"]["content"]
    described = talk.live.describe("anna")
    assert described is not None and described["events"] == {"search": 1}  # not twice


def test_forgetting_somebody_forgets_their_conversations(talk: Talk) -> None:
    talk.say([user("a mug")], call("search_catalog", category="mug"), user="anna")
    assert talk.live.forget("anna")["conversations"] == 1


def test_the_official_client_streams(talk: Talk) -> None:
    talk.model.steps = [call("search_catalog", category="mug")]
    with served(talk.app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        assert "assistant" in [one.id for one in client.models.list()]
        parts = list(
            client.chat.completions.create(
                model="assistant",
                messages=[{"role": "user", "content": "a mug"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    words = [part.choices[0].delta.content for part in parts if part.choices]
    assert words[1] in ("Let me look. ", "One moment. ", "I will see what there is. ")
    assert "1. " in "".join(word for word in words if word)
    last = parts[-2].model_dump()
    assert last["choices"][0]["finish_reason"] == "stop" and last["recommendations"]
    assert parts[-1].usage is not None and len({part.id for part in parts}) == 1


def test_a_picture_and_words_are_one_turn(talk: Talk) -> None:
    content = [
        {"type": "text", "text": "this, but not blue"},
        {"type": "image_url", "image_url": {"url": data_url(picture(7))}},
    ]
    messages: list[Json] = [{"role": "user", "content": content}]
    found = talk.say(messages, call("search_catalog", not_colour="blue"))
    assert len(found["recommendations"]) == 5
    said = found["choices"][0]["message"]["content"]
    assert "like your picture, not blue" in said
    alone: list[Json] = [{"role": "user", "content": content[1:]}]
    (first, *_) = talk.say(alone)["recommendations"]
    assert first["item_id"] == talk.bundle.item_ids[7]
    messages.append(user("cheaper"))
    again = talk.say(messages, call("search_catalog", price="lower"))
    assert "like your picture" in again["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "picture"),
        (
            {
                "type": "input_audio",
                "input_audio": {"data": base64.b64encode(b"no sound").decode(), "format": "wav"},
            },
            "recording",
        ),
    ],
)
def test_a_broken_file_is_met_kindly(talk: Talk, part: Json, kind: str) -> None:
    found = talk.say([{"role": "user", "content": [part]}])
    assert found["situation"] == "broken"
    said = found["choices"][0]["message"]["content"]
    assert said.startswith(f"I cannot read this {kind}: ") and "messages[" not in said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"where": {"in_stock": True}}, "where: is not read by the assistant"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages: has none of the user"),
        ({"model": "assistants"}, "'assistants' is not served here"),
    ],
)
def test_requests_that_make_no_sense(talk: Talk, body: Json, message: str) -> None:
    whole = {"model": "assistant", "messages": [user("hi")]} | body
    answer = talk.client.post("/v1/chat/completions", json=whole)
    assert answer.status_code in (400, 404) and message in answer.json()["error"]["message"]
