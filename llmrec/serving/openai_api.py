"""Bodies of the service's requests and answers, in OpenAI's shapes.

Every route reads the fields of a :class:`~llmrec.serving.request.RecommendRequest` and answers with
those of a :class:`~llmrec.serving.request.RecommendResponse`; chat and text completions have their
own beside them, and the list as text.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmrec.serving.request import RecommendRequest, RecommendResponse
from llmrec.types import Recommendation

Json = dict[str, Any]


class RecommendFields(BaseModel):
    """What every route reads."""

    model: str = Field("", description="the model, or one of its adapters")
    user: str | None = Field(None, description="whose history to take, where none is given")
    history: list[Any] | None = Field(
        None, description="item ids or events (item_id, type, timestamp, rating), oldest first"
    )
    history_times: list[float] | None = Field(None, description="seconds since 1970 UTC")
    candidates: list[str] | None = Field(None, description="item ids to rank, and no others")
    context: dict[str, Any] | None = Field(None, description="of the request: device, place, ...")
    now: float | None = Field(None, description="time of the request, seconds since 1970 UTC")
    n: int = Field(10, ge=1, le=100, strict=True, description="items wanted")
    exclude_history: bool = True
    exclude: list[str] = Field(default_factory=list, description="item ids not to recommend")
    allow: list[str] | None = Field(None, description="item ids that alone may be recommended")
    where: dict[str, Any] | None = Field(None, description="what items must be like")
    calibrated: bool = Field(True, description="let the click model rank, where there is one")
    rerank: dict[str, Any] | None = Field(None, description="diversity, per_category, ...")

    def words(self) -> str:
        """The query."""
        return ""

    def recommend_request(self, adapter: str | None) -> RecommendRequest:
        """The same request as in Python."""
        names = set(RecommendFields.model_fields) - {"model"}
        fields = {name: getattr(self, name) for name in names}
        return RecommendRequest(**fields, query=self.words(), adapter=adapter)


class ListBody(RecommendFields):
    """Body of ``/v1/recommendations``."""

    model_config = ConfigDict(extra="forbid")

    query: str = ""

    def words(self) -> str:
        return self.query


class Message(BaseModel):
    """One turn of a conversation; its content is text or, as OpenAI has it, text parts."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    @field_validator("content")
    @classmethod
    def _only_text(cls, content: Any) -> Any:
        for part in content if isinstance(content, list) else []:
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise ValueError(f"only parts of type 'text' are read, not {part.get('type')!r}")
        return content

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return " ".join(part["text"] for part in self.content).strip()
        return (self.content or "").strip()


class ChatBody(RecommendFields):
    """Body of ``/v1/chat/completions``; the last user message is the query."""

    messages: list[Message] = Field(min_length=1)
    stream: bool = False

    def words(self) -> str:
        of_user = [message.text for message in self.messages if message.role == "user"]
        return of_user[-1] if of_user else ""


class CompletionBody(RecommendFields):
    """Body of ``/v1/completions``; the prompt is the query."""

    prompt: str = ""
    stream: bool = False

    def words(self) -> str:
        return self.prompt


BODY_FIELDS = {name for body in (ListBody, ChatBody, CompletionBody) for name in body.model_fields}


def as_text(recommendations: list[Recommendation]) -> str:
    """The recommendations as a short list in words."""
    if not recommendations:
        return "Nothing in the catalogue is left to recommend."
    return "\n".join(f"{one.rank}. {one.title} [{one.item_id}]" for one in recommendations)


def chat_completion(head: Json, response: RecommendResponse) -> Json:
    """A whole chat completion.

    Args:
        head: model and version of the catalogue.
    """
    message = {"role": "assistant", "content": as_text(response.recommendations)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _head(head, "chat.completion") | {"choices": [choice]} | response.as_dict()


def chat_chunks(head: Json, response: RecommendResponse) -> Iterator[Json]:
    """The same in parts: a line of text each, then one with the recommendations."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": line} for line in _lines(response)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return _chunks(_head(head, "chat.completion.chunk"), choices, last, response)


def text_completion(head: Json, response: RecommendResponse) -> Json:
    """A whole text completion."""
    choice = {"index": 0, "text": as_text(response.recommendations), "finish_reason": "stop"}
    return _head(head, "text_completion") | {"choices": [choice]} | response.as_dict()


def text_chunks(head: Json, response: RecommendResponse) -> Iterator[Json]:
    """The same in parts, as :func:`chat_chunks`."""
    choices: list[Json] = [
        {"index": 0, "text": line, "finish_reason": None} for line in _lines(response)
    ]
    last = {"index": 0, "text": "", "finish_reason": "stop"}
    return _chunks(_head(head, "text_completion"), choices, last, response)


def server_sent_events(chunks: Iterable[Json]) -> Iterator[str]:
    """Chunks as a stream has them."""
    for chunk in chunks:
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _chunks(
    head: Json, choices: list[Json], last: Json, response: RecommendResponse
) -> Iterator[Json]:
    for choice in choices:
        yield head | {"choices": [choice]}
    yield head | {"choices": [last]} | response.as_dict()


def _head(head: Json, kind: str) -> Json:
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    own = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
    return own | head


def _lines(response: RecommendResponse) -> list[str]:
    return as_text(response.recommendations).splitlines(keepends=True)
