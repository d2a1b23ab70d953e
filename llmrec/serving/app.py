"""``llmrec serve BUNDLE``: recommendations over an OpenAI-compatible API.

    llmrec serve runs/demo/models/atomic/bundle --port 8000

The official ``openai`` client asks in words, with a history in ``extra_body``, or both::

    client.chat.completions.create(
        model="llmrec", messages=[{"role": "user", "content": "something warm for winter"}],
        extra_body={"history": ["item-17", "item-3"], "n": 5})

The answer is text, and a structured ``recommendations`` list of real items beside it. The last
user message is the query; with empty content the history alone decides. ``exclude``, ``allow`` and
``where`` limit what may be recommended. ``model`` may name an adapter of the bundle.

``/v1/recommendations`` (:mod:`llmrec.serving.recommendations`) answers without words, and with
click probabilities where the bundle holds a click model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field, field_validator
from starlette.exceptions import HTTPException

from llmrec.errors import CatalogError, ConfigError, LlmrecError
from llmrec.serving.bundle import Bundle
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.metrics import CONTENT_TYPE, prometheus_text
from llmrec.serving.recommendations import ListRequest, add_recommendations
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import Answer, Question
from llmrec.types import Recommendation

ALIASES = ("", "llmrec")  # other names of whatever model is served
FILTER_FIELDS = tuple(field.name for field in dataclasses.fields(CatalogFilter))


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
    def words(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return " ".join(part["text"] for part in self.content).strip()
        return (self.content or "").strip()


class ChatRequest(BaseModel):
    """OpenAI's chat request, with what a recommender needs beside it."""

    model: str = ""
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    history: list[str] = Field(default_factory=list, description="item ids, oldest first")
    history_times: list[float] | None = Field(None, description="seconds since 1970 UTC")
    now: float | None = Field(None, description="time of the request, seconds since 1970 UTC")
    n: int = Field(10, ge=1, le=100, strict=True, description="items wanted")
    exclude_history: bool = True
    exclude: list[str] = Field(default_factory=list, description="item ids not to recommend")
    allow: list[str] | None = Field(None, description="item ids that alone may be recommended")
    where: dict[str, Any] | None = Field(
        None, description=f"what items must be like: {', '.join(FILTER_FIELDS)}"
    )

    @property
    def query(self) -> str:
        """What the person said last."""
        said = [message.words for message in self.messages if message.role == "user"]
        return said[-1] if said else ""

    def question(self, adapter: str | None) -> Question:
        """What the bundle is asked, and which of its adapters."""
        return Question(
            self.history,
            self.n,
            exclude_history=self.exclude_history,
            exclude=self.exclude,
            allow=self.allow,
            where=None if self.where is None else CatalogFilter.of_dict(self.where),
            query=self.query,
            history_times=self.history_times,
            now=self.now,
            adapter=adapter,
        )


def create_app(bundle: Bundle, recommender: Recommender | None = None) -> FastAPI:
    """The service over an opened bundle.

    Args:
        recommender: over the same bundle, for instance with histories that it knows; None opens the
            bundle's click model, if there is one.
    """
    app = FastAPI(title="llmrec")
    _add_error_handlers(app)
    cards = model_cards(bundle)
    if recommender is None and bundle.ctr is not None:
        recommender = Recommender.load(bundle)
    add_recommendations(app, bundle, recommender)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {
            "status": "ok",
            "model": bundle.model_name,
            "catalog_version": bundle.catalog_version,
        }

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": list(cards.values())}

    @app.get("/v1/models/{name}", response_model=None)
    def model(name: str) -> dict[str, Any] | JSONResponse:
        name = bundle.model_name if name in ALIASES else name
        return cards[name] if name in cards else _no_such_model(bundle, name)

    @app.get("/metrics")
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(prometheus_text(bundle), media_type=CONTENT_TYPE)

    # Not async: FastAPI runs it in a pool of threads, so requests are answered side by side.
    @app.post("/v1/chat/completions", response_model=None)
    def chat(request: ChatRequest) -> dict[str, Any] | JSONResponse | StreamingResponse:
        name = bundle.model_name if request.model in ALIASES else request.model
        if name not in cards:
            return _no_such_model(bundle, name)
        answer = bundle.answer(request.question(name if name in bundle.adapters else None))
        head = {"model": name, "catalog_version": bundle.catalog_version}
        if request.stream:
            return StreamingResponse(_stream(head, answer), media_type="text/event-stream")
        return _completion(head, answer)

    return app


