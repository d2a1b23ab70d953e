"""Bodies of the service's requests and answers, in OpenAI's shapes.

Every route reads the fields of a :class:`~llmrec.serving.request.RecommendRequest` and answers with
those of a :class:`~llmrec.serving.request.RecommendResponse`; chat and text completions have their
own beside them, and the list as text.
"""

from __future__ import annotations

import difflib
import functools
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmrec.errors import ConfigError
from llmrec.serving.answer_text import Written
from llmrec.serving.attachments import Attachments, read_parts
from llmrec.serving.body_schema import close
from llmrec.serving.limits import MAX_FIELDS, MAX_LIST, MAX_NAME, MAX_TEXT, check_nesting
from llmrec.serving.openai_fields import HARMLESS, UnknownFieldError, check_harmless
from llmrec.serving.paging import MAX_CURSOR
from llmrec.serving.request import DEFAULT_N, RecommendRequest
from llmrec.serving.scenarios import SCENARIOS
from llmrec.serving.structured import AnswerFormat

Json = dict[str, Any]

EVENTS = "events"  # another name of the field history


def _document(schema: Json, body: type[RecommendFields]) -> None:
    """Complete the schema of a body."""
    close(schema, body.harmless)
    schema["properties"][EVENTS] = schema["properties"]["history"]
    schema["examples"] = [{**body.example, "history": ["item-17", "item-3"], "n": 5}]


