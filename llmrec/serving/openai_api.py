"""Bodies of the service's requests and answers, in OpenAI's shapes.

Every route reads the fields of a :class:`~llmrec.serving.request.RecommendRequest` and answers with
those of a :class:`~llmrec.serving.request.RecommendResponse`; chat and text completions have their
own beside them, and the list as text. Of OpenAI's further fields those that change nothing here,
such as ``temperature``, are accepted; what would change the answer is refused by name.
"""

from __future__ import annotations

import difflib
import json
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator, model_validator

from llmrec.errors import ConfigError
from llmrec.serving.limits import MAX_LIST, MAX_NAME, MAX_TEXT, check_nesting
from llmrec.serving.paging import MAX_CURSOR
from llmrec.serving.request import DEFAULT_N, RecommendRequest, RecommendResponse
from llmrec.serving.scenarios import SCENARIOS
from llmrec.types import Recommendation

Json = dict[str, Any]

# Of OpenAI's fields: what has no meaning for a ranked list
WITHOUT_EFFECT = {
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
}
# ... and what would make it another answer, with the values that ask for nothing
NOT_DONE: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "stop": ([], ""),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
EVENTS = "events"  # another name of the field history


class UnknownFieldError(ConfigError):
    """A request has a field that is not known, or that is not done here."""


class RecommendFields(BaseModel):
    """What every route reads."""

    model: str = Field("", description="the model, or one of its adapters")
    user: str | None = Field(None, description="whose history to take, where none is given")
    history: list[Any] | None = Field(
        None,
        max_length=MAX_LIST,
        description="item ids or events (item_id, type, timestamp, rating), oldest first",
    )
    history_times: list[float | str | None] | None = Field(
        None, max_length=MAX_LIST, description="seconds since 1970 UTC, or ISO 8601"
    )
    similar_to: str | None = Field(None, description="the items most like this one are wanted")
    scenario: str | None = Field(
        None,
        max_length=MAX_NAME,
        description=f"what the list is for: {', '.join(SCENARIOS)}, or one of the bundle's own",
    )
    cursor: str | None = Field(
        None, max_length=MAX_CURSOR, description="of the last answer, for the next page"
    )
    candidates: list[str] | None = Field(
        None, max_length=MAX_LIST, description="item ids to rank, and no others"
    )
    context: dict[str, Any] | None = Field(None, description="of the request: device, place, ...")
    now: float | str | None = Field(None, description="of the request, as history_times")
    n: int = Field(DEFAULT_N, ge=1, le=100, strict=True, description="items wanted")
    exclude_history: bool = True
    exclude: list[str] = Field(
        default_factory=list, max_length=MAX_LIST, description="item ids not to recommend"
    )
    allow: list[str] | None = Field(
        None, max_length=MAX_LIST, description="item ids that alone may be recommended"
    )
    where: dict[str, Any] | None = Field(None, description="what items must be like")
    calibrated: bool = Field(True, description="let the click model rank, where there is one")
    rerank: dict[str, Any] | None = Field(None, description="diversity, per_category, ...")
    explain: bool = Field(False, description="name the item of another shop that moved each item")

    openai: ClassVar[bool] = True  # whether OpenAI's further fields may be there

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, body: Any) -> Any:
        """Refuse fields that are not known; null is the default of any."""
        if not isinstance(body, dict):
            return body
        check_nesting(body)
        given = {name: value for name, value in body.items() if value is not None}
        if EVENTS in given:
            if "history" in given:
                raise UnknownFieldError(f"{EVENTS}: is another name of history; give one of them")
            given["history"] = given.pop(EVENTS)
        for name, value in given.items():
            if name in cls.model_fields:
                continue
            if cls.openai and name in NOT_DONE:
                if value not in NOT_DONE[name]:
                    raise UnknownFieldError(f"{name}: is not done here; leave it out")
            elif not (cls.openai and name in WITHOUT_EFFECT):
                close = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "leave it out"
                raise UnknownFieldError(f"{name}: is no field of a request; {hint}")
        return given

    def words(self) -> str:
        """The query."""
        return ""

    def recommend_request(self, adapter: str | None) -> RecommendRequest:
        """The same request as in Python.

        Raises:
            ConfigError: for a field that makes no sense.
        """
        if len(self.user or "") > MAX_NAME:
            raise ConfigError(f"user: a name has at most {MAX_NAME} characters")
        words = self.words()
        if len(words) > MAX_TEXT:
            raise ConfigError(f"query: has {len(words)} characters; at most {MAX_TEXT} are read")
        names = set(RecommendFields.model_fields) - {"model"}
        fields = {name: getattr(self, name) for name in names}
        return RecommendRequest(**fields, query=words, adapter=adapter)


