"""``/v1/chat/completions`` and ``/v1/completions``: OpenAI's way to ask for a list."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from llmrec.errors import ConfigError
from llmrec.serving import openai_api as api
from llmrec.serving.answer_schemas import COMPLETION
from llmrec.serving.answer_text import Written, write
from llmrec.serving.assistant.open import NAME
from llmrec.serving.assistant_api import AssistantDoor
from llmrec.serving.raw_prompts import choices, read_items
from llmrec.serving.service import Service


def completions_router(service: Service, assistant: AssistantDoor | None = None) -> APIRouter:
    """The routes.

    Args:
        assistant: answers chats with the model of its name; None for none.
    """
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/chat/completions", responses=COMPLETION)
    async def chat(http: Request, body: api.ChatBody) -> Response:
        if assistant is not None and body.model == NAME:
            return await assistant.chat(http, body)
        head, written = await written_answer(service, http, body)
        if body.stream:
            return stream(api.chat_chunks(head, written, body.stream_options.include_usage))
        return JSONResponse(api.chat_completion(head, written))

    @router.post("/v1/completions", responses=COMPLETION)
    async def completions(http: Request, body: api.CompletionBody) -> Response:
        bundle = service.bundle
        items = read_items(body.prompt, bundle.llm.ids)
        if items is None:
            _check_no_logprobs(body)
            head, written = await written_answer(service, http, body)
            found = None
        else:
            body = _with_history(body, [bundle.item_ids[item] for item in items])
            head, written = await written_answer(service, http, body)
            shown = [one["item_id"] for one in written.fields["recommendations"]]
            bundle = service.bundle  # there may be more items now
            rows = [bundle.index[item_id] for item_id in shown]
            logp = None if body.logprobs is None else await service.log_likelihoods(body, rows)
            found = choices(rows, bundle.llm.ids, logp)
        if body.stream:
            usage = body.stream_options.include_usage
            return stream(api.text_chunks(head, written, found, usage))
        return JSONResponse(api.text_completion(head, written, found))

    return router


async def written_answer(
    service: Service, http: Request, body: api.TextFields
) -> tuple[dict[str, Any], Written]:
    """The head of an answer, and the answer with its text."""
    head, answered = await service.answer(http, body)
    if body.metadata is not None:
        head = head | {"metadata": body.metadata}
    is_cut = len(answered.response.recommendations) == service.items_wanted(body) < body.n
    written = write(answered, head, body.answer_format, service.bundle.items, is_cut)
    return head, written


def _check_no_logprobs(body: api.CompletionBody) -> None:
    """Raise a ConfigError if log-probabilities are wanted of what is no item."""
    if body.logprobs is not None:
        raise ConfigError(
            "logprobs: are those of items after a prompt of item tokens; leave it out"
        )


def _with_history(body: api.CompletionBody, history: list[str]) -> api.CompletionBody:
    """The body with the items of its prompt as its history."""
    if body.history is not None:
        raise ConfigError("history: is in the prompt already; leave out one of them")
    return body.model_copy(update={"prompt": "", "history": history})


def stream(chunks: Any) -> StreamingResponse:
    """Chunks as server-sent events."""
    return StreamingResponse(api.server_sent_events(chunks), media_type="text/event-stream")
