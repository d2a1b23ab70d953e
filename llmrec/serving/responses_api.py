"""``POST /v1/responses``: what newer clients and agent kits of OpenAI ask, whole or as events.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmrec.serving.answer_schemas import RESPONSE
from llmrec.serving.answer_text import Written
from llmrec.serving.attachments import Attachments
from llmrec.serving.completions_api import written_answer
from llmrec.serving.limits import MAX_LIST
from llmrec.serving.openai_api import Json, Message, TextFields, last_of_user
from llmrec.serving.openai_fields import OF_RESPONSES
from llmrec.serving.service import Service
from llmrec.serving.structured import AnswerFormat

NOT_READ = "instructions: are not read; the last message of the user is the query"


class InputMessage(Message):
    """A message, also one of an answer that comes back."""

    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class TextOptions(BaseModel):
    """What the text is to be."""

    model_config = ConfigDict(extra="forbid")

    format: dict[str, Any] | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesBody(TextFields):
    """Body of ``/v1/responses``."""

    harmless = OF_RESPONSES
    example: ClassVar[Json] = {"input": "something warm for winter"}
    input: str | list[InputMessage] = Field("", max_length=MAX_LIST)
    instructions: str | None = None
    text: TextOptions = TextOptions()
    max_output_tokens: int | None = Field(
        None, ge=1, strict=True, description="tokens that items may take, as ``usage`` counts them"
    )

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        _ = self.answer_format, self._last  # said before anything is ranked
        return self

    @functools.cached_property
    def _last(self) -> tuple[str, Attachments]:
        if isinstance(self.input, str):
            return self.input.strip(), Attachments()
        return last_of_user(self.input, "input")

    def words(self) -> str:
        return self._last[0]

    @property
    def attachments(self) -> Attachments:
        return self._last[1]

    @property
    def token_limit(self) -> int | None:  # type: ignore[override]
        return self.max_output_tokens

    @property
    def answer_format(self) -> AnswerFormat | None:
        return AnswerFormat.of(self.text.format, "text.format")


def responses_router(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/responses", responses=RESPONSE)
    async def responses(http: Request, body: ResponsesBody) -> Response:
        head, written = await written_answer(service, http, body)
        if body.instructions:
            written.fields["notes"].append(NOT_READ)
        whole = response(head, written, body)
        if body.stream:
            return StreamingResponse(lines(events(whole)), media_type="text/event-stream")
        return JSONResponse(whole)

    return router


def response(head: Json, written: Written, body: ResponsesBody) -> Json:
    """A whole response, with the fields of every list beside OpenAI's.

    Args:
        head: model and version of the catalogue.
    """
    fields = dict(written.fields)
    tokens = fields.pop("usage")
    message = {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if written.is_cut else "completed",
        "content": [_part(written.text)],
    }
    own = {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": message["status"],
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if written.is_cut else None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": {},
        "output": [message],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 0.0,
        "text": {"format": body.text.format or {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": body.user,
        "usage": {
            "input_tokens": tokens["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens["total_tokens"],
        },
    }
    return own | head | fields


def events(whole: Json) -> Iterator[Json]:
    """What a stream says until a response is whole, each event with its number."""
    (message,) = whole["output"]
    (part,) = message["content"]
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    for name in ("recommendations", "incomplete_details"):
        begun[name] = None
    item: Json = {"output_index": 0}
    content = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    empty = message | {"status": "in_progress", "content": []}
    found: list[tuple[str, Json]] = [
        ("created", {"response": begun}),
        ("in_progress", {"response": begun}),
        ("output_item.added", item | {"item": empty}),
        ("content_part.added", content | {"part": _part("")}),
    ]
    found += [
        ("output_text.delta", content | {"delta": piece, "logprobs": []})
        for piece in part["text"].splitlines(keepends=True)
    ]
    found += [
        ("output_text.done", content | {"text": part["text"], "logprobs": []}),
        ("content_part.done", content | {"part": part}),
        ("output_item.done", item | {"item": message}),
        (whole["status"], {"response": whole}),
    ]
    for number, (name, fields) in enumerate(found):
        yield {"type": f"response.{name}", "sequence_number": number, **fields}


def lines(found: Iterator[Json]) -> Iterator[str]:
    """Events as a stream has them."""
    for event in found:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