def model_cards(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """What ``/v1/models`` says: the bundle's model, and one more for each of its adapters."""
    own = {"object": "model", "owned_by": "llmrec"}
    cards: dict[str, dict[str, Any]] = {
        bundle.model_name: {"id": bundle.model_name, "created": 0, **own}
    }
    for name, adapter in bundle.adapters.items():
        cards[name] = {
            "id": name,
            "created": int(datetime.fromisoformat(adapter.created).timestamp()),
            **own,
            "parent": bundle.model_name,
            "version": adapter.version,
            "task": adapter.task,
        }
    return cards


def _add_error_handlers(app: FastAPI) -> None:
    """Every error leaves in OpenAI's shape; what the caller can fix is a 400."""

    @app.exception_handler(ConfigError)
    @app.exception_handler(CatalogError)
    def wrong_input(_request: Request, error: LlmrecError) -> JSONResponse:
        message = str(error)
        return _error(400, message, param=_field(message.partition(":")[0]))

    @app.exception_handler(RequestValidationError)
    def wrong_shape(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        reason = first["msg"].removeprefix("Value error, ")
        return _error(400, f"{where or 'body'}: {reason}", param=where or None)

    @app.exception_handler(HTTPException)
    def no_such_path(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(LlmrecError)
    def broken_bundle(_request: Request, error: LlmrecError) -> JSONResponse:
        return _error(500, str(error))

    @app.exception_handler(Exception)  # the server's log gets the traceback
    def our_fault(_request: Request, error: Exception) -> JSONResponse:
        return _error(500, "the service failed; its log says why")


def _field(place: str) -> str | None:
    """The request's field that a message begins with, or None."""
    name = re.split(r"[.\[]", place, maxsplit=1)[0]
    if name in ChatRequest.model_fields or name in ListRequest.model_fields:
        return place
    return f"where.{place}" if name in FILTER_FIELDS else None


def _error(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": body}, status_code=status)


def _no_such_model(bundle: Bundle, name: str) -> JSONResponse:
    known = ", ".join(map(repr, (bundle.model_name, *bundle.adapters)))
    message = f"model: {name!r} is not served here; there is {known}"
    return _error(404, message, param="model", code="model_not_found")


def answer_text(answer: list[Recommendation]) -> str:
    """The recommendations as a short list in words."""
    if not answer:
        return "Nothing in the catalogue is left to recommend."
    return "\n".join(f"{found.rank}. {found.title} [{found.item_id}]" for found in answer)


def _lines(answer: Answer) -> list[str]:
    return answer_text(answer.recommendations).splitlines(keepends=True)


def _begun(head: dict[str, Any], kind: str) -> dict[str, Any]:
    """What every part of a completion says, beside the model and the catalogue."""
    own = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
    return own | head


def _completion(head: dict[str, Any], answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer_text(answer.recommendations)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return _begun(head, "chat.completion") | {"choices": choices} | _told(answer)


def _told(answer: Answer) -> dict[str, Any]:
    """The answer as JSON has it."""
    found = [one.as_dict() for one in answer.recommendations]
    return dataclasses.asdict(answer) | {"recommendations": found}


def _stream(head: dict[str, Any], answer: Answer) -> Iterator[str]:
    """Server-sent events: a line of text each, then one with the recommendations."""
    head = _begun(head, "chat.completion.chunk")
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{"content": line} for line in _lines(answer)]
    for delta in deltas:
        chunk = head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield f"data: {json.dumps(chunk)}\n\n"
    choices = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    last = head | {"choices": choices} | _told(answer)
    yield f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n"


def main(argv: list[str]) -> None:
    """``llmrec serve``."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="llmrec serve", description="Serve a bundle.")
    parser.add_argument("bundle", type=Path, help="folder of llmrec bundle")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--beams", type=int, default=50, help="beam width for semantic IDs")
    parser.add_argument(
        "--cache-mib",
        type=int,
        default=256,
        metavar="MIB",
        help="memory for what the model remembers of people who come back; 0 for none",
    )
    arguments = parser.parse_args(argv)
    bundle = Bundle(arguments.bundle, beams=arguments.beams, cache_mib=arguments.cache_mib)
    app = create_app(bundle)
    uvicorn.run(app, host=arguments.host, port=arguments.port)
