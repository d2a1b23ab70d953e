"""``POST /v1/search``: items by words, a photo or voice, of those that pass the filters.

The same request as every other list: with a history, the models rank what was found.
"""

from __future__ import annotations

from typing import ClassVar, Self

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, model_validator

from llmrec.serving.answer_schemas import SEARCH
from llmrec.serving.answering import as_json
from llmrec.serving.attachments import Attachments
from llmrec.serving.openai_api import Json, ListBody
from llmrec.serving.openai_fields import UnknownFieldError
from llmrec.serving.service import Service


class SearchBody(ListBody):
    """Body of ``/v1/search``."""

    example: ClassVar[Json] = {"query": "red mug", "where": {"in_stock": True}}
    image: str | None = Field(None, description="a data: URL, or one of an allowed host")
    audio: str | None = Field(None, description="a spoken query: base64, or a data: URL")

    @model_validator(mode="after")
    def _has_a_query(self) -> Self:
        if not (self.query.strip() or self.image or self.audio):
            raise UnknownFieldError("query: is empty; say it, or send an image or audio")
        return self

    @property
    def attachments(self) -> Attachments:
        """The picture and the recording."""
        return Attachments(
            (("image", self.image),) if self.image else (),
            (("audio", self.audio),) if self.audio else (),
        )


def search_router(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["Recommender"])

    @router.post("/v1/search", responses=SEARCH)
    async def search(http: Request, body: SearchBody) -> JSONResponse:
        head, answered = await service.answer(http, body)
        return JSONResponse({"transcript": None} | head | as_json(answered))

    return router
