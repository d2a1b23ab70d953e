"""The responses API, by the official client."""

from typing import Any

import httpx
import openai
import pytest
from ask_bundle import recommend
from openai.types.responses import Response
from pydantic import BaseModel

from llmrec.serving.answer_text import as_text
from llmrec.serving.bundle import Bundle


class Shelf(BaseModel):
    titles: list[str]


def test_a_response(client: openai.OpenAI, atomic: Bundle) -> None:
    history = atomic.item_ids[:3]
    found: Any = client.responses.create(
        model="llmrec", input="", metadata={"a": "b"}, extra_body={"history": history, "n": 4}
    )
    expected = recommend(atomic, history, 4)
    assert found.output_text == as_text(expected)
    assert [one["item_id"] for one in found.recommendations] == [one.item_id for one in expected]
    assert (found.status, found.metadata) == ("completed", {"a": "b"})
    assert (found.usage.output_tokens, found.usage.total_tokens > 4) == (4, True)
    Response.model_validate(
        found.model_dump(exclude={"usage": {"input_tokens_details"}}) | {"usage": None}
    )


def test_a_conversation_as_parts(client: openai.OpenAI, atomic: Bundle) -> None:
    before = client.responses.create(model="llmrec", input="a gift")
    found: Any = client.responses.create(
        model="llmrec",
        instructions="You sell things.",
        input=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "a gift"},
            *[one.model_dump() for one in before.output],  # type: ignore[list-item]
            {"role": "user", "content": [{"type": "input_text", "text": atomic.titles[33]}]},
        ],
    )
    assert found.recommendations[0]["title"] == atomic.titles[33]
    assert found.notes == ["instructions: are not read; the last message of the user is the query"]


def test_parsed(client: openai.OpenAI) -> None:
    found: Any = client.responses.parse(model="llmrec", input="", text_format=Shelf)
    assert found.output_parsed.titles == [one["title"] for one in found.recommendations]


def test_events(client: openai.OpenAI, url: str) -> None:
    with client.responses.stream(model="llmrec", input="", extra_body={"n": 3}) as stream:
        events: list[Any] = list(stream)
        whole = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) == 3
    assert "".join(deltas) == whole.output_text
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    raw = httpx.post(f"{url}/v1/responses", json={"stream": True, "n": 1}, timeout=60).text
    assert [line for line in raw.splitlines() if line.startswith("event: ")][1:4] == [
        "event: response.in_progress",
        "event: response.output_item.added",
        "event: response.content_part.added",
    ]


def test_a_limit(client: openai.OpenAI) -> None:
    found: Any = client.responses.create(model="llmrec", input="", max_output_tokens=2)
    assert found.status == "incomplete"
    assert found.incomplete_details.reason == "max_output_tokens"
    assert len(found.recommendations) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("tools", [{"type": "web_search"}]),
        ("temperature", 0.7),
        ("reasoning", {"effort": "high"}),
        ("store", True),
        ("background", True),
        ("text", {"format": {"type": "xml"}}),
        ("input", [{"role": "user", "content": [{"type": "input_file"}]}]),
        ("max_tokens", 5),
    ],
)
def test_what_is_not_done_is_refused_by_name(url: str, field: str, value: Any) -> None:
    answer = httpx.post(f"{url}/v1/responses", json={field: value}, timeout=60)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(field)
