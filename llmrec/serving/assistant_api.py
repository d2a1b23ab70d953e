"""Model ``assistant`` of ``/v1/chat/completions``: the shopping assistant, in OpenAI's shapes.

The newest message of the user is answered; beside the text the answer has the
``recommendations`` that it shows, the ``question`` that it asks, the ``cart`` that it speaks of,
and the ``tool_trace``.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from llmrec.errors import ConfigError
from llmrec.serving import openai_api as api
from llmrec.serving.answer_text import Written
from llmrec.serving.assistant.loop import Assistant, AssistantReply, Conversation
from llmrec.serving.assistant.open import NAME
from llmrec.serving.assistant.protocol import Said
from llmrec.serving.assistant.sessions import Sessions
from llmrec.serving.assistant.turn import Visitor
from llmrec.serving.attachments import Attachments
from llmrec.serving.limits import MAX_NAME
from llmrec.serving.openai_fields import UnknownFieldError
from llmrec.serving.request import RecommendRequest
from llmrec.serving.service import Service
from llmrec.serving.store.database import Store

Json = dict[str, Any]
READ = {"model", "messages", "user", "history", "metadata", "stream", "stream_options"}
LIMITS = {"max_tokens", "max_completion_tokens"}  # a reply is short; these change nothing
MOST_AT_ONCE = 32  # turns
SESSION = "session"  # of the metadata
CARD = {"id": NAME, "object": "model", "created": 0, "owned_by": "llmrec", "task": "converse"}


class AssistantDoor:
    """Answers chats with the assistant.

    Args:
        service: whose models read pictures and recordings.
        assistant: talks.
        store: keeps what conversations have come to.
    """

    def __init__(self, service: Service, assistant: Assistant, store: Store) -> None:
        self._service, self._assistant = service, assistant
        self._sessions = Sessions(store, assistant)
        self._room = threading.Semaphore(MOST_AT_ONCE)

    async def chat(self, http: Request, body: api.ChatBody) -> Response:
        """The answer to a chat, whole or as a stream.

        Raises:
            UnknownFieldError, ConfigError: for a request that is none.
            BusyError, DeadlineError: if a picture or recording is not read in time.
        """
        _check_fields(body)
        seconds, last = self._service.seconds(http), _last_of_user(body)
        words, attached = body.messages[last].read(f"messages[{last}].content")
        words, picture, broken = await self._understood(words, attached, seconds)
        said = [one for one in map(_said, body.messages[:last]) if one is not None]
        visitor = Visitor(body.user, body.history, (body.metadata or {}).get(SESSION, ""))
        head = self._service.head() | {"model": NAME}
        if attached.recordings and not broken:
            head |= {"transcript": words}
        if body.metadata is not None:
            head |= {"metadata": body.metadata}
        key = (*said, *filter(None, [_said(body.messages[last])]))
        pieces = self._pieces(visitor, said, key, words, picture, broken)
        currency = self._assistant.wording.currency
        if body.stream:
            chunks = _chunks(head, pieces, currency, body.stream_options.include_usage)
            return StreamingResponse(api.server_sent_events(chunks), media_type="text/event-stream")
        written = await run_in_threadpool(lambda: _written(list(pieces)[-1], currency))
        return JSONResponse(api.chat_completion(head, written))

    def _pieces(
        self,
        visitor: Visitor,
        said: Sequence[Said],
        key: Sequence[Said],
        words: str,
        picture: Sequence[float],
        broken: tuple[str, str] | None,
    ) -> Iterator[str | AssistantReply]:
        """A turn; what it comes to is kept."""
        if not self._room.acquire(timeout=self._service.config.deadline_ms / 1000):
            yield from self._assistant.apology(Conversation(visitor), "slow")
            return
        try:
            conversation = self._sessions.resume(visitor, said)
            for piece in self._turn(conversation, words, picture, broken):
                if isinstance(piece, AssistantReply):
                    kept = [*key, ("assistant", piece.text)]
                    self._sessions.keep(Conversation(visitor, piece.state, kept))
                yield piece
        finally:
            self._room.release()

    def _turn(
        self,
        conversation: Conversation,
        words: str,
        picture: Sequence[float],
        broken: tuple[str, str] | None,
    ) -> Iterator[str | AssistantReply]:
        if broken is None:
            return self._assistant.turn(conversation, words, picture)
        kind, problem = broken
        return self._assistant.apology(conversation, "broken", kind=kind, problem=problem)

    async def _understood(
        self, words: str, attached: Attachments, seconds: float
    ) -> tuple[str, tuple[float, ...], tuple[str, str] | None]:
        """What a message says with its recordings, its picture, and what of it cannot be read."""
        side, until = self._service.side, time.monotonic() + seconds
        if not attached:
            return words, (), None
        kind = "recording" if attached.recordings else "picture"
        try:
            for field, sound in attached.recordings:
                heard = await side.run(
                    lambda field=field, sound=sound: side.voice_query(field, sound),  # type: ignore[misc]
                    until - time.monotonic(),
                )
                words = f"{words} {heard}".strip()
            if not attached.pictures:
                return words, (), None
            kind, seen = "picture", Attachments(attached.pictures, ())
            request, _ = await side.run(
                lambda: side.understood(RecommendRequest(), seen), until - time.monotonic()
            )
        except ConfigError as error:
            field, _, problem = str(error).partition(": ")
            return words, (), (kind, problem or field)
        vector = request.query_vector
        return words, () if vector is None else tuple(map(float, vector)), None


def _check_fields(body: api.ChatBody) -> None:
    for name in sorted(body.model_fields_set - READ - LIMITS):
        raise UnknownFieldError(f"{name}: is not read by the assistant; say it in the message")
    if len(body.user or "") > MAX_NAME:
        raise ConfigError(f"user: a name has at most {MAX_NAME} characters")


def _last_of_user(body: api.ChatBody) -> int:
    for number in range(len(body.messages) - 1, -1, -1):
        if body.messages[number].role == "user":
            return number
    raise ConfigError("messages: has none of the user; send what the customer says")


def _said(message: api.Message) -> Said | None:
    """A message as it is remembered: words, and a hash of what else is in it."""
    if message.role not in ("user", "assistant"):
        return None
    words, attached = message.read("messages")
    if attached:
        parts = json.dumps(message.content, sort_keys=True)
        words = f"{words} [{hashlib.sha256(parts.encode()).hexdigest()[:12]}]".strip()
    return message.role, words


def _fields(reply: AssistantReply, currency: str) -> Json:
    """What an answer has beside its text."""
    question = reply.question
    calls = [
        {"name": one.name, "arguments": json.dumps(one.arguments, ensure_ascii=False)}
        for one in reply.calls
    ]
    found: Json = {
        "recommendations": [
            one.as_dict() | _of_row(reply.rows.get(one.item_id, {}), currency)
            for one in reply.items
        ],
        "recommendation_id": reply.recommendation_id,
        "situation": reply.situation,
        "question": None
        if question is None
        else {"field": question.field, "values": list(question.values)},
        "cart": reply.cart,
        "tool_trace": [{"type": "function", "function": one} for one in calls],
        "notes": list(reply.notes),
    }
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return found | {"usage": usage}


def _of_row(row: Json, currency: str) -> Json:
    """What a card says of an item beside its title."""
    price = row.get("price")
    priced = {} if price is None else {"price": price, "currency": currency}
    return priced | {"in_stock": row.get("in_stock") is not False}


def _written(reply: str | AssistantReply, currency: str) -> Written:
    assert isinstance(reply, AssistantReply)
    return Written(reply.text, _fields(reply, currency), False)


def _chunks(
    head: Json, pieces: Iterator[str | AssistantReply], currency: str, usage: bool
) -> Iterator[Json]:
    """The parts of a stream: each piece as it comes, then what is beside the text."""
    head = api.chunk_head(head)
    role = {"role": "assistant", "content": ""}
    yield head | {"choices": [{"index": 0, "delta": role, "finish_reason": None}]}
    for piece in pieces:
        if isinstance(piece, str):
            delta = {"content": piece}
            yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            continue
        fields = _fields(piece, currency)
        tokens = fields.pop("usage")
        yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]} | fields
        if usage:
            yield head | {"choices": []} | {"usage": tokens}