class RecommendFields(BaseModel):
    """What every route reads."""

    model_config = ConfigDict(json_schema_extra=_document)

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

    # OpenAI's further fields, with the values that ask for nothing
    harmless: ClassVar[Mapping[str, tuple[Any, ...] | None]] = {}
    example: ClassVar[Json] = {}  # of what its body has beside these fields
    token_limit: ClassVar[int | None] = None

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
            if name in cls.harmless:
                check_harmless(name, value, cls.harmless)
            else:
                close = difflib.get_close_matches(name[:MAX_NAME], cls.model_fields, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "leave it out"
                raise UnknownFieldError(f"{name[:MAX_NAME]}: is no field of a request; {hint}")
        return given

    def words(self) -> str:
        """The query."""
        return ""

    @property
    def attachments(self) -> Attachments:
        """Pictures and recordings of the query."""
        return Attachments()

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
        fields = {name: getattr(self, name) for name in REQUEST_FIELDS}
        return RecommendRequest(**fields, query=words, adapter=adapter)


REQUEST_FIELDS = tuple(name for name in RecommendFields.model_fields if name != "model")


class ListBody(RecommendFields):
    """Body of ``/v1/recommendations``."""

    example: ClassVar[Json] = {"query": "something warm for winter"}
    query: str = ""

    def words(self) -> str:
        return self.query


class Message(BaseModel):
    """One turn of a conversation; its content is text or, as OpenAI has it, parts."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    # of answers that a client sends back
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: list[Any] | None = Field(None, max_length=0)

    def read(self, field: str) -> tuple[str, Attachments]:
        """The content as one text, and what else is in it.

        Raises:
            ConfigError: for a part that is not read, beginning with ``field``.
        """
        if isinstance(self.content, list):
            return read_parts(self.content, field)
        return (self.content or "").strip(), Attachments()


def last_of_user(messages: Sequence[Message], field: str) -> tuple[str, Attachments]:
    """What the last message of the user says; all of them must be readable.

    Args:
        field: of the request, for messages.

    Raises:
        ConfigError: for a part of a message that is not read.
    """
    last = "", Attachments()
    for number, message in enumerate(messages):
        read = message.read(f"{field}[{number}].content")
        if message.role == "user":
            last = read
    return last


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class TextFields(RecommendFields):
    """What routes read that answer with a text, too."""

    stream: bool = False
    metadata: dict[str, str] | None = Field(
        None, max_length=MAX_FIELDS, description="comes back with the answer"
    )

    @property
    def answer_format(self) -> AnswerFormat | None:
        """What the text is to be; None for words."""
        return None


class CompletionFields(TextFields):
    """What chat and text completions read."""

    harmless = HARMLESS
    stream_options: StreamOptions = StreamOptions()
    max_tokens: int | None = Field(
        None, ge=1, strict=True, description="tokens that items may take, as ``usage`` counts them"
    )

    @property
    def token_limit(self) -> int | None:  # type: ignore[override]
        """Tokens that the items of an answer may take; None for no limit."""
        return self.max_tokens


class ChatBody(CompletionFields):
    """Body of ``/v1/chat/completions``; the last user message is the query."""

    example: ClassVar[Json] = {"messages": [{"role": "user", "content": "something warm"}]}
    messages: list[Message] = Field(min_length=1, max_length=MAX_LIST)
    max_completion_tokens: int | None = Field(None, ge=1, strict=True)
    response_format: dict[str, Any] | None = Field(
        None, description="text, json_object, or json_schema, which the answer is fitted into"
    )

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise UnknownFieldError("max_tokens: is another name of max_completion_tokens")
        _ = self.answer_format  # what it cannot be is said before anything is ranked
        return self

    @property
    def token_limit(self) -> int | None:  # type: ignore[override]
        return self.max_completion_tokens or self.max_tokens

    @property
    def answer_format(self) -> AnswerFormat | None:
        return AnswerFormat.of(self.response_format, "response_format")

    @functools.cached_property
    def _last(self) -> tuple[str, Attachments]:
        return last_of_user(self.messages, "messages")

    def words(self) -> str:
        return self._last[0]

    @property
    def attachments(self) -> Attachments:
        return self._last[1]


class CompletionBody(CompletionFields):
    """Body of ``/v1/completions``; the prompt is the query, or a history of item tokens."""

    example: ClassVar[Json] = {"prompt": "something warm for winter"}
    prompt: str = ""
    logprobs: int | None = Field(
        None, ge=0, le=0, description="0: the log-probability of each item, after item tokens"
    )

    def words(self) -> str:
        return self.prompt


BODY_FIELDS = {name for body in (ListBody, ChatBody, CompletionBody) for name in body.model_fields}


def chat_completion(head: Json, written: Written) -> Json:
    """A whole chat completion.

    Args:
        head: model and version of the catalogue.
    """
    message = {"role": "assistant", "content": written.text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": written.finish_reason,
        "logprobs": None,
    }
    return _head(head, "chat.completion") | {"choices": [choice]} | written.fields


def chat_chunks(head: Json, written: Written, usage: bool) -> Iterator[Json]:
    """The same in parts: a line of text each, then one with the recommendations.

    Args:
        usage: whether the tokens follow in a part of their own, as OpenAI has it.
    """
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in written.pieces]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    last = {"index": 0, "delta": {}, "finish_reason": written.finish_reason}
    return _chunks(_head(head, "chat.completion.chunk"), choices, last, written, usage)


def chunk_head(head: Json) -> Json:
    """What each part of a stream of a chat begins with.

    Args:
        head: model and version of the catalogue.
    """
    return _head(head, "chat.completion.chunk")


def text_completion(head: Json, written: Written, choices: list[Json] | None) -> Json:
    """A whole text completion.

    Args:
        choices: in the place of the text; None for the text.
    """
    choice = {
        "index": 0,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "logprobs": None,
    }
    whole = {"choices": [choice] if choices is None else choices}
    return _head(head, "text_completion") | whole | written.fields


def text_chunks(
    head: Json, written: Written, choices: list[Json] | None, usage: bool
) -> Iterator[Json]:
    """The same in parts, as :func:`chat_chunks`."""
    if choices is None:
        choices = [{"index": 0, "text": piece, "finish_reason": None} for piece in written.pieces]
    last = {"index": 0, "text": "", "finish_reason": written.finish_reason}
    return _chunks(_head(head, "text_completion"), choices, last, written, usage)


def server_sent_events(chunks: Iterable[Json]) -> Iterator[str]:
    """Chunks as a stream has them."""
    for chunk in chunks:
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _chunks(
    head: Json, choices: list[Json], last: Json, written: Written, usage: bool
) -> Iterator[Json]:
    fields = dict(written.fields)
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
