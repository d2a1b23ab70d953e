"""``llmrec serve BUNDLE``: recommendations over an OpenAI-compatible API.

    llmrec serve runs/demo/bundle --port 8000

The official ``openai`` client asks in words, with a history in ``extra_body``, or both::

    client.chat.completions.create(
        model="llmrec", messages=[{"role": "user", "content": "something warm for winter"}],
        extra_body={"history": ["item-17", "item-3"], "n": 5})

The answer is text, and a structured ``recommendations`` list of real items beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from llmrec.bundle import Bundle
from llmrec.errors import LlmrecError
from llmrec.types import Recommendation


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str | None = None


class ChatRequest(BaseModel):
    """OpenAI's chat request, with what a recommender needs beside it."""

    model: str = ""
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    history: list[str] = Field(default_factory=list, description="item ids, oldest first")
    n: int = Field(10, ge=1, le=100, description="items wanted")
    exclude_history: bool = True


def create_app(bundle: Bundle) -> FastAPI:
    """The service over an opened bundle."""
    app = FastAPI(title="llmrec")

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok", "catalog_version": bundle.catalog_version}

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        card = {"id": bundle.model_name, "object": "model", "created": 0, "owned_by": "llmrec"}
        return {"object": "list", "data": [card]}

    @app.post("/v1/chat/completions", response_model=None)
    def chat(request: ChatRequest) -> dict[str, Any] | StreamingResponse:
        words = [m.content for m in request.messages if m.role == "user" and m.content]
        answer = bundle.recommend(
            request.history,
            request.n,
            exclude_history=request.exclude_history,
            query=words[-1].strip() if words else "",
        )
        if request.stream:
            return StreamingResponse(_stream(bundle, answer), media_type="text/event-stream")
        return _completion(bundle, answer)

    @app.exception_handler(LlmrecError)
    def wrong_input(_request: Request, error: LlmrecError) -> JSONResponse:
        return _error(400, str(error))

    @app.exception_handler(RequestValidationError)
    def wrong_shape(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return _error(400, f"{where}: {first['msg']}")

    return app


def answer_text(answer: list[Recommendation]) -> str:
    """The recommendations as a short list in words."""
    if not answer:
        return "Nothing in the catalogue is left to recommend."
    return "\n".join(f"{found.rank}. {found.title} [{found.item_id}]" for found in answer)


def _head(bundle: Bundle, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": bundle.model_name,
        "catalog_version": bundle.catalog_version,
    }


def _completion(bundle: Bundle, answer: list[Recommendation]) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer_text(answer)}
    return _head(bundle, "chat.completion") | {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "recommendations": [dataclasses.asdict(found) for found in answer],
    }


def _stream(bundle: Bundle, answer: list[Recommendation]) -> Iterator[str]:
    head = _head(bundle, "chat.completion.chunk")
    for line in answer_text(answer).splitlines(keepends=True):
        delta = {"role": "assistant", "content": line}
        chunk = head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield f"data: {json.dumps(chunk)}\n\n"
    last = head | {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "recommendations": [dataclasses.asdict(found) for found in answer],
    }
    yield f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n"


def _error(status: int, message: str) -> JSONResponse:
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": body}, status_code=status)


def main(argv: list[str]) -> None:
    """``llmrec serve``."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="llmrec serve", description="Serve a bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--beams", type=int, default=50)
    arguments = parser.parse_args(argv)
    app = create_app(Bundle(arguments.bundle, beams=arguments.beams))
    uvicorn.run(app, host=arguments.host, port=arguments.port)