class ListBody(RecommendFields):
    """Body of ``/v1/recommendations``."""

    openai = False
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


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: bool = False


class ChatBody(RecommendFields):
    """Body of ``/v1/chat/completions``; the last user message is the query."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_LIST)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    def words(self) -> str:
        of_user = [message.text for message in self.messages if message.role == "user"]
        return of_user[-1] if of_user else ""


class CompletionBody(RecommendFields):
    """Body of ``/v1/completions``; the prompt is the query."""

    prompt: str = ""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    def words(self) -> str:
        return self.prompt


BODY_FIELDS = {name for body in (ListBody, ChatBody, CompletionBody) for name in body.model_fields}


def as_text(recommendations: list[Recommendation]) -> str:
    """The recommendations as a short list in words."""
    if not recommendations:
        return "Nothing in the catalogue is left to recommend."
    return "\n".join(f"{one.rank}. {_name(one)}" for one in recommendations)


def _name(one: Recommendation) -> str:
    """The title and the identifier, which stands alone where it is the title."""
    return one.title if one.title == one.item_id else f"{one.title} [{one.item_id}]"


def chat_completion(head: Json, response: RecommendResponse) -> Json:
    """A whole chat completion.

    Args:
        head: model and version of the catalogue.
    """
    message = {"role": "assistant", "content": as_text(response.recommendations)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _head(head, "chat.completion") | {"choices": [choice]} | response.as_dict()


def chat_chunks(head: Json, response: RecommendResponse, usage: bool) -> Iterator[Json]:
    """The same in parts: a line of text each, then one with the recommendations.

    Args:
        usage: whether the tokens follow in a part of their own, as OpenAI has it.
    """
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": line} for line in _lines(response)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return _chunks(_head(head, "chat.completion.chunk"), choices, last, response, usage)


def text_completion(head: Json, response: RecommendResponse) -> Json:
    """A whole text completion."""
    choice = {"index": 0, "text": as_text(response.recommendations), "finish_reason": "stop"}
    return _head(head, "text_completion") | {"choices": [choice]} | response.as_dict()


def text_chunks(head: Json, response: RecommendResponse, usage: bool) -> Iterator[Json]:
    """The same in parts, as :func:`chat_chunks`."""
    choices: list[Json] = [
        {"index": 0, "text": line, "finish_reason": None} for line in _lines(response)
    ]
    last = {"index": 0, "text": "", "finish_reason": "stop"}
    return _chunks(_head(head, "text_completion"), choices, last, response, usage)


def server_sent_events(chunks: Iterable[Json]) -> Iterator[str]:
    """Chunks as a stream has them."""
    for chunk in chunks:
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _chunks(
    head: Json, choices: list[Json], last: Json, response: RecommendResponse, usage: bool
) -> Iterator[Json]:
    fields = response.as_dict()
    tokens = {"usage": fields.pop("usage")}
    for choice in choices:
        yield head | {"choices": [choice]}
    yield head | {"choices": [last]} | fields
    if usage:
        yield head | {"choices": []} | tokens


def _head(head: Json, kind: str) -> Json:
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    own = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
    return own | head


def _lines(response: RecommendResponse) -> list[str]:
    return as_text(response.recommendations).splitlines(keepends=True)
